"""The gate's parts: one compared quantity each, with its bound and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation import statistics
from evaluation.scores import UtteranceScores
from evaluation.statistics import Interval, Values
from evaluation.tail import bad_reasons
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
    values = [(_value(base, metric), _mos_or_worst(cand, metric)) for base, cand in pairs]
    usable = [(base, cand) for base, cand in values if base is not None and cand is not None]
    if len(usable) < 2:
        return _unmeasured(metric, len(pairs) - len(usable), len(pairs))
    baseline, candidate = _columns(usable)
    interval = statistics.paired_change_pct(baseline, candidate, config.confidence)
    status, reasons = _non_inferior(metric, interval, config.mos_budget_pct)
    return _finished(
        metric, baseline.mean(), candidate.mean(), interval, status, reasons, n_pairs=len(pairs)
    )


def compare_wer(pairs: Sequence[Pair], config: GateConfig) -> Comparison:
    """Bound the rise of the corpus word error rate, in percentage points."""
    rows = [_wer_row(base, cand) for base, cand in pairs]
    usable = [row for row in rows if row is not None]
    if len(usable) < 2:
        return _unmeasured("wer", len(pairs) - len(usable), len(pairs))
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
    return _finished(
        "wer", baseline.sum() / total, candidate.sum() / total, points, status, reasons,
        n_pairs=len(pairs),
    )  # fmt: skip


def compare_bad_utterances(
    pairs: Sequence[Pair], config: GateConfig, baseline: Sequence[UtteranceScores]
) -> Comparison:
    """Count ruined utterances against the baseline's own and an allowance.

    The rule: the candidate may have at most the baseline's number of bad utterances plus
    ``floor(max_bad_rate * n)``. It is a count and not a test, because a test on 24 utterances
    would let four runaways pass.

    Args:
        pairs: What is judged so far.
        config: The allowance.
        baseline: All of the baseline: an early look allows what the last one will, or it would
            reject what the last one accepts.
    """
    base_bad = sum(bool(bad_reasons(base, config)) for base, _ in pairs)
    bad = {cand.utterance_id: bad_reasons(cand, config, base) for base, cand in pairs}
    bad = {name: why for name, why in bad.items() if why}
    n = len(pairs)
    all_base_bad = sum(bool(bad_reasons(base, config)) for base in baseline)
    allowed = all_base_bad + math.floor(config.max_bad_rate * len(baseline) + 1e-9)
    reasons: tuple[str, ...] = ()
    if len(bad) > allowed:
        shown = "; ".join(f"{name}: {why[0]}" for name, why in list(bad.items())[:3])
        counts = f"{len(bad)} of {n} utterances are bad, {base_bad} of the baseline's"
        reasons = (f"{counts}, {allowed} allowed ({shown}).",)
    bound = Bound(
        metric="bad_utterances",
        baseline_mean=base_bad / n,
        candidate_mean=len(bad) / n,
        delta_pct=100 * (len(bad) - base_bad) / n,
        lower_pct=100 * statistics.clopper_pearson_lower(len(bad), n, config.confidence),
        upper_pct=100 * statistics.clopper_pearson_upper(len(bad), n, config.confidence),
        sigma_pct=0.0,
        n=n,
        status="FAIL" if reasons else "PASS",
    )
    return Comparison(status=bound.status, bound=bound, reasons=reasons)


def compare_duration(pairs: Sequence[Pair], config: GateConfig) -> Comparison:
    """Bound the change of the mean duration: speech that hurries or drags is not the same."""
    values = [(base.duration_s, cand.duration_s or 0.0) for base, cand in pairs]
    usable = [(base, cand) for base, cand in values if base is not None and is_number(base)]
    if len(usable) < 2:
        return _unmeasured("duration_s", len(pairs) - len(usable), len(pairs))
    baseline, candidate = _columns(usable)
    if not baseline.mean() > 0:
        return _unmeasured("duration_s", len(pairs), len(pairs))
    interval = statistics.paired_change_pct(baseline, candidate, config.confidence)
    limit = config.duration_drift_pct
    status: Status = "PASS"
    reasons: list[str] = []
    if abs(interval.mean) > limit:
        is_sure = interval.lower > limit or interval.upper < -limit
        status = "FAIL" if is_sure else "UNDECIDED"
        reasons.append(f"The mean duration changes by {signed(interval.mean)} (limit {limit:g} %).")
    return _finished(
        "duration_s", baseline.mean(), candidate.mean(), interval, status, reasons,
        n_pairs=len(pairs),
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


def _finished(
    metric: str,
    baseline_mean: float,
    candidate_mean: float,
    interval: Interval,
    status: Status,
    reasons: list[str],
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
    )
    return Comparison(status=status, bound=bound, reasons=tuple(reasons))


def _unmeasured(metric: str, n_missing: int, n_pairs: int) -> Comparison:
    reason = _missing_reason(metric, n_missing, n_pairs)
    return Comparison(status="UNGATED", bound=None, reasons=(reason,))


def _missing_reason(metric: str, n_missing: int, n_pairs: int) -> str:
    return f"{label(metric)} is missing on {n_missing} of {n_pairs} utterances."


def _value(scores: UtteranceScores, metric: str) -> float | None:
    """Return a finite score or None."""
    value = getattr(scores, metric)
    return float(value) if is_number(value) else None


def _mos_or_worst(scores: UtteranceScores, metric: str) -> float | None:
    """Return the candidate's MOS; the worst there is where the metric failed on it."""
    value = _value(scores, metric)
    if value is None and _has_failed(scores, "dnsmos"):
        return WORST_MOS
    return value


def _has_failed(scores: UtteranceScores, metric: str) -> bool:
    """Say whether a metric was tried on this utterance and failed, or had no audio to try."""
    return metric in scores.failures or "audio" in scores.failures


def _wer_row(base: UtteranceScores, cand: UtteranceScores) -> tuple[int, int, int] | None:
    """Return (baseline errors, candidate errors, words), or None when they cannot be compared."""
    if base.wer_errors is None or not base.wer_words:
        return None
    if cand.wer_errors is not None and cand.wer_words == base.wer_words:
        return base.wer_errors, cand.wer_errors, base.wer_words
    if cand.wer_errors is None and _has_failed(cand, "wer"):
        return base.wer_errors, base.wer_words, base.wer_words
    return None


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(
        mean=factor * interval.mean,
        lower=factor * interval.lower,
        upper=factor * interval.upper,
        sigma=factor * interval.sigma,
        n=interval.n,
    )


def _columns(rows: Sequence[tuple[float, float]]) -> tuple[Values, Values]:
    table = np.array(rows, dtype=np.float64)
    return table[:, 0], table[:, 1]
