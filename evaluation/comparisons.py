"""The gate's parts: one compared quantity each, with its bound and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation import statistics
from evaluation.scores import UtteranceScores
from evaluation.statistics import Interval, Values
from evaluation.verdict import Bound, GateConfig, Status
from evaluation.wording import label, signed

Pair = tuple[UtteranceScores, UtteranceScores]
"""Baseline and candidate of one utterance."""

MOS_METRICS = ("dnsmos_ovrl", "dnsmos_p808")
WORST_MOS = 1.0
"""The foot of the MOS scale: what a candidate scores where the metric failed on it."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One part of the verdict; ``bound`` is None when nothing could be compared."""

    status: Status
    bound: Bound | None
    reasons: tuple[str, ...] = ()


def is_number(value: object) -> bool:
    """Say whether a score is there and finite."""
    return isinstance(value, int | float) and math.isfinite(value)


def compare_mos(metric: str, pairs: Sequence[Pair], config: GateConfig) -> Comparison:
    """Bound the change of one MOS in percent of the baseline's mean."""
    values = [(value_of(base, metric), _mos_or_worst(cand, metric)) for base, cand in pairs]
    usable = [(base, cand) for base, cand in values if base is not None and cand is not None]
    if len(usable) < 2:
        return unmeasured(metric, len(pairs) - len(usable), len(pairs))
    baseline, candidate = columns(usable)
    interval = statistics.paired_change_pct(baseline, candidate, config.confidence)
    status, reasons = _non_inferior(metric, interval, config.mos_budget_pct)
    power = power_of(interval, config.mos_budget_pct, config)
    return finished(
        metric, baseline.mean(), candidate.mean(), interval, status, reasons, power,
        n_pairs=len(pairs),
    )  # fmt: skip


def compare_wer(pairs: Sequence[Pair], config: GateConfig) -> Comparison:
    """Bound the rise of the corpus word error rate, in percentage points.

    An utterance's errors count up to its words, on both sides: one runaway in a thousand
    utterances would otherwise swing the rate from 1 to 18 %. The tail counts what went wrong there.
    """
    rows = [_wer_row(base, cand) for base, cand in pairs]
    usable = [row for row in rows if row is not None]
    if len(usable) < 2:
        return unmeasured("wer", len(pairs) - len(usable), len(pairs))
    baseline, candidate, words = (
        np.array(column, dtype=np.float64) for column in zip(*usable, strict=True)
    )
    interval = statistics.paired_rate_change(baseline, candidate, words, config.confidence)
    margin = 100 * config.wer_margin
    points = _scaled(interval, 100.0)
    status: Status = "PASS"
    reasons: list[str] = []
    if points.lower > margin:
        status = "FAIL"
        reasons.append(f"WER rises by {points.mean:.1f} points, more than the {margin:g} allowed.")
    elif points.upper > margin:
        status = "UNDECIDED"
        reasons.append(
            f"WER changes by {points.mean:+.1f} points, and {points.n} utterances cannot rule out "
            f"{points.upper:+.1f} ({margin:g} allowed)."
        )
    total = words.sum()
    return finished(
        "wer", baseline.sum() / total, candidate.sum() / total, points, status, reasons,
        power_of(points, margin, config), n_pairs=len(pairs),
    )  # fmt: skip


def _non_inferior(metric: str, interval: Interval, budget: float) -> tuple[Status, list[str]]:
    """Return PASS, FAIL or UNDECIDED for a loss budget, with the sentence that says why."""
    name = label(metric)
    if interval.lower > -budget:
        return "PASS", []
    if interval.upper < -budget:
        return "FAIL", [f"{name} loses {-interval.mean:.1f} %, more than the {budget:g} % allowed."]
    seen = f"{name} changes by {signed(interval.mean)}"
    doubt = f"{interval.n} utterances cannot rule out {signed(interval.lower)}"
    return "UNDECIDED", [f"{seen}, and {doubt} ({budget:g} % allowed)."]


def finished(
    metric: str,
    baseline_mean: float,
    candidate_mean: float,
    interval: Interval,
    status: Status,
    reasons: list[str],
    power: float,
    *,
    n_pairs: int,
) -> Comparison:
    """Assemble a comparison; a pair that could not be used makes a pass impossible."""
    n_missing = n_pairs - interval.n
    if n_missing:
        reasons.append(_missing_reason(metric, n_missing, n_pairs))
        status = "FAIL" if status == "FAIL" else "UNGATED"
    bound = Bound(
        metric=metric,
        baseline_mean=float(baseline_mean),
        candidate_mean=float(candidate_mean),
        delta_pct=interval.mean,
        lower_pct=interval.lower,
        upper_pct=interval.upper,
        sigma_pct=interval.sigma,
        n=interval.n,
        status=status,
        power=power,
    )
    return Comparison(status=status, bound=bound, reasons=tuple(reasons))


def power_of(interval: Interval, budget: float, config: GateConfig) -> float:
    """Return the chance that no change at all passes a budget, at this n and sigma."""
    return statistics.power_to_accept(
        interval.n, interval.sigma, 0.0, budget_pct=budget, confidence=config.confidence
    )


def unmeasured(metric: str, n_missing: int, n_pairs: int) -> Comparison:
    """Say that nothing could be compared."""
    reason = _missing_reason(metric, n_missing, n_pairs)
    return Comparison(status="UNGATED", bound=None, reasons=(reason,))


def _missing_reason(metric: str, n_missing: int, n_pairs: int) -> str:
    return f"{label(metric)} is missing on {n_missing} of {n_pairs} utterances."


def value_of(scores: UtteranceScores, metric: str) -> float | None:
    """Return a finite score or None."""
    value = getattr(scores, metric)
    return float(value) if is_number(value) else None


def _mos_or_worst(scores: UtteranceScores, metric: str) -> float | None:
    """Return the candidate's MOS; the worst there is where the metric failed on it."""
    value = value_of(scores, metric)
    if value is None and has_failed(scores, "dnsmos"):
        return WORST_MOS
    return value


def has_failed(scores: UtteranceScores, metric: str) -> bool:
    """Say whether a metric was tried on this utterance and failed, or had no audio to try."""
    return metric in scores.failures or "audio" in scores.failures


def _wer_row(base: UtteranceScores, cand: UtteranceScores) -> tuple[int, int, int] | None:
    """Return (baseline errors, candidate errors, words), or None when they cannot be compared."""
    if base.wer_errors is None or not base.wer_words:
        return None
    words = base.wer_words
    before = min(base.wer_errors, words)
    if cand.wer_errors is not None and cand.wer_words == words:
        return before, min(cand.wer_errors, words), words
    if cand.wer_errors is None and has_failed(cand, "wer"):
        return before, words, words
    return None


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(
        mean=factor * interval.mean,
        lower=factor * interval.lower,
        upper=factor * interval.upper,
        sigma=factor * interval.sigma,
        n=interval.n,
    )


def columns(rows: Sequence[tuple[float, float]]) -> tuple[Values, Values]:
    """Return baseline and candidate values, each of shape (n,)."""
    table = np.array(rows, dtype=np.float64)
    return table[:, 0], table[:, 1]
