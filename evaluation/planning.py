"""How many utterances a verdict needs: planned from two hearings, and as a table.

``python -m evaluation.planning`` prints the figures of docs/judging.md; sigma is that of one paired
difference, which every verdict tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.comparisons import MOS_METRICS, Pair
from evaluation.paired_rates import equal_passes, required_n_for_excess
from evaluation.scores import UtteranceScores
from evaluation.statistics import clopper_pearson_upper, power_to_accept, required_n
from evaluation.tail import mended_signs, new_signs
from evaluation.tail_bound import passing_counts
from evaluation.verdict import Bound, GateConfig

SIGMAS_PCT = (2, 3, 4, 5, 6, 7, 8, 10)
WER_SIGMAS_POINTS = (3, 5, 10, 15, 20)
LOSSES_PCT = (0.0, 1.0, 2.0, 3.0)
POWERS = (0.80, 0.95)
ALONE_RATES_PCT = (0.2, 0.5, 1.0, 1.5, 2.0)

SMALL_LOSS_PCT = 2.0
"""A loss that a good gate accepts ..."""
PLANNED_POWER = 0.95
"""... this often, all comparisons together."""
MOST = 4096
"""Nobody plans for more utterances than this."""
_STEP = 8
_N_DRAWS = 20_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many utterances accept a candidate that is worse by 2 % of MOS and in nothing else.

    Args:
        n: So many do in 95 of 100 judgements; None where no number up to 4096 does.
        n_pairs: Pairs of the baseline's two hearings, from which this is known.
        n_alone: Those of them in which one hearing alone is ruined.
        alone_upper: Share of such pairs that cannot be ruled out, with the tail's confidence: of
            few pairs none seen says little.
    """

    n: int | None
    n_pairs: int
    n_alone: int
    alone_upper: float


@dataclass(frozen=True, kw_only=True)
class OwnRuin:
    """How often a voice ruins an utterance by its own sampling, on one given side alone.

    Args:
        rates: Of each kind of ruin that another of its kind makes up for.
        unanswered: Of what nothing makes up for: a length that shows beside the other side only.
    """

    rates: tuple[float, ...]
    unanswered: float

    @classmethod
    def seen(cls, pairs: Sequence[Pair], config: GateConfig) -> OwnRuin:
        """Take the rates as two hearings show them, each way round."""
        found = Counter[frozenset[str]]()
        n_unanswered = 0
        for pair in pairs:
            for before, after in (pair, pair[::-1]):
                signs = frozenset(new_signs(before, after, config))
                if signs == mended_signs(after, before, config):
                    found[signs] += bool(signs)
                else:
                    n_unanswered += 1
        n = 2 * len(pairs)
        counts = [count for signs, count in found.items() if signs]
        return cls(rates=tuple(count / n for count in counts), unanswered=n_unanswered / n)

    def power(self, n: int, config: GateConfig) -> float:
        """Return how often the tail accepts an equal candidate on n utterances, by simulation."""
        one, rest = [*self.rates, self.unanswered], 1 - 2 * sum(self.rates) - self.unanswered
        if rest == 1:
            return 1.0
        chances = np.clip([*one, *self.rates, rest], 0, 1)
        drawn = np.random.default_rng(0).multinomial(n, chances / chances.sum(), size=_N_DRAWS)
        k = len(self.rates)
        ruined, mended = drawn[:, : k + 1], drawn[:, k + 1 : 2 * k + 1]
        answered = np.minimum(ruined[:, :k], mended).sum(axis=1)
        allowed = passing_counts(n, config)
        most = allowed[np.minimum(answered, len(allowed) - 1)]
        return float((ruined.sum(axis=1) <= most).mean())


