"""Ceilings by an injected clock, and rooflines worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from evaluation.roofline import Roofline, TooLittleMemoryError, measure_copy, measure_product


class Clock:
    """Each look takes a millisecond."""

    def __init__(self) -> None:
        self.now = 0.0
        self.n_synchronised = 0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now

    def synchronise(self) -> None:
        self.n_synchronised += 1


def line(**changes: float) -> Roofline:
    values = {
        "n_bytes": 1e9, "flops": 2e9, "seconds": 0.01, "bytes_per_s": 2e11, "flops_per_s": 1e13,
    }  # fmt: skip
    return Roofline(**{**values, **changes})


def test_memory_bounds_what_reads_much() -> None:
    found = line()
    assert found.bound == "memory"
    assert found.floor_s == pytest.approx(0.005)
    assert found.share == pytest.approx(0.5)
    assert found.intensity == pytest.approx(2)
    assert found.achieved_bytes_per_s == pytest.approx(1e11)
    assert found.achieved_flops_per_s == pytest.approx(2e11)


def test_arithmetic_bounds_what_computes_much() -> None:
    found = line(flops=8e10)
    assert found.bound == "arithmetic"
    assert found.floor_s == pytest.approx(0.008)
    assert found.share == pytest.approx(0.8)


def test_the_floor_of_a_large_decoder_is_what_was_measured() -> None:
    """512 M weights in bf16 at 4.25 TB/s: 0.24 ms; a step of 1.40 ms is 17 % of the roofline."""
    found = line(n_bytes=1.024e9, flops=2.048e9, seconds=1.40e-3, bytes_per_s=4.25e12,
                 flops_per_s=7e14)  # fmt: skip
    assert found.floor_s == pytest.approx(0.241e-3, rel=1e-3)
    assert found.share == pytest.approx(0.172, rel=1e-2)


def test_a_cache_may_beat_the_memory() -> None:
    assert line(seconds=0.001).share == pytest.approx(5)


def test_no_bytes_is_no_division_by_nothing() -> None:
    assert line(n_bytes=0).intensity == math.inf


@pytest.mark.parametrize("name", ["seconds", "bytes_per_s", "flops_per_s"])
def test_nothing_is_held_against_a_missing_ceiling(name: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        line(**{name: 0.0})


@pytest.mark.parametrize("name", ["n_bytes", "flops"])
def test_negative_work_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="below 0"):
        line(**{name: -1.0})


def test_a_copy_counts_what_it_reads_and_writes() -> None:
    clock = Clock()
    found = measure_copy("cpu", n_bytes=2**20, synchronise=clock.synchronise, clock=clock)
    # Each sample spans 20 runs, since one look at the clock is a millisecond apart.
    assert found.rates.samples == pytest.approx([2 * 2**20 / (0.001 / 20)] * 5)
    assert found.rates.unit == "B/s"
    assert found.best == max(found.rates.samples)
    assert found.how == "a copy of 1 MiB, read and written"
    assert clock.n_synchronised == 2 * 7


def test_a_product_counts_two_operations_per_pair() -> None:
    clock = Clock()
    found = measure_product("cpu", "bfloat16", width=64, clock=clock)
    assert found.rates.samples == pytest.approx([2 * 64**3 / (0.001 / 20)] * 5)
    assert found.how == "64 x 64 products in bfloat16"


def test_the_width_stops_growing_where_a_product_takes_long() -> None:
    clock = Clock()

    def slow() -> float:
        clock.now += 1.0
        return clock.now

    found = measure_product("cpu", "float32", clock=slow)
    assert found.how == "256 x 256 products in float32"


def test_a_copy_that_a_cache_could_hold_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.resident.available_bytes", lambda: 2**30)
    with pytest.raises(TooLittleMemoryError, match="51 MiB may be copied"):
        measure_copy("cpu")


def test_this_machine_has_ceilings() -> None:
    torch.set_num_threads(1)
    copied = measure_copy("cpu", n_bytes=2**22)
    multiplied = measure_product("cpu", "float32", width=128)
    assert copied.best > 0
    assert multiplied.best > 0
