"""What a record is worth: service levels, what the sampler is told, the front, the winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.config import METRICS, SweepConfig
from search.record import ASIDE, Status, TrialRecord

# A failed trial's objective: the baseline's, this much worse. Samplers need a finite value, and
# one near the others, since some of them model it.
WORSE = 1.5
# How far outside the gate is, in the sampler's units; service levels are relative shortfalls.
UNDECIDED, REFUSED, UNGATED = 0.1, 0.3, 1.0


def shortfall(metric: str, value: float | None, limit: float) -> float:
    """Return how far a service level is missed, relative to it; at most 0 when it is met."""
    if value is None:
        return 1.0
    excess = (limit - value) / limit if METRICS[metric] else (value - limit) / limit
    return max(-1.0, min(1.0, excess))


def constraints(
    config: SweepConfig,
    status: Status,
    metrics: Mapping[str, float],
    verdict: Mapping[str, Any] | None,
    is_surpassed: bool = False,
) -> dict[str, float]:
    """Return what the sampler is told: at most 0 is feasible, all within [-1, 1].

    The keys are the same for every record of a study: GP samplers demand it. Of a trial that was
    not heard, since it could not win, nothing is known: that is as far out as UNDECIDED.
    """
    completed = status == "completed"
    gate = UNDECIDED if is_surpassed else _gate(verdict)
    told = {"runs": 0.0 if completed else 1.0, "gate": gate if completed else 1.0}
    for metric, limit in config.slo.items():
        value = metrics.get(metric) if completed else None
        told[f"slo.{metric}"] = shortfall(metric, value, limit)
    return told


def _gate(verdict: Mapping[str, Any] | None) -> float:
    """Grade a verdict: a sampler learns more from "nearly" than from "no"."""
    if verdict is None:
        return 0.0  # the baseline: nothing to compare it with
    status = verdict["status"]
    if status == "PASS":
        return 0.0
    if status in ("UNDECIDED", "UNARMED"):  # an UNARMED one would have passed an armed gate
        return UNDECIDED
    if status != "FAIL" or not verdict["bounds"]:
        return UNGATED  # a FAIL on nothing heard was broken at the token level already
    losses = [
        -float(bound["delta_pct"])
        for bound in verdict["bounds"]
        if bound["metric"].startswith("dnsmos") and bound["delta_pct"] is not None
    ]
    return min(1.0, REFUSED + max(0.0, *losses, 0.0) / 100)


def slo_violations(config: SweepConfig, metrics: Mapping[str, float]) -> tuple[str, ...]:
    """Return one sentence per service level that the metrics miss."""
    found = []
    for metric, limit in config.slo.items():
        value = metrics.get(metric)
        if value is None:
            found.append(f"{metric} was not measured; the limit is {limit:g}")
        elif shortfall(metric, value, limit) > 0:
            side = "below" if METRICS[metric] else "above"
            found.append(f"{metric} {value:.4g} is {side} the limit {limit:g}")
    return tuple(found)


def objective_values(
    objectives: Sequence[str], record: TrialRecord | None, baseline: TrialRecord
) -> list[float]:
    """Return finite values for the sampler: measured, or a worst case beside the baseline's.

    Args:
        objectives: Metric names.
        record: A completed trial's record, or None for one that did not complete.
        baseline: The baseline's record.
    """
    values = []
    for name in objectives:
        reference = baseline.metrics.get(name, 1.0)
        worst = reference / WORSE if METRICS[name] else reference * WORSE
        measured = record.metrics.get(name) if record else None
        values.append(worst if measured is None else measured)
    return values


def better(metric: str, a: float, b: float) -> bool:
    """Whether ``a`` is strictly better than ``b``."""
    return a > b if METRICS[metric] else a < b


def speedup(ours: TrialRecord, theirs: TrialRecord, metric: str) -> float | None:
    """Return how many times better the first is in a metric; above 1 is better."""
    a, b = ours.metrics.get(metric), theirs.metrics.get(metric)
    if not a or not b:
        return None
    return a / b if METRICS.get(metric) else b / a


def no_better(
    objectives: Sequence[str], metrics: Mapping[str, float], rival: Mapping[str, float]
) -> bool:
    """Whether a rival is at least as good in every objective; False where one is not measured."""
    return all(
        name in metrics and name in rival and not better(name, metrics[name], rival[name])
        for name in objectives
    )


def ranked(objectives: Sequence[str], records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the accepted search records, best in the first objective first."""
    first = objectives[0]
    accepted = [
        r
        for r in records
        if r.accepted and r.role not in ASIDE and set(objectives) <= set(r.metrics)
    ]
    return sorted(accepted, key=lambda r: r.metrics[first], reverse=METRICS[first])


def front(objectives: Sequence[str], records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the accepted records that no other accepted one dominates, best first."""
    candidates = ranked(objectives, records)
    return [r for r in candidates if not any(_dominates(objectives, o, r) for o in candidates)]


def _dominates(objectives: Sequence[str], a: TrialRecord, b: TrialRecord) -> bool:
    return no_better(objectives, b.metrics, a.metrics) and any(
        better(name, a.metrics[name], b.metrics[name]) for name in objectives
    )


def contenders(
    objectives: Sequence[str], records: Sequence[TrialRecord], baseline: TrialRecord
) -> list[TrialRecord]:
    """Return the accepted records that beat the baseline in the first objective, best first."""
    first = objectives[0]
    limit = baseline.metrics[first]
    return [r for r in ranked(objectives, records) if better(first, r.metrics[first], limit)]
