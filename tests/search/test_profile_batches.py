"""Which batch sizes are tried: bounded by time, by memory, and by what the device takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from evaluation.timing import Measurement
from search.profiling.batches import Batches, _room, try_sizes
from search.profiling.record import Figure
from search.profiling.subject import Calls, Plan
from tests.search.profile_fixtures import CPU, GPU
from tts.device import DeviceCaps
from tts.errors import InapplicableError
from tts.options import Options

PLAN = Plan(model="fake", options=Options(), device="cpu", texts=("Hello.",), seconds=100.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Fake:
    """A model that takes a second per sentence to try, and 100 MB each."""

    def __init__(self, clock: Clock, sizes: list[int], fails: dict[int, Exception]) -> None:
        self.clock, self.sizes, self.fails = clock, sizes, fails

    def __call__(self, plan: Plan, caps: DeviceCaps, size: int) -> Fake:
        self.size = size
        self.sizes.append(size)
        if size in self.fails:
            raise self.fails[size]
        return self

    def warm_up(self, turns: int) -> None:
        self.clock.now += self.size

    def time_calls(self, repeats: int) -> Calls:
        return calls(self.size)


def calls(size: int) -> Calls:
    return Calls(
        latency=Measurement(name="latency_s", unit="s", samples=(0.5 * size, 0.6 * size)),
        told=(),
        audios=(),
        figures={
            "samples_per_s": Figure(value=2.0, unit="1/s"),
            "audio_s_per_s": Figure(value=6.0),
            "memory.peak": Figure(value=1e8 * size, unit="B"),
        },
    )


def tried(
    plan: Plan = PLAN,
    caps: DeviceCaps = CPU,
    fails: dict[int, Exception] | None = None,
    known: Sequence[int] = (),
    known_s: float = 0.0,
) -> tuple[list[int], Batches]:
    clock, sizes = Clock(), list[int]()
    make: Callable[..., Fake] = Fake(clock, sizes, fails or {})
    found = try_sizes(
        plan,
        caps,
        {size: calls(size) for size in known},
        lambda said: None,
        make=make,  # type: ignore[arg-type]
        clock=clock,
        known_s=known_s,
        room=lambda caps: caps.memory_bytes,
    )
    return sizes, found


def test_sizes_double_until_time_is_up() -> None:
    sizes, found = tried()
    # 1 + 2 + 4 + 8 + 16 + 32 seconds are spent; 64 more would be too many.
    assert sizes == [1, 2, 4, 8, 16, 32]
    assert found.end == "64 would have taken longer than 100 s allow"
    assert [row.batch_size for row in found.rows] == sizes
    assert found.rows[1].latency.value == pytest.approx(1.1)


def test_memory_bounds_them_too() -> None:
    small = replace(CPU, memory_bytes=10**9)
    sizes, found = tried(replace(PLAN, seconds=1e6), small)
    assert sizes == [1, 2, 4, 8]
    assert found.end == "16 would have needed more than 80 % of the memory"


def test_the_largest_is_a_bound() -> None:
    sizes, found = tried(replace(PLAN, seconds=1e6), replace(CPU, memory_bytes=10**12))
    assert sizes[-1] == 256
    assert found.end == "256 is the largest that is tried"


def test_sizes_that_were_asked_for() -> None:
    sizes, found = tried(replace(PLAN, batch_sizes=(3, 5)))
    assert sizes == [3, 5]
    assert found.end == ""


def test_a_size_that_was_timed_is_not_timed_again() -> None:
    sizes, found = tried(replace(PLAN, batch_sizes=(1, 2)), known=[1])
    assert sizes == [2]
    assert [row.batch_size for row in found.rows] == [1, 2]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_ends_the_table_and_not_the_profile(error: Exception) -> None:
    sizes, found = tried(fails={4: error})
    assert sizes == [1, 2, 4]
    assert found.rows[2].latency.unknown == "out of memory"
    assert found.rows[2].samples_per_s.value is None
    assert found.end == "4 did not fit into memory"


def test_what_a_size_cannot_take_is_said_and_others_are_tried() -> None:
    sizes, found = tried(
        replace(PLAN, batch_sizes=(1, 2, 4)), fails={2: InapplicableError("batch_size", 2, "odd")}
    )
    assert sizes == [1, 2, 4]
    assert [row.latency.unknown for row in found.rows] == ["", "batch_size=2: odd", ""]


def test_what_the_rules_refuse_is_not_built() -> None:
    plan = replace(
        PLAN, options=Options(quantization="int8_dynamic", precision="bf16"), batch_sizes=(1, 32)
    )
    sizes, found = tried(plan, GPU)
    assert sizes == [32]
    assert "needs more than 16 rows" in found.rows[0].latency.unknown


@pytest.mark.parametrize("error", [RuntimeError("a bug\nat length"), ValueError("a bug")])
def test_any_other_error_is_said_and_costs_no_other_figure(error: Exception) -> None:
    sizes, found = tried(fails={4: error})
    assert sizes == [1, 2, 4]
    assert found.rows[2].latency.unknown == f"it failed: {type(error).__name__}: a bug"
    assert found.rows[1].latency.value
    assert found.end == "4 failed"


def test_an_interruption_is_none_of_a_sizes_errors() -> None:
    with pytest.raises(KeyboardInterrupt):
        tried(fails={2: KeyboardInterrupt()})  # type: ignore[dict-item]


def test_what_is_known_is_compared_to_what_was_asked_for() -> None:
    sizes, found = tried(replace(PLAN, batch_sizes=(4, 8)), known=[1])
    assert sizes == [4, 8]
    assert [row.batch_size for row in found.rows] == [1, 4, 8]


def test_the_first_size_is_bounded_by_what_the_known_one_took_to_build() -> None:
    sizes, found = tried(known=[1], known_s=60.0)
    assert sizes == []
    assert found.end == "2 would have taken longer than 100 s allow"


def test_a_size_that_is_refused_tells_nothing_of_the_next() -> None:
    refused = InapplicableError("batch_size", 2, "odd")
    sizes, found = tried(replace(PLAN, seconds=10.0, batch_sizes=(1, 2, 64)), fails={2: refused})
    assert sizes == [1, 2]
    assert found.end == "64 would have taken longer than 10 s allow"


def test_memory_that_others_hold_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.resident.available_bytes", lambda: 3 * 2**30)
    monkeypatch.setattr("evaluation.resident.resident_bytes", lambda: 2**30)
    assert _room(CPU) == 4 * 2**30
    assert _room(replace(CPU, memory_bytes=2**30)) == 2**30
    monkeypatch.setattr("evaluation.resident.available_bytes", lambda: None)
    assert _room(CPU) == CPU.memory_bytes
