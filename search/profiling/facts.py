"""A profile as flat parameters, metrics and tags, for an experiment tracker."""

from __future__ import annotations

from search.labels import flat_options
from search.profiling.record import Profile
from search.profiling.sheet import where

_LONGEST = 6000
# What a sweep tells of a trial, by the name that it has there.
_AS_SWEEPS = {
    "latency.p50": "latency_p50_s",
    "latency.p95": "latency_p95_s",
    "ttfa": "ttfa_p50_s",
    "samples_per_s": "throughput_samples_per_s",
    "audio_s_per_s": "throughput_audio_s_per_s",
    "memory.peak": "peak_memory_bytes",
    "load": "load_s",
}
_SUFFIXES = {
    "s": "_s", "B": "_bytes", "B/s": "_bytes_per_s", "FLOP": "_flop", "FLOP/s": "_flop_per_s",
    "FLOP/B": "_flop_per_byte", "share": "_share", "%": "_pct", "W": "_w", "MHz": "_mhz",
}  # fmt: skip


def params(profile: Profile) -> dict[str, str]:
    """Return the options that ran, the model and the device, as text."""
    ran = {"model": profile.model, "device": profile.device, **flat_options(profile.options)}
    return {key: str(value)[:_LONGEST] for key, value in ran.items()}


def metrics(profile: Profile) -> list[tuple[str, float, int]]:
    """Return (key, value, step): what is known, the raw samples and the batch sizes as steps."""
    figures = profile.figures.items()
    found = [(_key(k, f.unit), f.value, 0) for k, f in figures if f.value is not None]
    found += [("samples/latency_s", v, i) for i, v in enumerate(profile.latency.samples)]
    for stage in profile.stages:
        found.append((f"stage/{stage.name}_share", stage.share, 0))
        found += [(f"stage/{stage.name}_s", v, i) for i, v in enumerate(stage.seconds.samples)]
    for part in profile.parts:
        if part.share.value is not None:
            found.append((f"part/{part.name}_share", part.share.value, 0))
    for row in profile.batches:
        named = {"latency_s": row.latency, "samples_per_s": row.samples_per_s}
        found += [
            (f"batch/{key}", figure.value, row.batch_size)
            for key, figure in named.items()
            if figure.value is not None
        ]
    return [(_safe(key), float(value), step) for key, value, step in found]


def tags(profile: Profile) -> dict[str, str]:
    """Return what a person looks for: where it ran and what takes the time."""
    said = {"ran": where(profile)}
    for i, bottleneck in enumerate(profile.bottlenecks, start=1):
        said[f"bottleneck.{i}"] = " ".join([bottleneck.words, *bottleneck.advice])
    return {key: value[:_LONGEST] for key, value in said.items()}


def _key(name: str, unit: str) -> str:
    """Name a figure with its unit, as sweeps do."""
    return _AS_SWEEPS.get(name) or name + _SUFFIXES.get(unit, "")


def _safe(name: str) -> str:
    """Keep what a tracker takes in a key: a model may call its stages anything."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-./ ") else "_" for c in name)
