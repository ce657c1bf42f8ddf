"""Telling a broken environment from configurations that do not work.

A package that was upgraded in the middle of a sweep, or a driver that went away, lets every process
crash while it loads. That says nothing about the configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from search.labels import flat_options
from search.record import TrialRecord

# So many in a row, with nothing in common, are no accident.
ENOUGH = 4


def crashed_at_load(record: TrialRecord) -> bool:
    """Whether its process crashed before it had a model; a refusal is no crash."""
    failure = record.failure
    return failure is not None and failure.phase == "load" and failure.kind in ("crash", "error")


def broken_environment(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the latest trials if it is the environment that let them crash, else nothing.

    Args:
        records: Those of the search in order of number, the baseline first.
    """
    latest = list(takewhile(crashed_at_load, reversed(records)))[::-1]
    if len(latest) < ENOUGH or _common_cause(latest, records[: -len(latest)]):
        return []
    return latest


def _common_cause(crashed: Sequence[TrialRecord], earlier: Sequence[TrialRecord]) -> bool:
    """Whether all that crashed share a value that nothing was ever loaded with."""
    loaded = [flat_options(r.options) for r in earlier if not crashed_at_load(r)]
    first, *others = (flat_options(r.options) for r in crashed)
    return any(
        all(other.get(axis) == value for other in others)
        and all(options.get(axis) != value for options in loaded)
        for axis, value in first.items()
    )
