"""How fast this device could go: a copy and a matrix product, measured, and what they allow.

The ceilings are measured in the run whose figures are held against them, never read from a data
sheet: what a vendor promises is not what a shared, throttled or virtual machine can do.

Source: Williams, Waterman and Patterson 2009, Roofline: an insightful visual performance model.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from evaluation import resident
from evaluation.timing import Measurement, nothing_to_wait_for

_SAMPLES = 5
_SAMPLE_S = 0.02  # long beside what starting and synchronising takes
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}  # beyond every cache
_LEAST_COPY_BYTES = 2**26  # less may lie in a cache
_PRODUCT_WIDTH = {"cpu": 1024, "cuda": 8192}
_SMALLEST_WIDTH = 256
_MEMORY_SHARE = 0.1  # of what is free, so that the measured model may stay where it is
Clock = Callable[[], float]
Synchronise = Callable[[], None]


class TooLittleMemoryError(Exception):
    """There is not enough free memory to measure the memory."""


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """The best rate that was reached, and all that were.

    Args:
        rates: Every sample, in bytes or operations per second.
        how: What was run, in words.
    """

    rates: Measurement
    how: str

    @property
    def best(self) -> float:
        """The highest rate: what disturbs a run only ever makes it slower."""
        return max(self.rates.samples)


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """A piece of work held against two ceilings.

    Args:
        n_bytes: What it must read and write.
        flops: What it must compute.
        seconds: What it took.
        bytes_per_s: The memory's ceiling.
        flops_per_s: The arithmetic's.

    Raises:
        ValueError: A figure that is not above 0 (``n_bytes`` and ``flops`` may be 0).
    """

    n_bytes: float
    flops: float
    seconds: float
    bytes_per_s: float
    flops_per_s: float

    def __post_init__(self) -> None:
        """Refuse what would divide by nothing."""
        if min(self.seconds, self.bytes_per_s, self.flops_per_s) <= 0:
            raise ValueError(f"{self}: time and ceilings must be above 0")
        if min(self.n_bytes, self.flops) < 0:
            raise ValueError(f"{self}: bytes and operations cannot be below 0")

    @property
    def achieved_bytes_per_s(self) -> float:
        """How fast what must be moved was moved."""
        return self.n_bytes / self.seconds

    @property
    def achieved_flops_per_s(self) -> float:
        """How fast what must be computed was computed."""
        return self.flops / self.seconds

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.n_bytes if self.n_bytes else math.inf

    @property
    def bound(self) -> Literal["memory", "arithmetic"]:
        """Which ceiling is the lower one for this work."""
        is_memory = self.n_bytes / self.bytes_per_s >= self.flops / self.flops_per_s
        return "memory" if is_memory else "arithmetic"

    @property
    def floor_s(self) -> float:
        """The least it could take if either ceiling were reached and nothing else cost time."""
        return max(self.n_bytes / self.bytes_per_s, self.flops / self.flops_per_s)

    @property
    def share(self) -> float:
        """The floor over what it took; above 1 where a cache is faster than the memory."""
        return self.floor_s / self.seconds


def measure_copy(
    device: str,
    *,
    n_bytes: int | None = None,
    synchronise: Synchronise = nothing_to_wait_for,
    clock: Clock = time.perf_counter,
) -> Ceiling:
    """Measure how fast memory is read and written by a copy.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        n_bytes: Of the source; by default far beyond the caches, and little of what is free.
        synchronise: Waits until the device is idle.
        clock: Seconds, from any origin.

    Raises:
        TooLittleMemoryError: What is free would fit into a cache.
    """
    wanted = _COPY_BYTES[_kind(device)]
    size = n_bytes or min(wanted, _affordable(device) // 2)
    if n_bytes is None and size < min(wanted, _LEAST_COPY_BYTES):
        raise TooLittleMemoryError(f"{size / 2**20:.0f} MiB may be copied: a cache could hold it")
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    seconds = _seconds(lambda: target.copy_(source), synchronise, clock)
    return Ceiling(
        rates=_rates("copy", "B/s", 2 * size, seconds),
        how=f"a copy of {size / 2**20:.0f} MiB, read and written",
    )


def measure_product(
    device: str,
    dtype: str,
    *,
    width: int | None = None,
    synchronise: Synchronise = nothing_to_wait_for,
    clock: Clock = time.perf_counter,
) -> Ceiling:
    """Measure how fast square matrices are multiplied.

    Args:
        device: As for ``measure_copy``.
        dtype: Of both matrices, such as ``"bfloat16"``; whether float32 is multiplied in TF32 is
            up to the process's setting, as it is for the model.
        width: Of the matrices; by default as large as pays, smaller where one product takes long.
        synchronise: Waits until the device is idle.
        clock: Seconds, from any origin.
    """
    kind: torch.dtype = getattr(torch, dtype)
    n = width or _width(device, kind, synchronise, clock)
    a, b = (torch.randn(n, n, device=device).to(kind) for _ in range(2))
    seconds = _seconds(lambda: a @ b, synchronise, clock)
    return Ceiling(
        rates=_rates("product", "FLOP/s", 2 * n**3, seconds), how=f"{n} x {n} products in {dtype}"
    )


def _width(device: str, kind: torch.dtype, synchronise: Synchronise, clock: Clock) -> int:
    """Return the largest width whose product takes no longer than a sample, or the smallest."""
    largest = _PRODUCT_WIDTH[_kind(device)]
    while largest > _SMALLEST_WIDTH and 3 * largest**2 * kind.itemsize > _affordable(device):
        largest //= 2
    n = _SMALLEST_WIDTH
    while n < largest:
        a = torch.randn(n, n, device=device).to(kind)
        # Eight times the work follows.
        square = functools.partial(torch.matmul, a, a)
        if 8 * _seconds(square, synchronise, clock, samples=1)[0] > 5 * _SAMPLE_S:
            break
        n *= 2
    return n


def _seconds(
    run: Callable[[], object], synchronise: Synchronise, clock: Clock, samples: int = _SAMPLES
) -> list[float]:
    """Return seconds per run, each from enough runs to be worth timing."""

    def timed(count: int) -> float:
        synchronise()
        began = clock()
        for _ in range(count):
            run()
        synchronise()
        return (clock() - began) / count

    timed(1)  # the first one pays for pages and libraries
    once = timed(1)
    count = max(1, min(1000, round(_SAMPLE_S / once))) if once > 0 else 1000
    return [timed(count) for _ in range(samples)]


def _rates(name: str, unit: str, work: float, seconds: list[float]) -> Measurement:
    return Measurement(name=name, unit=unit, samples=tuple(work / s for s in seconds))


def _kind(device: str) -> str:
    return device.partition(":")[0]


def _affordable(device: str) -> int:
    """Return the bytes that a measurement may take."""
    if _kind(device) == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        told = resident.available_bytes()
        pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
        free = pages if told is None else told
    return int(free * _MEMORY_SHARE)
