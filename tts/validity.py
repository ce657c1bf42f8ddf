"""Which options a device can take, and which mean the same; known before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args, get_type_hints

from tts.device import DeviceCaps
from tts.errors import InapplicableError
from tts.options import STATIC, Options

# The decoder's rows that ``tts.fused`` multiplies by quantized matrices, at the most.
FUSED_QUANTIZED_LANES = 4

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
    if caps.type == "cpu" and options.compile in ("reduce-overhead", "max-autotune"):
        # A CPU has no CUDA graphs, and inductor tunes its matrix products only for frozen
        # weights (tried: slower to run than the default, and a minute to compile).
        changes["compile"] = "default"
    if options.batch_size == 1:
        changes["batching"] = "static"
    if options.compile == "fused":
        # The fused step holds its own attention, which cuts the cache among programs or blocks:
        # whichever was asked for, it is what runs.
        changes["attention"] = "split_k"
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


# Every value of an axis that runs at all runs beside one of these.
_BASES = (
    Options(),
    Options(kv_cache="static"),
    Options(precision="bf16"),
    Options(precision="bf16", kv_cache="static", batch_size=32),
)
_STATIC_NAMES = f"{', '.join(STATIC[:-1])} or {STATIC[-1]}"


def _tf32(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if options.precision == "tf32" and (caps.capability or (0, 0)) < (8, 0):
        return "precision", f"TF32 needs an NVIDIA GPU of sm_80 or later, this is {caps.name}"
    return None


def _cpu_compile(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if caps.type == "cpu" and options.compile in ("cuda-graph", "fused"):
        return "compile", "needs an NVIDIA GPU; a CPU has none and default"
    return None


def _cpu_attention(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if caps.type != "cpu":
        return None
    if options.attention in ("efficient", "cudnn", "split_k"):
        return "attention", "a CUDA kernel; a CPU has math, flash and flex"
    if options.attention == "flex" and "avx2" not in caps.cpu_flags:
        return "attention", f"flex attention needs a CPU with AVX2, this is {caps.name}"
    return None


def _cuda_flash(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if caps.type != "cuda" or options.attention not in ("flash", "cudnn"):
        return None
    if options.precision in ("fp32", "tf32"):
        return "attention", "this kernel takes 16-bit numbers only: bf16 or fp16"
    if (caps.capability or (0, 0)) < (8, 0):
        return "attention", f"needs sm_80 or later, this is {caps.name}"
    if options.attention == "flash" and options.kv_cache in STATIC:
        return "attention", "flash takes no mask, and a static cache needs one"
    if options.attention == "flash" and options.kv_cache == "dynamic" and options.batch_size > 1:
        return "attention", "flash takes no mask, and rows of unequal length need one"
    return None


def _fused(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if options.compile != "fused":
        return None
    if (caps.capability or (0, 0)) < (8, 0):
        return "compile", f"our kernels need sm_80 or later, this is {caps.name}"
    if options.precision == "tf32":
        return "compile", "our kernels have no TF32: use fp32, bf16 or fp16"
    if options.quantization not in ("none", "int8_weight_only", "int4_weight_only"):
        return "quantization", (
            "the fused step reads weights as loaded, or int8 or int4 weight-only; "
            "use another compile mode"
        )
    n_lanes = options.batch_size * (1 if options.sampling.cfg_weight == 1 else 2)
    if options.quantization != "none" and n_lanes > FUSED_QUANTIZED_LANES:
        return "quantization", (
            f"our products of 8 and 4 bits take {FUSED_QUANTIZED_LANES} rows at most, and this "
            f"batch has {n_lanes}, guidance included"
        )
    return None


def _split_k(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if options.attention == "split_k" and (caps.capability or (0, 0)) < (8, 0):
        return "attention", f"our kernel needs sm_80 or later, this is {caps.name}"
    return None


def _cache_shapes(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    del caps
    if options.kv_cache not in STATIC:
        return _growing(options)
    if options.attention == "flex" and options.kv_cache == "paged":
        return "attention", "flex attention reads slots in a row, and pages lie anywhere"
    return None


def _growing(options: Options) -> tuple[str, str] | None:
    """Refuse what takes one shape of cache for a cache that grows with every step."""
    every = f"with kv_cache={options.kv_cache} every step has another shape"
    if options.compile in ("cuda-graph", "fused"):
        return "compile", f"{every}, and a captured graph has one; use {_STATIC_NAMES}"
    if options.compile != "none":
        return "compile", f"{every} and would be compiled anew; use {_STATIC_NAMES}"
    if options.attention == "flex":
        return "attention", f"{every} and would be compiled anew; use {_STATIC_NAMES}"
    if options.attention == "split_k":
        return "attention", f"our kernel reads buffers of a fixed size; use {_STATIC_NAMES}"
    return None


def _batching(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    del caps
    able = ("static", "static_int8", "paged")
    if options.batching == "continuous" and options.kv_cache not in able:
        return "batching", (
            f"rows that come and go need buffers of their own: kv_cache={', '.join(able[:-1])} "
            f"or {able[-1]}, not {options.kv_cache}"
        )
    return None


def _int4(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if options.quantization != "int4_weight_only" or options.compile == "fused":
        return None
    if (caps.capability or (0, 0)) < (8, 0):
        return "quantization", f"torchao's int4 kernel needs a GPU of sm_80 or later: {caps.name}"
    if options.precision != "bf16":
        return "quantization", "torchao's int4 kernel takes bf16 activations only"
    return None


def _fp8(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if options.quantization == "fp8" and (caps.capability or (0, 0)) < (8, 9):
        return "quantization", f"fp8 needs a GPU of sm_89 or later, this is {caps.name}"
    return None


def _int8_rows(options: Options, caps: DeviceCaps) -> tuple[str, str] | None:
    if options.quantization != "int8_dynamic" or caps.type != "cuda":
        return None
    if options.batch_size <= 16:
        return "quantization", "the GPU's int8 product needs more than 16 rows: batch_size >= 17"
    return None


RULES: tuple[Rule, ...] = (
    _tf32,
    _cpu_compile,
    _cpu_attention,
    _cuda_flash,
    _fused,
    _split_k,
    _cache_shapes,
    _batching,
    _int4,
    _fp8,
    _int8_rows,
)
