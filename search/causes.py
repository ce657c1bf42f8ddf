"""Why the winner won: what each of its axes is worth, by the trials that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search.labels import column, flat_options, short_options, verdict_label, why_not
from search.ranking import speedup
from search.record import ASIDE, SweepResult, TrialRecord
from search.rejections import candidates

# An axis that gains less than this is not a cause.
LEAST_GAIN = 1.02
MOST_CAUSES = 3


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What the winner's values on some axes are worth.

    Args:
        axes: The axes; several when the same trial is the best one without each of them.
        gain: How many times better the winner is than the trial it is compared with.
        other: That trial.
        alone: Whether it differs from the winner in this one axis and nothing else.
    """

    axes: tuple[str, ...]
    gain: float
    other: TrialRecord
    alone: bool


def what_made_it_so(result: SweepResult) -> str:
    """Say in a sentence which axes made the winner, or what came nearest to winning."""
    won = result.winner or result.unconfirmed
    if won is None:
        return _nearest_miss(result)
    changed = _changed_axes(won, result.baseline)
    if not changed:
        return "The baseline itself is the best that passed: no optimization helped."
    found = causes(result, won, changed)
    if not found:
        return (
            f"It differs from the baseline in {_values(won, changed)}; none of these decides "
            "alone: without each of them a trial was about as good."
        )
    said = [_said(won, cause, result.objectives[0]) for cause in found]
    return f"What made it so: {'; '.join(said)}."


def causes(result: SweepResult, won: TrialRecord, axes: Sequence[str]) -> list[Cause]:
    """Return what is worth most first; axes that no trial tells apart are one cause."""
    found: dict[int, Cause] = {}
    for axis in axes:
        cause = _cause(result, won, axis)
        if cause is None or cause.gain < LEAST_GAIN:
            continue
        known = found.get(cause.other.number)
        together = (*known.axes, axis) if known else cause.axes
        found[cause.other.number] = Cause(
            axes=together, gain=cause.gain, other=cause.other, alone=cause.alone
        )
    return sorted(found.values(), key=lambda c: -c.gain)[:MOST_CAUSES]


def _cause(result: SweepResult, won: TrialRecord, axis: str) -> Cause | None:
    """Compare with the trial that differs in this axis alone, or the best that lacks its value."""
    metric, value = result.objectives[0], flat_options(won.options)[axis]
    without = [
        (gain, r)
        for r in result.records
        if r.role not in ASIDE and flat_options(r.options).get(axis) != value
        if (gain := speedup(won, r, metric)) is not None
    ]
    alone = [(gain, r) for gain, r in without if _changed_axes(won, r) == [axis]]
    if not without:
        return None
    gain, other = min(alone or without, key=lambda pair: pair[0])
    return Cause(axes=(axis,), gain=gain, other=other, alone=bool(alone))


def _said(won: TrialRecord, cause: Cause, metric: str) -> str:
    better = "smaller" if metric == "peak_memory_bytes" else "faster"
    values = _values(won, cause.axes)
    if cause.alone:
        than = f"trial {cause.other.number}, which differs in nothing else"
    else:
        without = "it" if len(cause.axes) == 1 else "them"
        than = f"the best trial without {without} ({cause.other.number})"
    return f"{values}, {cause.gain:.2f} times {better} than {than}"


def _values(won: TrialRecord, axes: Sequence[str]) -> str:
    flat = flat_options(won.options)
    return ", ".join(f"{axis}={flat[axis]}" for axis in axes)


def _changed_axes(record: TrialRecord, other: TrialRecord) -> list[str]:
    mine, theirs = flat_options(record.options), flat_options(other.options)
    return [axis for axis in mine if mine[axis] != theirs.get(axis)]


def _nearest_miss(result: SweepResult) -> str:
    metric = result.objectives[0]
    ran = candidates(result.records)
    missed = [r for r in ran if r.metrics.get(metric) and r.status == "completed"]
    if not missed:
        return "No configuration but the baseline ran to the end."
    best = max(missed, key=lambda r: speedup(r, result.baseline, metric) or 0.0)
    said = why_not(best) or verdict_label(best)
    if best.accepted:
        said = "it did not stand its confirmation, or is no faster than the baseline"
    said = said if best.surpassed else f"turned down because: {said}"
    return (
        f"The fastest that ran was trial {best.number} ({short_options(best.options)}, "
        f"{column(metric).write(best.metrics[metric])}), {said}."
    )
