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
    is_number,
    power_of,
    unmeasured,
)
from evaluation.guards import floor_rise_db as floor_rise_db
from evaluation.scores import UtteranceScores
from evaluation.verdict import GateConfig, Status
from evaluation.wording import signed


def compare_duration(pairs: Sequence[Pair], config: GateConfig) -> Comparison:
    """Bound the change of the mean duration: speech that hurries or drags is not the same."""
    values = [(base.duration_s, cand.duration_s or 0.0) for base, cand in pairs]
    usable = [(base, cand) for base, cand in values if base is not None and is_number(base)]
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


def compare_noise_floor(pairs: Sequence[Pair], config: GateConfig) -> Comparison | None:
    """Bound the rise of the mean noise floor, in dB: hiss that DNSMOS likes.

    The mean, because one utterance's floor says little: it is a percentile, and where about that
    share of the frames is pause it jumps by 15 dB between two sayings of one sentence (espeak).
    A pair without two floors is left out; what kept it from being measured counts by itself.

    Returns:
        The comparison; None where fewer than two pairs have floors.
    """
    usable = [(base, cand) for base, cand in pairs if _has_floor(base) and _has_floor(cand)]
    if len(usable) < 2:
        return None
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
        power_of(interval, limit, config), n_pairs=len(usable),
    )  # fmt: skip


def _has_floor(scores: UtteranceScores) -> bool:
    return is_number(scores.noise_floor_dbfs)
