"""How many utterances a verdict needs, as a table: ``python -m evaluation.planning``.

The figures of docs/judging.md; sigma is that of one paired difference, which every verdict tells.
"""

from __future__ import annotations

from evaluation.gate import GateConfig
from evaluation.statistics import required_n, required_n_for_count

SIGMAS_PCT = (2, 3, 4, 5, 6, 7, 8, 10)
LOSSES_PCT = (0.0, 1.0, 2.0, 3.0)
POWERS = (0.80, 0.95)


def sigma_table(config: GateConfig) -> str:
    """Return a Markdown table: sigma by true loss, each cell n for both powers."""
    head = ["sigma", *(f"true loss {loss:g} %" for loss in LOSSES_PCT)]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    for sigma in SIGMAS_PCT:
        cells = [f"{sigma} %"]
        for loss in LOSSES_PCT:
            sizes = (
                required_n(
                    sigma, loss, budget_pct=config.mos_budget_pct, confidence=config.confidence,
                    power=power,
                )
                for power in POWERS
            )  # fmt: skip
            cells.append(" / ".join(str(max(config.min_n, size)) for size in sizes))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tail_table(config: GateConfig) -> str:
    """Return a Markdown table: how many utterances let so many newly ruined ones pass."""
    head = ["newly ruined", "utterances that let it pass"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- |", f"| 0 | {config.min_n} |"]
    for count in (1, 2, 3):
        n = required_n_for_count(count, config.max_bad_rate, config.tail_confidence)
        lines.append(f"| {count} | {n} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(sigma_table(GateConfig()), tail_table(GateConfig()), sep="\n\n")
