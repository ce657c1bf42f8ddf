"""A profile as headed tables of text, for whatever lays them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from search.labels import seconds
from search.profiling.record import Figure, Part, Profile

_BINARY = 1024.0
_NAMES = {
    "step.time": "one step",
    "step.rows": "sentences in it",
    "step.lanes": "rows of the decoder (guidance doubles them)",
    "step.live": "entries that a row attends to",
    "step.weights": "weights it must read",
    "step.cache": "keys and values it must read or write",
    "step.flops": "operations it must do",
    "step.intensity": "operations per byte",
    "step.bandwidth": "bandwidth it reached",
    "ceiling.bandwidth": "bandwidth of a copy here",
    "step.arithmetic": "arithmetic it reached",
    "ceiling.arithmetic": "arithmetic of a matrix product here",
    "step.floor": "the least it could take",
    "step.roofline": "share of the roofline",
    "step.gpu_busy": "of a step, the GPU works",
    "step.launches": "launches a step",
    "step.kernels": "kernels a step",
    "step.operators": "operator calls a step",
    "step.products": "of a step, matrix products and attention",
    "gpu.utilization": "GPU utilisation (NVML)",
    "gpu.power": "power (NVML)",
    "gpu.sm_clock": "SM clock (NVML)",
    "cpu.cores_busy": "CPU cores busy",
    "model.parameters": "parameters",
    "memory.weights_computed": "weights, computed",
    "memory.weights_seen": "weights, of the tensors there",
    "memory.weights_allocated": "weights, as the GPU's allocator grew",
    "memory.cache_slots": "KV cache: entries a row has room for, if it grows early in a sentence",
    "memory.cache_computed": "KV cache, computed",
    "memory.cache_seen": "KV cache, of the tensors there",
    "memory.peak": "peak while speaking",
}
_GROUPS = {
    "The decode step": tuple(n for n in _NAMES if n.startswith(("step.", "ceiling."))),
    "The device meanwhile": tuple(n for n in _NAMES if n.startswith(("gpu.", "cpu."))),
    "Memory": tuple(n for n in _NAMES if n.startswith(("model.", "memory."))),
}


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One table.

    Args:
        heading: What it is about.
        columns: Their names; the first one's cells are words, the others' figures.
        rows: Text.
        remark: What to read below it, or "".
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remark: str = ""


def sheets(profile: Profile) -> list[Sheet]:
    """Return every table of a profile, in the order to be read."""
    found = [_stages(profile)] if profile.stages else []
    for heading, names in _GROUPS.items():
        known = {n: profile.figures[n] for n in names if n in profile.figures}
        found.append(Sheet(heading=heading, columns=("", "", "spread"), rows=_rows(known)))
    return [*found, _batches(profile)]


def headline(profile: Profile) -> str:
    """Say in a line how fast it is."""
    words = [f"latency {write(profile.figures['latency.p50'])}"]
    is_alone = profile.options.get("batch_size", 1) == 1
    first = "first audio {}" if is_alone else "first audio of one sentence alone {}"
    named = {
        "ttfa": first, "audio": "{} of audio", "rtf": "RTF {}",
        "tokens_per_s": "{} tokens/s", "samples_per_s": "{} sentences/s",
    }  # fmt: skip
    for name, form in named.items():
        figure = profile.figures.get(name)
        if figure is not None and figure.value is not None:
            said = _plain(figure.value) if figure.unit == "1/s" else write(figure)
            words.append(form.format(said))
    return ", ".join(words)


def where(profile: Profile) -> str:
    """Say in a line what ran on what."""
    e = profile.environment
    threads = f", {e.get('n_threads')} thread(s)" if profile.device == "cpu" else ""
    return (
        f"{profile.model}: {profile.title}, on {e.get('device_name')} ({profile.device}{threads}), "
        f"torch {e.get('torch')}"
    )


def write(figure: Figure) -> str:
    """Write a figure with its unit, or why there is none."""
    value = figure.value
    if value is None:
        return f"unknown: {figure.unknown}"
    return _WRITERS.get(figure.unit, _plain)(value)


def spread(figure: Figure) -> str:
    """Write the smallest and the largest sample, where there are several."""
    if figure.low is None or figure.high is None:
        return ""
    ends = (write(Figure(value=v, unit=figure.unit)) for v in (figure.low, figure.high))
    return " to ".join(ends)


def _stages(profile: Profile) -> Sheet:
    parts: dict[str, list[Part]] = {}
    for part in profile.parts:
        parts.setdefault(part.stage, []).append(part)
    rows: list[tuple[str, ...]] = []
    for stage in profile.stages:
        s = stage.seconds
        ends = f"{seconds(min(s.samples))} to {seconds(max(s.samples))}"
        rows.append((stage.name, seconds(s.p50), ends, _percent(stage.share)))
        rows += [_part(part, "of which ") for part in parts.get(stage.name, ())]
    rows += [_part(part, "in all of them: ") for part in parts.get("", ())]
    return Sheet(
        heading="Where the time goes",
        columns=("stage", "median", "spread", "share"),
        rows=tuple(rows),
        remark=f"{profile.latency.n} calls, from warm; the stages add up to the call{_how(parts)}",
    )


def _how(parts: Mapping[str, list[Part]]) -> str:
    """Say that parts of stages are not timed in the calls."""
    hows: dict[str, list[str]] = {}
    for part in (p for stage, found in parts.items() if stage for p in found):
        if part.share.value is not None:
            hows.setdefault(part.how, []).append(part.name)
    return "".join(f"; {', '.join(names)}: {how}" for how, names in hows.items())


def _part(part: Part, prefix: str) -> tuple[str, ...]:
    return f"  {prefix}{part.name}", "", "", write(part.share)


def _rows(figures: Mapping[str, Figure]) -> tuple[tuple[str, ...], ...]:
    """Put figures in rows; those unknown for one reason share a row."""
    rows = [
        (_NAMES[name], write(figure), spread(figure))
        for name, figure in figures.items()
        if figure.value is not None
    ]
    reasons: dict[str, list[str]] = {}
    for name, figure in figures.items():
        if figure.value is None:
            reasons.setdefault(figure.unknown, []).append(_NAMES[name])
    rows += [("; ".join(names), f"unknown: {why}", "") for why, names in reasons.items()]
    return tuple(rows)


def _batches(profile: Profile) -> Sheet:
    rows: list[tuple[str, ...]] = []
    for row in profile.batches:
        cells = (row.samples_per_s, row.audio_s_per_s, row.peak_bytes)
        if row.latency.value is None:
            rows.append((str(row.batch_size), write(row.latency), "", "", "", ""))
            continue
        rows.append(
            (str(row.batch_size), write(row.latency), spread(row.latency), *map(write, cells))
        )
    return Sheet(
        heading="Batch size",
        columns=("sentences", "latency", "spread", "sentences/s", "audio s/s", "peak memory"),
        rows=tuple(rows),
        remark=f"ended there: {profile.batches_end}" if profile.batches_end else "",
    )


def _scaled(value: float, base: float, units: Iterator[str]) -> str:
    unit = next(units)
    for larger in units:
        if abs(value) < base:
            break
        value, unit = value / base, larger
    return f"{value:.3g} {unit}" if abs(value) < 999.5 else f"{value:,.0f} {unit}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


_WRITERS: Mapping[str, Callable[[float], str]] = {
    "s": seconds,
    "B": lambda value: _scaled(value, _BINARY, iter(("B", "KiB", "MiB", "GiB"))),
    "B/s": lambda value: _scaled(value, 1e3, iter(("B/s", "kB/s", "MB/s", "GB/s", "TB/s"))),
    "FLOP": lambda value: _scaled(value, 1e3, iter(("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP"))),
    "FLOP/s": lambda value: _scaled(
        value, 1e3, iter(("FLOP/s", "kFLOP/s", "MFLOP/s", "GFLOP/s", "TFLOP/s"))
    ),
    "FLOP/B": lambda value: f"{value:.2g}",
    "share": _percent,
    "%": lambda value: f"{value:.0f} %",
    "W": lambda value: f"{value:.0f} W",
    "MHz": lambda value: f"{value:,.0f} MHz",
    "1/s": lambda value: f"{_plain(value)}/s",  # the heading says of what
}
