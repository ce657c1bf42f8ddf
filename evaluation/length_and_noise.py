"""What may not drift: the length of the speech and the noise under it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation import statistics
from evaluation.comparisons import (
    Comparison,
    Pair,
    columns,
    finished,
    has_failed,
    is_number,
    power_of,
    unmeasured,
    value_of,
)
from evaluation.guards import FLOORLESS, floor_rise_db
from evaluation.scores import UtteranceScores
from evaluation.verdict import GateConfig, Status
from evaluation.wording import signed


def compare_duration(pairs: Sequence[Pair], config: GateConfig) -> Comparison:
    """Compare the change of the mean duration: speech that hurries or drags is not the same.

    It passes while the mean that was seen is within ``duration_drift_pct``, whatever its bounds: a
    guard against drift and no proof of equal length. Beyond that the bounds tell FAIL from
    UNDECIDED. A candidate's file that could not be read is of no length; a duration that is
    missing otherwise, or not finite, is a missing one.
    """
    values = [(value_of(base, "duration_s"), _duration_or_zero(cand)) for base, cand in pairs]
    usable = [(base, cand) for base, cand in values if base is not None and cand is not None]
    if len(usable) < 2:
        return unmeasured("duration_s", len(pairs) - len(usable), len(pairs))
    baseline, candidate = columns(usable)
    if not baseline.mean() > 0:
        return unmeasured("duration_s", len(pairs), len(pairs))
    interval = statistics.paired_change_pct(baseline, candidate, config.confidence)
    limit = config.duration_drift_pct
    status: Status = "PASS"
    reasons: list[str] = []
    if abs(interval.mean) > limit:
        is_sure = interval.lower > limit or interval.upper < -limit
        status = "FAIL" if is_sure else "UNDECIDED"
        reasons.append(f"The mean duration changes by {signed(interval.mean)} (limit {limit:g} %).")
    return finished(
        "duration_s", baseline.mean(), candidate.mean(), interval, status, reasons,
        statistics.power_to_stay_within(interval.n, interval.sigma, limit), n_pairs=len(pairs),
    )  # fmt: skip


def compare_noise_floor(pairs: Sequence[Pair], config: GateConfig) -> Comparison:
    """Bound the rise of the mean noise floor, in dB: hiss that DNSMOS likes.

    The mean, because one utterance's floor says little: it is a percentile, and where about that
    share of the frames is pause it jumps by 15 dB between two sayings of one sentence (espeak).
    A candidate's utterance that failed or has no sound in it is left out, for the tail counts it;
    one whose guards did not run makes a pass impossible, as any that is missing on the baseline.
    """
    usable = [(base, cand) for base, cand in pairs if _has_floor(base) and _has_floor(cand)]
    n_pairs = len(usable) + sum(
        not _has_floor(base) or not (_has_floor(cand) or _is_ruined(cand)) for base, cand in pairs
    )
    if len(usable) < 2:
        return unmeasured("noise_floor_dbfs", len(pairs) - len(usable), len(pairs))
    rises = np.array([floor_rise_db(base, cand) for base, cand in usable])
    interval, limit = statistics.t_interval(rises, config.confidence), config.noise_floor_rise_db
    status: Status = "PASS"
    reasons: list[str] = []
    if interval.upper > limit:
        status = "FAIL" if interval.lower > limit else "UNDECIDED"
        reasons.append(f"The mean noise floor rises by {interval.mean:.1f} dB (limit {limit:g}).")
    floors = np.array([(b.noise_floor_dbfs, c.noise_floor_dbfs) for b, c in usable], dtype=float)
    return finished(
        "noise_floor_dbfs", floors[:, 0].mean(), floors[:, 1].mean(), interval, status, reasons,
        power_of(interval, limit, config), n_pairs=n_pairs,
    )  # fmt: skip


def _has_floor(scores: UtteranceScores) -> bool:
    return is_number(scores.noise_floor_dbfs)


def _is_ruined(scores: UtteranceScores) -> bool:
    """Say whether the tail has what kept a floor from being measured."""
    said = {reason.partition(":")[0] for reason in scores.guards}
    return has_failed(scores, "guards") or not said.isdisjoint(FLOORLESS)


def _duration_or_zero(scores: UtteranceScores) -> float | None:
    """Return the candidate's duration; zero where its audio could not be read."""
    value = value_of(scores, "duration_s")
    return 0.0 if value is None and has_failed(scores, "audio") else value
