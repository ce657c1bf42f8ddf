"""A decode step held against what this device was measured to do in the same run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from evaluation.roofline import (
    Ceiling,
    Roofline,
    TooLittleMemoryError,
    measure_copy,
    measure_product,
)
from search.profiling.record import Figure, Part, unknown
from search.profiling.subject import Subject
from tts.profiled import StepCost


@dataclass(kw_only=True)
class Found:
    """What was told of the step and of memory, and the parts of stages."""

    figures: dict[str, Figure]
    parts: list[Part] = field(default_factory=list)
    bound: str = ""
    notes: list[str] = field(default_factory=list)


def measure_ceilings(subject: Subject, dtype: str, product: str, found: Found) -> None:
    """Measure what can be; a product in ``product``, where that is another format, cannot."""
    device = subject.caps.torch_name
    try:
        _ceiling("bandwidth", measure_copy(device, synchronise=subject.synchronise), found)
    except TooLittleMemoryError as error:
        found.figures["ceiling.bandwidth"] = unknown(str(error), "B/s")
    if product:
        why = f"products in {product} are not measured"
        found.figures["ceiling.arithmetic"] = unknown(why, "FLOP/s")
        return
    multiplied = measure_product(device, dtype, synchronise=subject.synchronise)
    if subject.options.precision == "tf32":
        multiplied = replace(multiplied, how=f"{multiplied.how}, multiplied in TF32")
    _ceiling("arithmetic", multiplied, found)


def _ceiling(name: str, ceiling: Ceiling, found: Found) -> None:
    found.figures[f"ceiling.{name}"] = Figure(
        value=ceiling.best, unit=ceiling.rates.unit, low=min(ceiling.rates.samples),
        high=ceiling.best,
    )  # fmt: skip
    found.notes.append(f"ceiling of {name}: the best of {ceiling.rates.n}, {ceiling.how}")


def hold_against(subject: Subject, cost: StepCost, seconds: float, found: Found) -> None:
    """Tell how near a step comes to the ceilings, where these are known."""
    measure_ceilings(subject, cost.dtype, cost.product, found)
    found.figures |= {
        "step.bandwidth": Figure(value=cost.total_bytes / seconds, unit="B/s"),
        "step.arithmetic": Figure(value=cost.flops / seconds, unit="FLOP/s"),
    }
    ceilings = [found.figures[f"ceiling.{name}"] for name in ("bandwidth", "arithmetic")]
    bandwidth, arithmetic = (ceiling.value for ceiling in ceilings)
    if bandwidth is None or arithmetic is None:
        why = next(ceiling.unknown for ceiling in ceilings if ceiling.value is None)
        found.figures |= {
            "step.floor": unknown(why, "s"), "step.roofline": unknown(why, "share")
        }  # fmt: skip
        return
    roofline = Roofline(
        n_bytes=cost.total_bytes, flops=cost.flops, seconds=seconds, bytes_per_s=bandwidth,
        flops_per_s=arithmetic,
    )  # fmt: skip
    found.bound = roofline.bound
    found.figures |= {
        "step.floor": Figure(value=roofline.floor_s, unit="s"),
        "step.roofline": Figure(value=roofline.share, unit="share"),
    }
    if roofline.share > 1:
        found.notes.append(
            "the step is faster than the memory's ceiling allows: what it reads stays in a cache"
            if roofline.bound == "memory"
            else "the step is faster than the product that was measured allows"
        )
