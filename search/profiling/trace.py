"""Read what torch's profiler wrote: launches, kernels, operators and named stretches.

The trace file is read rather than the profiler's own objects, since it is what a person opens
too, and what a test can write by hand.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What starts work on a GPU; graphs count once, however many kernels they hold.
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cuGraphLaunch")
_RUNTIME = ("cuda_runtime", "cuda_driver")
_COPIES = ("gpu_memcpy", "gpu_memset")
# Matrix products and attention, in a model that is eager, quantized or compiled.
_PRODUCTS = re.compile(
    r"(?:aten|mkldnn|quantized|torchao)::_?"
    r"(?:linear|addmm|mm|bmm|baddbmm|matmul|scaled_dot_product|\w*int_mm|\w*_linear|flash_att)"
)
_MICRO = 1e-6
Event = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of time on the host, in microseconds from any origin."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start) * _MICRO


class Trace:
    """The events of one trace.

    Args:
        events: ``traceEvents`` of the file, of which those of a duration are looked at.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        by_kind: dict[str, list[Event]] = {}
        for event in events:
            if event.get("ph") == "X":
                by_kind.setdefault(str(event.get("cat")), []).append(event)
        self._spans = sorted(by_kind.get("user_annotation", ()), key=_start)
        self._operators = sorted(by_kind.get("cpu_op", ()), key=lambda e: (_start(e), -_length(e)))
        self._runtime = [e for kind in _RUNTIME for e in by_kind.get(kind, ())]
        self._kernels = by_kind.get("kernel", [])
        self._copies = [e for kind in _COPIES for e in by_kind.get(kind, ())]

    @property
    def has_gpu(self) -> bool:
        """Whether any work of a GPU was seen."""
        return bool(self._kernels)

    def spans(self, name: str) -> list[Span]:
        """Return the stretches of that name, in order."""
        return [
            Span(start=_start(e), end=_start(e) + _length(e))
            for e in self._spans
            if e["name"] == name
        ]

    def launches(self, spans: Sequence[Span]) -> int:
        """Count how often the host started work on the GPU within some stretches."""
        starts = [e for e in self._runtime if str(e["name"]).startswith(_LAUNCHES)]
        return len(_within(starts, spans))

    def kernels(self, spans: Sequence[Span]) -> list[float]:
        """Return the seconds of each kernel that was started within some stretches."""
        started = {_correlation(e) for e in _within(self._runtime, spans)} - {None}
        return [_length(e) * _MICRO for e in self._kernels if _correlation(e) in started]

    def copies_s(self) -> float:
        """Return the seconds of all copies to, from and within the GPU, and of fillings."""
        return sum(_length(e) for e in self._copies) * _MICRO

    def operators(self, spans: Sequence[Span]) -> int:
        """Count the operator calls within some stretches that no other operator made."""
        return len(_outermost(_within(self._operators, spans)))

    def products_s(self, spans: Sequence[Span]) -> float:
        """Return the host's seconds in matrix products and attention within some stretches."""
        found = [e for e in self._operators if _PRODUCTS.match(str(e["name"]))]
        return sum(_length(e) for e in _outermost(_within(found, spans))) * _MICRO


def _outermost(ordered: Iterable[Event]) -> list[Event]:
    """Return the events that lie in no other; they come by start, the longer one first."""
    found, ends = [], dict[Any, float]()
    for event in ordered:
        if _start(event) >= ends.get(event.get("tid"), 0.0):
            found.append(event)
            ends[event.get("tid")] = _start(event) + _length(event)
    return found


def read(path: Path) -> Trace:
    """Read a trace that ``export_chrome_trace`` wrote."""
    return Trace(json.loads(path.read_text(encoding="utf-8"))["traceEvents"])


def tidy(path: Path) -> None:
    """Take out of a trace what names a place or a warning of the machine it was made on."""
    values = json.loads(path.read_text(encoding="utf-8"))
    for key in ("ERROR", "WARNING"):
        values.pop(key, None)
    values["traceName"] = path.name
    path.write_text(json.dumps(values), encoding="utf-8")


def _within(events: Iterable[Event], spans: Sequence[Span]) -> list[Event]:
    """Return the events that begin within one of some stretches, which do not overlap."""
    ordered = sorted(spans, key=lambda span: span.start)
    starts = [span.start for span in ordered]
    found = []
    for event in events:
        i = bisect.bisect_right(starts, _start(event)) - 1
        if i >= 0 and _start(event) < ordered[i].end:
            found.append(event)
    return found


def _start(event: Event) -> float:
    return float(event["ts"])


def _length(event: Event) -> float:
    return float(event.get("dur", 0.0))


def _correlation(event: Event) -> int | None:
    found = event.get("args", {}).get("correlation")
    return None if found is None else int(found)
