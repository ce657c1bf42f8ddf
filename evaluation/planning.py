"""How many utterances a verdict needs, as a table: ``python -m evaluation.planning``.

The figures of docs/judging.md; sigma is that of one paired difference, which every verdict tells.
"""

from __future__ import annotations

from evaluation.gate import GateConfig
from evaluation.statistics import required_n, required_n_for_count

SIGMAS_PCT = (2, 3, 4, 5, 6, 7, 8, 10)
WER_SIGMAS_POINTS = (3, 5, 10, 15, 20)
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


def wer_table(config: GateConfig) -> str:
    """Return a Markdown table: sigma of the word errors by n, for an equal candidate."""
    points = 100 * config.wer_margin
    lines = ["| sigma | no change of the word error rate |", "| --- | --- |"]
    for sigma in WER_SIGMAS_POINTS:
        sizes = (
            required_n(sigma, 0.0, budget_pct=points, confidence=config.confidence, power=power)
            for power in POWERS
        )
        cell = " / ".join(str(max(config.min_n, size)) for size in sizes)
        lines.append(f"| {sigma} points | {cell} |")
    return "\n".join(lines)


def tail_table(config: GateConfig) -> str:
    """Return a Markdown table: how many utterances let so many newly ruined ones pass."""
    rate, confidence = config.max_bad_rate, config.tail_confidence
    sure = required_n_for_count(0, rate, confidence)
    also = f"{config.min_n}; from {sure} on this also rules out that {100 * rate:g} % are ruined"
    lines = ["| newly ruined | utterances that let it pass |", "| --- | --- |", f"| 0 | {also} |"]
    lines += [f"| {n} | {required_n_for_count(n, rate, confidence)} |" for n in (1, 2, 3)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(*(table(GateConfig()) for table in (sigma_table, wer_table, tail_table)), sep="\n\n")
