"""What the measurements suggest to try, and only they.

An option is named where the device takes it and where the figure that it would change is the one
that is poor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search.labels import size
from search.profiling.record import BatchRow, Figure, Part, Stage
from tts.compilation import GRAPHED
from tts.device import DeviceCaps
from tts.options import STATIC, Options
from tts.validity import canonical, refusal

# Below it the GPU waits for the host more than it works.
BUSY = 0.5
# With less of a core a model on a CPU was kept from computing.
OWN_CORE = 0.9
# Above it a step is as near its floor as kernels come in practice.
NEAR = 0.6
# With less of a step in matrix products it is the calls around them that cost.
PRODUCTS = 0.6
WORTH = 1.3  # times the throughput


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the words are chosen by.

    Args:
        options: Canonical.
        caps: Of the device.
        stages: Of the whole calls.
        parts: With shares of the whole call.
        figures: By dotted name.
        batches: By batch size.
        bound: ``memory``, ``arithmetic`` or "" where the step is not told.
    """

    options: Options
    caps: DeviceCaps
    stages: Sequence[Stage]
    parts: Sequence[Part]
    figures: Mapping[str, Figure]
    batches: Sequence[BatchRow] = ()
    bound: str = ""

    def value(self, name: str) -> float | None:
        """Return a figure's number, or None where there is none."""
        figure = self.figures.get(name)
        return None if figure is None else figure.value

    @property
    def is_disturbed(self) -> bool:
        """Whether others computed on this process's core while it was timed."""
        cores = self.value("cpu.cores_busy")
        return self.caps.type == "cpu" and cores is not None and cores < OWN_CORE

    def median_s(self, stage: str) -> float:
        """Return a stage's seconds."""
        return next(s.seconds.p50 for s in self.stages if s.name == stage)


def on_step(found: Findings) -> Iterator[str]:
    """Yield what the figures of a step suggest."""
    busy, roofline = found.value("step.gpu_busy"), found.value("step.roofline")
    if roofline is None or found.is_disturbed:
        return
    if busy is not None and busy < BUSY:
        if found.options.compile not in GRAPHED:
            yield from _graphs(found, "one graph instead of many launches")
        return
    if roofline < NEAR:
        yield from _fewer_calls(found)
    if roofline >= NEAR:
        yield from fewer_bytes(found)


def _fewer_calls(found: Findings) -> Iterator[str]:
    """Far from the floor, on a device that is not kept waiting, it is how the work is cut."""
    products, options = found.value("step.products"), found.options
    if found.caps.type == "cuda":
        yield from _graphs(found, "fewer, wider kernels")
    if products is None:
        return
    if products < PRODUCTS and options.compile == "none":
        layout = {} if options.kv_cache in STATIC else {"kv_cache": "static"}
        yield from _if_valid(found, "fewer, longer operators", compile="default", **layout)
    multiplies_bf16 = {"avx512_bf16", "amx"} & set(found.caps.cpu_flags)
    if products >= PRODUCTS and options.precision == "fp32" and multiplies_bf16:
        yield from _if_valid(found, "this CPU multiplies it by itself", precision="bf16")


def _graphs(found: Findings, why: str) -> Iterator[str]:
    """Name the ways to run a step as few kernels in one graph that are not what ran."""
    layout = {} if found.options.kv_cache in STATIC else {"kv_cache": "static"}
    if found.options.compile not in GRAPHED:
        yield from _if_valid(found, why, compile="reduce-overhead", **layout)
    yield from _if_valid(found, why, compile="fused", **layout)


def fewer_bytes(found: Findings) -> Iterator[str]:
    """Near the floor only less work helps."""
    if found.bound == "arithmetic":
        if found.value("step.lanes") != found.value("step.rows"):
            yield "cfg_weight=1 halves the rows: no guidance, so listen to what that costs"
        return
    if (found.value("step.roofline") or 0.0) > 1:
        return  # memory is not what it waits for
    weights, cache = found.value("step.weights") or 0.0, found.value("step.cache") or 0.0
    if weights >= cache:
        read = f"{size(weights)} of weights are read a step"
        if found.options.precision in ("fp32", "tf32"):
            yield from _if_valid(found, f"{read}: half of it", precision="bf16")
        elif found.options.quantization == "none":
            yield from _if_valid(found, f"{read}: half of it", quantization="int8_weight_only")
    elif "int8" not in found.options.kv_cache:
        yield from _if_valid(
            found, f"{size(cache)} of keys and values are read a step", kv_cache="static_int8"
        )


def _if_valid(found: Findings, why: str, **changes: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield the advice if the device takes it and it is not what ran already."""
    before = canonical(found.options, found.caps)
    after = canonical(replace(before, **changes), found.caps)
    if after == before or refusal(after, found.caps) is not None:
        return
    new = [f"{k}={getattr(after, k)}" for k in changes if getattr(after, k) != getattr(before, k)]
    yield f"{' with '.join(new)} ({why})"


def on_batch(found: Findings) -> Iterator[str]:
    """Name the batch size whose measured throughput is best, if no spread explains the gain."""
    rows = {r.batch_size: r for r in found.batches if r.samples_per_s.value and r.latency.value}
    now = rows.get(found.options.batch_size)
    if now is None:
        return
    best = max(rows.values(), key=lambda r: r.samples_per_s.value or 0.0)
    gain = (best.samples_per_s.value or 0.0) / (now.samples_per_s.value or 1.0)
    # More at once in less time is no batch's doing: the machine was another one by then.
    later = (best.latency.value or 0.0) / (now.latency.value or 1.0)
    slowest, fastest = _end(best.latency, "high"), _end(now.latency, "low")
    least = best.batch_size / slowest / (now.batch_size / fastest)
    if best.batch_size > now.batch_size and least >= WORTH and later >= 1:
        yield (
            f"batch_size={best.batch_size} for throughput: {gain:.1f} times the sentences per "
            f"second, each after {later:.1f} times the latency (measured)"
        )


def _end(figure: Figure, name: str) -> float:
    """Return the smallest or the largest sample, or the only one."""
    end = getattr(figure, name)
    return float(figure.value or 0.0) if end is None else float(end)
