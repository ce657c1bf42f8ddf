"""Which options a device can take, and which mean the same; known before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args, get_type_hints

from tts.device import DeviceCaps
from tts.errors import InapplicableError
from tts.options import Options

Rule = Callable[[Options, DeviceCaps], tuple[str, str] | None]


def refusal(options: Options, caps: DeviceCaps) -> InapplicableError | None:
    """Return why these options cannot run on this device, or None if they can."""
    options = canonical(options, caps)
    for rule in RULES:
        found = rule(options, caps)
        if found is not None:
            axis, reason = found
            return InapplicableError(axis, getattr(options, axis), reason)
    return None


def canonical(options: Options, caps: DeviceCaps) -> Options:
    """Return the one representative of all options that run the same on this device."""
    changes: dict[str, object] = {"sampling": options.sampling.canonical()}
    if caps.type == "cpu" and options.compile == "reduce-overhead":
        changes["compile"] = "default"  # a CPU has no CUDA graphs, the only difference
    return replace(options, **changes)  # type: ignore[arg-type]


def choices(axis: str, caps: DeviceCaps) -> tuple[str, ...]:
    """Return the values of one axis that can run on this device in some combination.

    Raises:
        ValueError: No such axis, or one that is a number.
    """
    values = get_args(get_type_hints(Options).get(axis))
    if not values:
        raise ValueError(f"axis {axis!r} is not one of precision, quantization, compile, ...")
    return tuple(v for v in values if any(_runs(axis, v, base, caps) for base in _BASES))


def _runs(axis: str, value: str, base: Options, caps: DeviceCaps) -> bool:
    options = replace(base, **{axis: value})  # type: ignore[arg-type]
    is_itself = getattr(canonical(options, caps), axis) == value
    return is_itself and refusal(options, caps) is None


_BASES = tuple(
    Options(precision=precision, compile=compile_mode, kv_cache=kv_cache)
    for precision in ("fp32", "bf16")
    for compile_mode in ("none", "default")
    for kv_cache in ("dynamic", "static")
)


def _tf32(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if options.precision == "tf32" and (caps.capability or (0, 0)) < (8, 0):
        return "precision", f"TF32 needs an NVIDIA GPU of sm_80 or later, this is {caps.name}"
    return None


def _cpu_attention(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if caps.type == "cpu" and options.attention in ("efficient", "cudnn"):
        return "attention", "a CUDA kernel; a CPU has math and flash"
    return None


def _cuda_flash(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if caps.type != "cuda" or options.attention not in ("flash", "cudnn"):
        return None
    if options.precision in ("fp32", "tf32"):
        return "attention", "this kernel takes 16-bit numbers only: bf16 or fp16"
    if (caps.capability or (0, 0)) < (8, 0):
        return "attention", f"needs sm_80 or later, this is {caps.name}"
    if options.attention == "flash" and options.kv_cache in ("static", "static_int8"):
        return "attention", "flash takes no mask, and a static cache needs one"
    if options.attention == "flash" and options.kv_cache == "dynamic" and options.batch_size > 1:
        return "attention", "flash takes no mask, and rows of unequal length need one"
    return None


RULES: tuple[Rule, ...] = (_tf32, _cpu_attention, _cuda_flash)
