"""How options, metrics and verdicts are written wherever a person reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tts.options import Sampling

if TYPE_CHECKING:
    from search.record import TrialRecord

_SAMPLING_MARKS = {
    "cfg_weight": "cfg",
    "temperature": "T",
    "top_k": "k",
    "top_p": "p",
    "min_p": "minp",
    "repetition_penalty": "rep",
}


def flat_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return one level of options: the sampling parameters come up beside the other axes."""
    flat = {name: value for name, value in options.items() if name != "sampling"}
    return {**flat, **options.get("sampling", {})}


def short_options(options: Mapping[str, Any]) -> str:
    """Name a configuration in a few words, such as ``bf16 reduce-overhead static b4``."""
    flat = flat_options(options)
    words = [str(flat.get("precision", "?"))]
    words += [str(flat[axis]) for axis in ("quantization",) if flat.get(axis, "none") != "none"]
    compiled = str(flat.get("compile", "none"))
    words.append("eager" if compiled == "none" else compiled)
    if flat.get("attention", "math") != "math":
        words.append(str(flat["attention"]))
    words.append({"none": "no-cache"}.get(str(flat.get("kv_cache")), str(flat.get("kv_cache"))))
    words.append(f"b{flat.get('batch_size', 1)}")
    if flat.get("batching", "static") != "static":
        words.append(str(flat["batching"]))
    return " ".join(words + _sampling_words(flat))


def _sampling_words(flat: Mapping[str, Any]) -> list[str]:
    neutral = Sampling()
    return [
        f"{mark}={flat[name]:g}"
        for name, mark in _SAMPLING_MARKS.items()
        if name in flat and flat[name] != getattr(neutral, name)
    ]


def run_name(record: TrialRecord) -> str:
    """Name a trial, such as ``012 bf16 reduce-overhead static b4``."""
    return f"{record.number:03d} {short_options(record.options)}"


def verdict_label(record: TrialRecord) -> str:
    """Return PASS, FAIL, UNDECIDED, UNGATED or UNARMED of a judged trial, else its role or status.

    One that was not heard because it could not win is ``surpassed``: no word on its quality.
    """
    if record.status != "completed":
        return record.status
    if record.role == "baseline":
        return "baseline"
    if record.role in ("confirm", "arming") and record.verdict is None:
        return "not judged"  # the baseline's second hearing, or one that only took the time
    if record.surpassed:
        return "surpassed"
    return str((record.verdict or {}).get("status", "UNGATED"))


def reasons(record: TrialRecord) -> list[str]:
    """Say why a trial was not accepted, most telling first; empty for an accepted one."""
    if record.failure is not None:
        return [f"{record.failure.kind} while {record.failure.phase}: {record.failure.message}"]
    if record.surpassed:
        n = (record.verdict or {}).get("n")  # older records were heard as far as their first look
        return [f"{f'stopped after {n} utterances' if n else 'not heard'}: {record.surpassed}"]
    said = [str(reason) for reason in (record.verdict or {}).get("reasons", ())]
    if not said and verdict_label(record) == "UNGATED":
        return ["no verdict: the gate had nothing to judge"]
    return said + ([record.early] if said and record.early else [])


def why_not(record: TrialRecord) -> str:
    """Say on one line why a trial was not accepted; empty for an accepted one."""
    said = [] if record.accepted else [*reasons(record), *record.slo_violations]
    return "; ".join(one_line(reason).rstrip(".") for reason in said)


def one_line(text: str, limit: int = 160) -> str:
    """Squeeze a text onto one line of at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def seconds(value: float | None) -> str:
    """Write seconds with three figures and a unit a person reads, such as ``12.3 ms``."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if abs(value) < 1:
        return f"{value * 1e3:.3g} ms" if value < 0.9995 else "1.00 s"
    return f"{value:.3g} s" if value < 100 else clock(value)


def clock(value: float) -> str:
    """Write a length of time as ``9:05`` or ``1:02:03``."""
    whole = max(0, round(value))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def size(value: float | None) -> str:
    """Write bytes in MiB or GiB."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value / 2**20:.0f} MiB" if value < 2**30 else f"{value / 2**30:.2f} GiB"


def _plain(digits: int) -> Callable[[float | None], str]:
    def write(value: float | None) -> str:
        return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"

    return write


def _rate(value: float | None) -> str:
    """Write a rate with two figures at least, such as ``0.43`` or ``1,637``."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:#.2g}"


def _percent(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric of a table.

    Args:
        metric: Its key in ``TrialRecord.metrics``.
        title: Its heading.
        write: Turns a value (None where it is missing) into text.
        lower_is_better: Which way is good.
    """

    metric: str
    title: str
    write: Callable[[float | None], str]
    lower_is_better: bool = True


COLUMNS = (
    Column(metric="latency_p50_s", title="latency p50", write=seconds),
    Column(metric="latency_p95_s", title="p95", write=seconds),
    Column(metric="ttfa_p50_s", title="first audio", write=seconds),
    Column(metric="rtf", title="RTF", write=_plain(3)),
    Column(
        metric="throughput_samples_per_s", title="samples/s", write=_rate, lower_is_better=False
    ),
    Column(metric="tokens_per_s", title="tokens/s", write=_rate, lower_is_better=False),
    Column(metric="peak_memory_bytes", title="peak memory", write=size),
    Column(metric="dnsmos_ovrl", title="OVRL", write=_plain(2), lower_is_better=False),
    Column(metric="dnsmos_p808", title="P808", write=_plain(2), lower_is_better=False),
    Column(metric="wer", title="WER", write=_percent),
    Column(metric="pesq_wb", title="PESQ", write=_plain(2), lower_is_better=False),
)
"""The metrics people compare, in the order they read them."""


def column(metric: str) -> Column:
    """Return how a metric is written; one without a column of its own is a plain number."""
    known = {c.metric: c for c in COLUMNS}
    fallback = seconds if metric.endswith("_s") else _plain(4)
    return known.get(metric, Column(metric=metric, title=metric, write=fallback))
