"""When crashes while loading are the environment's fault, and when the configuration's."""

from __future__ import annotations

import dataclasses

import pytest

from search.load_crashes import broken_environment
from search.record import Failure, FailureKind, TrialRecord
from tests.search import record_fixtures as fixtures
from tts.options import Options

VARIED = (
    Options(compile="default"),
    Options(kv_cache="static"),
    Options(quantization="int8_dynamic"),
    Options(precision="bf16"),
)


def crash(
    number: int, options: Options, phase: str = "load", kind: FailureKind = "crash"
) -> TrialRecord:
    failure = Failure(phase=phase, kind=kind, message="exited with status 1 without a report")
    return dataclasses.replace(
        fixtures.crashed(number), failure=failure, options=options.to_mapping()
    )


def after_a_baseline(*options: Options, kind: FailureKind = "crash") -> list[TrialRecord]:
    crashed = [crash(i, o, kind=kind) for i, o in enumerate(options, start=1)]
    return [fixtures.baseline(), *crashed]


@pytest.mark.parametrize("kind", ["crash", "error"])
def test_four_different_ones_in_a_row_are_the_environments_fault(kind: FailureKind) -> None:
    records = after_a_baseline(*VARIED, kind=kind)
    assert broken_environment(records) == records[1:]
    assert broken_environment(records[:-1]) == []


@pytest.mark.parametrize("kind", ["refused", "oom", "timeout"])
def test_a_configuration_may_be_refused_or_too_large(kind: FailureKind) -> None:
    assert broken_environment(after_a_baseline(*VARIED, kind=kind)) == []


def test_one_that_got_further_begins_the_count_anew() -> None:
    records = after_a_baseline(*VARIED)
    records[2] = crash(2, VARIED[1], phase="compile")
    assert broken_environment(records) == []


def test_a_value_that_never_loaded_is_to_blame_itself() -> None:
    """An int4 kernel that this device lacks crashes in every company."""
    int4 = [dataclasses.replace(o, quantization="int4_weight_only") for o in VARIED]
    assert broken_environment(after_a_baseline(*int4)) == []
    loaded = [fixtures.baseline(), fixtures.record(1, options=int4[0])]
    again = [crash(i, o) for i, o in enumerate(int4, start=2)]
    assert broken_environment([*loaded, *again]) == again
