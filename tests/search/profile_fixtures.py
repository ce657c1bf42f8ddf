"""Hand-made findings and profiles, for tests that need no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.timing import Measurement
from search.profiling.advice import Findings
from search.profiling.record import (
    NOT_ON_CPU,
    BatchRow,
    Bottleneck,
    Figure,
    Part,
    Profile,
    stages_of,
    unknown,
)
from tts.device import DeviceCaps
from tts.options import Options

CPU = DeviceCaps(
    type="cpu", name="A CPU", torch_name="cpu", capability=None, memory_bytes=2**34, n_threads=1,
    cpu_flags=("avx2", "avx512", "avx512_bf16"),
)  # fmt: skip
GPU = DeviceCaps(
    type="cuda", name="A GPU", torch_name="cuda:0", capability=(9, 0), memory_bytes=2**37,
    n_threads=16, cpu_flags=("avx2",),
)  # fmt: skip
LATENCY = Measurement(name="latency_s", unit="s", samples=(1.0, 1.0))
TOLD = {"text_s": 0.01, "prefill_s": 0.09, "decode_s": 0.6, "vocoder_s": 0.2}
STEP = {"step.time": 0.01, "step.roofline": 0.2, "tokens": 60.0, "latency.p50": 1.0, "audio": 3.0}


def share(value: float) -> Figure:
    return Figure(value=value, unit="share")


def row(size: int, per_s: float) -> BatchRow:
    return BatchRow(
        batch_size=size,
        latency=Figure(value=size / per_s, unit="s"),
        samples_per_s=Figure(value=per_s, unit="1/s"),
        audio_s_per_s=Figure(value=3 * per_s),
        peak_bytes=Figure(value=1e8 * size, unit="B"),
    )


def findings(
    caps: DeviceCaps = CPU,
    told: Mapping[str, float] | None = None,
    values: Mapping[str, float] | None = None,
    **changes: Any,  # noqa: ANN401 - any field
) -> Findings:
    """The decoder takes 60 %, the vocoder 20, prefill 9, text 1, and 10 lie outside."""
    figures = {name: Figure(value=v) for name, v in {**STEP, **(values or {})}.items()}
    made: dict[str, Any] = {
        "options": Options(),
        "caps": caps,
        "stages": stages_of(LATENCY, [TOLD if told is None else told] * 2),
        "parts": (),
        "figures": figures,
        "bound": "memory",
    }
    return Findings(**{**made, **changes})


def profile(**changes: Any) -> Profile:  # noqa: ANN401 - any field
    made: dict[str, Any] = {
        "title": "fp32 eager dynamic b1",
        "model": "embedded",
        "device": "cpu",
        "options": Options().to_mapping(),
        "environment": {"device_name": "A CPU", "n_threads": 1, "torch": "2.11.0"},
        "texts": ("Good <b>morning</b> & hello.",),
        "latency": LATENCY,
        "stages": stages_of(LATENCY, [TOLD] * 2),
        "parts": (
            Part(name="sampling", stage="decode", share=share(0.05), how="by the host's time"),
            Part(name="copies", stage="", share=unknown(NOT_ON_CPU, "share"), how=""),
        ),
        "figures": {
            "latency.p50": Figure(value=1.0, unit="s", low=0.9, high=1.1),
            "rtf": Figure(value=0.33),
            "step.time": Figure(value=0.0101, unit="s", low=0.01, high=0.011),
            "step.roofline": share(0.25),
            "step.intensity": Figure(value=0.8, unit="FLOP/B"),
            "step.arithmetic": Figure(value=1.6e9, unit="FLOP/s"),
            "ceiling.bandwidth": Figure(value=8e9, unit="B/s"),
            "ceiling.arithmetic": Figure(value=1e11, unit="FLOP/s"),
            "step.launches": unknown(NOT_ON_CPU),
            "step.kernels": unknown(NOT_ON_CPU),
            "memory.weights_seen": Figure(value=81.4 * 2**20, unit="B"),
        },
        "batches": (row(1, 1.0), row(2, 1.5)),
        "batches_end": "4 would have taken longer than 60 s allow",
        "bottlenecks": (
            Bottleneck(name="decode", share=0.6, words="Decoding takes 60%.", advice=("a & b",)),
            Bottleneck(name="vocoder", share=0.2, words="The vocoder takes 20%."),
        ),
        "applied": {"precision": "fp32 (0 modules): <as loaded>"},
        "notes": ("a note",),
    }
    return Profile(**{**made, **changes})
