"""The bound of what a candidate ruins beyond what it mends: how many ruined utterances pass.

A voice that ruins one utterance in a hundred by its own sampling does so on other prompts each
time, and its equal ruins as many as it mends. ``evaluation.tail`` says what is ruined and what is
made up for; this says how many of them a number of utterances lets pass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluation import paired_rates
from evaluation.comparisons import Comparison
from evaluation.paired_rates import equal_passes, excess_upper, required_n_for_excess
from evaluation.statistics import clopper_pearson_lower
from evaluation.tail import Counts
from evaluation.verdict import Bound, GateConfig, Status

_SHOWN = 3


def compare_bad_utterances(counts: Counts, config: GateConfig) -> Comparison:
    """Bound the rate at which the candidate ruins more utterances than it mends.

    PASS when nothing is newly ruined, or when the upper bound of the rate of newly ruined
    utterances less those that make up for them is at most ``max_bad_rate``; FAIL when the lower
    bound is above it. A truncation mended makes up for a truncation elsewhere and never for a loop.
    """
    n, ruined = counts.n, len(counts.newly_bad)
    lower = clopper_pearson_lower(ruined, n, config.confidence)
    # Nobody knows which of the baseline's bad ones the candidate's would have fallen on.
    lower = max(0.0, lower - max(counts.mended / n, counts.bad_rate))
    upper = excess_upper(ruined, counts.answered, n, config.tail_confidence)
    status: Status = "UNDECIDED"
    if _may_pass(ruined, counts.answered, n, config):
        status = "PASS"
    elif lower > config.max_bad_rate:
        status = "FAIL"
    bound = Bound(
        metric="bad_utterances",
        baseline_mean=counts.base_bad / n,
        candidate_mean=counts.cand_bad / n,
        delta_pct=100 * ruined / n,
        lower_pct=100 * lower,
        upper_pct=100 * upper,
        sigma_pct=0.0,
        n=n,
        status=status,
        power=_power(counts, config),
    )
    reasons = () if status == "PASS" else (_reason(status, counts, upper, config),)
    return Comparison(status=status, bound=bound, reasons=reasons)


def is_hopeless(counts: Counts, config: GateConfig) -> bool:
    """Say whether nothing that the full judgement may still show can make the tail pass.

    The count of ruined utterances only grows, and no more of them can be made up for than the
    baseline has with their signs; one more of both never helps.
    """
    return not _may_pass(len(counts.newly_bad), counts.answerable, counts.n_full, config)


def passing_counts(n: int, config: GateConfig) -> npt.NDArray[np.int64]:
    """Return how many newly ruined utterances of n pass, by how many of them are made up for.

    Returns:
        Shape (m,); the last one holds for any more made up for. Nothing ruined passes at any n.
    """
    found = paired_rates.passing_counts(n, config.max_bad_rate, config.tail_confidence)
    return np.maximum(found, 0)


def _may_pass(ruined: int, answered: int, n: int, config: GateConfig) -> bool:
    allowed = passing_counts(n, config)
    return ruined <= int(allowed[min(answered, len(allowed) - 1)])


def _power(counts: Counts, config: GateConfig) -> float:
    """Return the chance that a candidate equal to the baseline passes.

    Such a candidate ruins as often what the baseline did not as it mends what the baseline ruined:
    seen in these pairs, and with probability r (1 - r) at the baseline's rate r.
    """
    flips = max(counts.flaky_rate * (1 - counts.flaky_rate), counts.mended / counts.n)
    return equal_passes(passing_counts(counts.n, config), counts.n, min(0.5, flips))


def _reason(status: Status, counts: Counts, upper: float, config: GateConfig) -> str:
    """Name the ruined, and what would decide."""
    ruined = len(counts.newly_bad)
    seen = f"{ruined} of {counts.n} utterances are newly ruined"
    seen += f" ({'; '.join(counts.newly_bad[:_SHOWN])})"
    if counts.answered:
        seen += f" and {counts.answered} mended of the same signs"
    allowed = f"{100 * config.max_bad_rate:g} %"
    if status == "FAIL":
        return f"{seen}, more than the {allowed} allowed."
    if config.max_bad_rate == 0:
        return f"{seen}, and none may be ruined."
    needed = required_n_for_excess(
        ruined, counts.answered, config.max_bad_rate, config.tail_confidence
    )
    return (
        f"{seen}, and up to {100 * upper:.1f} % of all cannot be ruled out ({allowed} allowed: no "
        f"more than these in {needed} would pass)."
    )
