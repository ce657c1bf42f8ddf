"""The configurations of the embedded voice that ``voice.py`` times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tts.device import DeviceCaps
from tts.options import Options, Sampling
from tts.validity import canonical, choices, refusal

BASELINE = "fp32 eager"
AXES = ("precision", "quantization", "compile", "attention", "kv_cache")
_STATIC: dict[str, Any] = {"kv_cache": "static"}
_BF16: dict[str, Any] = {"precision": "bf16", **_STATIC}
# In order of importance: the time may not suffice for all.
_CUDA: dict[str, dict[str, Any]] = {
    BASELINE: {},
    "bf16 fused": {**_BF16, "compile": "fused", "attention": "split_k"},
    "bf16 cuda-graph": {**_BF16, "compile": "cuda-graph"},
    "bf16 reduce-overhead": {**_BF16, "compile": "reduce-overhead"},
    "bf16 reduce-overhead, split-K": {
        **_BF16, "compile": "reduce-overhead", "attention": "split_k",
    },
    "fp32 reduce-overhead": {**_STATIC, "compile": "reduce-overhead"},
    "fp32 fused": {**_STATIC, "compile": "fused", "attention": "split_k"},
}  # fmt: skip
_CPU_COMBINED: dict[str, dict[str, Any]] = {
    "bf16 compiled static": {**_BF16, "compile": "default"},
    "bf16 compiled bucketed": {"precision": "bf16", "compile": "default", "kv_cache": "bucketed"},
    "fp32 compiled bucketed": {"compile": "default", "kv_cache": "bucketed"},
    "bf16 flash": {"precision": "bf16", "attention": "flash"},
}


def ways(caps: DeviceCaps) -> dict[str, Options]:
    """Return the ways to time on a device, the baseline first; the device takes all of them."""
    if caps.type == "cuda":
        return {name: Options(**values) for name, values in _CUDA.items()}
    combined = {name: Options(**values) for name, values in _CPU_COMBINED.items()}
    return {BASELINE: Options(), **single_changes(caps), **combined}


def single_changes(caps: DeviceCaps) -> dict[str, Options]:
    """Return one way per value of each axis, over a static cache where it needs one."""
    found: dict[str, Options] = {}
    for axis in AXES:
        for value in choices(axis, caps):
            if value == getattr(Options(), axis):
                continue
            change: dict[str, Any] = {axis: value}
            for base in (Options(), Options(kv_cache="static")):
                options = replace(base, **change)
                if refusal(options, caps) is None:
                    needs = "" if base == Options() else ", static cache"
                    found[f"{axis} {value}{needs}"] = options
                    break
    return found


def combination(
    pilot: Mapping[str, float], found: Mapping[str, Options], caps: DeviceCaps
) -> Options | None:
    """Combine the quickest value of every axis, where it was quicker than the baseline.

    Args:
        pilot: Seconds by way; only those that change one axis, and the cache that it needs, count.
        found: Options by way.
        caps: Of the device. While it refuses the whole, the axis that gained least goes.

    Returns:
        None where fewer than two axes gained, or another way is the same.
    """
    gains: dict[str, tuple[float, Any]] = {}
    for name in single_changes(caps):
        axis = name.partition(" ")[0]
        gain = pilot[BASELINE] / pilot[name] if name in pilot else 0.0
        if gain > max(1.0, gains.get(axis, (1.0,))[0]):
            gains[axis] = gain, getattr(found[name], axis)
    while len(gains) >= 2:
        changes = {axis: value for axis, (_, value) in gains.items()}
        for options in (Options(**changes), Options(**{**changes, "kv_cache": "static"})):
            if refusal(options, caps) is None:
                known = {canonical(o, caps) for o in found.values()}
                return None if canonical(options, caps) in known else options
        del gains[min(gains, key=lambda axis: gains[axis][0])]
    return None


def unguided(options: Options) -> Options:
    """Return the same without classifier-free guidance: half the decoder's rows."""
    return replace(options, sampling=Sampling(cfg_weight=1.0))


def continuous(options: Options) -> Options:
    """Return the same with continuous batching, over a cache whose rows can come and go."""
    has_rows = options.kv_cache in ("static", "static_int8", "paged")
    return replace(
        options, batching="continuous", kv_cache=options.kv_cache if has_rows else "static"
    )