def plan(
    baseline: Sequence[UtteranceScores],
    again: Sequence[UtteranceScores],
    bounds: Sequence[Bound],
    config: GateConfig,
) -> Plan | None:
    """Plan a judgement from the baseline's two hearings.

    The rate of ruin is taken as seen. How length and noise floor spread is left out: their limits
    are wide.

    Args:
        baseline: One hearing.
        again: The other; what is in both counts.
        bounds: Of the gate's verdict on these two.
        config: The gate.

    Returns:
        None where a sigma is missing.
    """
    sigma_pct = {bound.metric: bound.sigma_pct for bound in bounds}
    if not {*MOS_METRICS, "wer"} <= sigma_pct.keys():
        return None
    other = {item.utterance_id: item for item in again}
    pairs = [(item, other[item.utterance_id]) for item in baseline if item.utterance_id in other]
    n_alone = sum(bool(new_signs(a, b, config) or new_signs(b, a, config)) for a, b in pairs)
    return Plan(
        n=_smallest_n(sigma_pct, OwnRuin.seen(pairs, config), config),
        n_pairs=len(pairs),
        n_alone=n_alone,
        alone_upper=clopper_pearson_upper(n_alone, len(pairs), config.tail_confidence),
    )


def joint_power(
    n: int, sigma_pct: Mapping[str, float], own_ruin: OwnRuin, config: GateConfig
) -> float:
    """Return how often a candidate worse by 2 % of MOS alone is accepted, at least.

    Args:
        n: Utterances.
        sigma_pct: By metric, of one paired difference; points for ``wer``.
        own_ruin: Of the baseline.
        config: The gate.
    """
    loss = SMALL_LOSS_PCT if config.mos_budget_pct > SMALL_LOSS_PCT else 0.0
    limits = dict.fromkeys(MOS_METRICS, (config.mos_budget_pct, loss))
    limits["wer"] = (100 * config.wer_margin, 0.0)
    powers = [
        power_to_accept(n, sigma_pct[metric], lost, budget_pct=limit, confidence=config.confidence)
        for metric, (limit, lost) in limits.items()
    ]
    powers.append(own_ruin.power(n, config))
    return max(0.0, 1.0 - sum(1.0 - power for power in powers))


def _smallest_n(
    sigma_pct: Mapping[str, float], own_ruin: OwnRuin, config: GateConfig
) -> int | None:
    """Find an n that accepts often enough where a few fewer do not.

    It starts where nothing ruined rules the rate out: fewer utterances pass when none is ruined,
    and the fewer there are, the more often that happens.
    """
    low = config.min_n
    if config.max_bad_rate > 0:
        low = max(low, required_n_for_excess(0, 0, config.max_bad_rate, config.tail_confidence))

    if low > MOST:
        return None

    def is_enough(n: int) -> bool:
        return joint_power(n, sigma_pct, own_ruin, config) >= PLANNED_POWER

    if is_enough(low):
        return low
    high = low
    while not is_enough(high):
        if high >= MOST:
            return None
        low, high = high, min(MOST, 2 * high)
    while high - low > _STEP:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


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
    sure = required_n_for_excess(0, 0, rate, confidence)
    also = f"{config.min_n}; from {sure} on this also rules out that {100 * rate:g} % are ruined"
    head = "| newly ruined | none made up for | half made up for | all made up for |"
    lines = [head, "| --- | --- | --- | --- |", f"| 0 | {also} | | |"]
    for n in (1, 2, 4, 8):
        sizes = (required_n_for_excess(n, made_up, rate, confidence) for made_up in (0, n // 2, n))
        lines.append(f"| {n} | {' | '.join(map(str, sizes))} |")
    return "\n".join(lines)


def own_ruin_table(config: GateConfig) -> str:
    """Return a Markdown table: how often an equal candidate passes, by the voice's own ruin."""
    sizes = (128, 256, 384, 512, 768, 1024)
    head = ["ruined on one side alone", *(f"n = {n}" for n in sizes)]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    for rate in ALONE_RATES_PCT:
        powers = (equal_passes(passing_counts(n, config), n, rate / 100) for n in sizes)
        cells = [f"{rate:g} % each", *(f"{100 * power:.0f} %" for power in powers)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    tables = (sigma_table, wer_table, tail_table, own_ruin_table)
    print(*(table(GateConfig()) for table in tables), sep="\n\n")
