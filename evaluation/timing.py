"""How fast: repeated, warmed-up, synchronised measurements that keep every sample."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One quantity, measured again and again.

    Args:
        name: Such as ``latency_s``.
        unit: Such as ``s``.
        samples: Every value in the order of measuring; at least one, all finite.
    """

    name: str
    unit: str
    samples: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse a measurement that holds nothing, or nonsense.

        Raises:
            ValueError: No samples, or one that is not finite.
        """
        if not self.samples:
            raise ValueError(f"measurement {self.name!r} has no samples")
        if not all(math.isfinite(value) for value in self.samples):
            raise ValueError(f"measurement {self.name!r} has samples that are not finite")

    @property
    def n(self) -> int:
        """How many samples."""
        return len(self.samples)

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return math.fsum(self.samples) / self.n

    @property
    def p50(self) -> float:
        """The median."""
        return quantile(self.samples, 0.50)

    @property
    def p95(self) -> float:
        """The 95th percentile."""
        return quantile(self.samples, 0.95)

    @property
    def p99(self) -> float:
        """The 99th percentile; below 100 samples it is drawn towards the largest."""
        return quantile(self.samples, 0.99)

    def to_mapping(self) -> dict[str, Any]:
        """Return ``{"unit", "samples"}``, as a record keeps it under the name."""
        return {"unit": self.unit, "samples": list(self.samples)}

    @classmethod
    def from_mapping(cls, name: str, mapping: Mapping[str, Any]) -> Measurement:
        """Read what ``to_mapping`` wrote."""
        samples = tuple(float(value) for value in mapping["samples"])
        return cls(name=name, unit=str(mapping["unit"]), samples=samples)


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile by linear interpolation between order statistics.

    Definition 7 of Hyndman and Fan (the default of numpy and R): with the values sorted as
    x[0..n-1], the quantile stands at position ``share * (n - 1)``.

    Args:
        values: At least one.
        share: 0 to 1.

    Raises:
        ValueError: No values, or a share outside 0 to 1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"no quantile {share} of {len(values)} values")
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def nothing_to_wait_for() -> None:
    """Synchronise a device that runs in step with the host: a CPU."""


def measure(
    run: Callable[[], T],
    *,
    repeats: int,
    warmup: int,
    synchronise: Callable[[], None] = nothing_to_wait_for,
    clock: Callable[[], float] = time.perf_counter,
    name: str = "latency_s",
    on_result: Callable[[T], None] | None = None,
) -> Measurement:
    """Time a callable.

    The device is synchronised before the clock starts, so that nobody else's work is counted, and
    before it stops, so that all of ours is.

    Args:
        run: What to time.
        repeats: How many samples, at least one.
        warmup: Calls before them that are not timed (compilation, caches, clocks).
        synchronise: Waits until the device is idle, such as ``torch.cuda.synchronize``.
        clock: Seconds, from any origin.
        name: The measurement's.
        on_result: Given each timed call's result, outside the timed stretch.

    Raises:
        ValueError: Fewer than one repeat, or a negative warm-up.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"repeats={repeats} and warmup={warmup} measure nothing")
    for _ in range(warmup):
        run()
    samples = []
    for _ in range(repeats):
        synchronise()
        began = clock()
        result = run()
        synchronise()
        samples.append(clock() - began)
        if on_result is not None:
            on_result(result)
    return Measurement(name=name, unit="s", samples=tuple(samples))
