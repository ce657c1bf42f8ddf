"""Real configurations of the embedded voice for the gate to tell apart, good and bad.

All speak 64 utterances at a time, which is part of the configuration. The order mixes numerics
with sampling, so that a run that is stopped early has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BATCH = 64
BASELINE = "baseline"


def _plain(**options: Any) -> dict[str, Any]:  # noqa: ANN401 - as in a trial's record
    return {"batch_size": BATCH, **options}


def _drawn(**sampling: float) -> dict[str, Any]:
    return _plain(sampling=sampling)


CONFIGURATIONS: Mapping[str, dict[str, Any]] = {
    BASELINE: _plain(),
    "bf16": _plain(precision="bf16"),
    "cfg 0.5": _drawn(cfg_weight=0.5),
    "temperature 1.3": _drawn(temperature=1.3),
    "int8 cache": _plain(kv_cache="static_int8"),
    "top-p 0.5": _drawn(top_p=0.5),
    "int8 weights": _plain(quantization="int8_weight_only"),
    "cfg 5": _drawn(cfg_weight=5.0),
    "greedy": _drawn(top_k=1),
    "fp16": _plain(precision="fp16"),
    "top-p 1": _drawn(top_p=1.0),
    "int4 weights": _plain(precision="bf16", quantization="int4_weight_only"),
    "temperature 0.3": _drawn(temperature=0.3),
    "repetition penalty 1.3": _drawn(repetition_penalty=1.3),
    "int8 dynamic": _plain(quantization="int8_dynamic"),
    "cfg 1": _drawn(cfg_weight=1.0),
    "temperature 1.5, top-p 1": _drawn(temperature=1.5, top_p=1.0),
    "efficient attention": _plain(attention="efficient"),
    "top-k 5": _drawn(top_k=5),
    "fp8": _plain(precision="bf16", quantization="fp8"),
    "cfg 3": _drawn(cfg_weight=3.0),
    "min-p 0.1": _drawn(min_p=0.1, top_p=1.0),
    "bf16, int8 weights, int8 cache": _plain(
        precision="bf16", quantization="int8_weight_only", kv_cache="static_int8"
    ),
    "temperature 1": _drawn(temperature=1.0),
    "static cache": _plain(kv_cache="static"),
    "top-k 50": _drawn(top_k=50),
    "repetition penalty 1.1": _drawn(repetition_penalty=1.1),
    "bf16, static cache, cudnn": _plain(precision="bf16", kv_cache="static", attention="cudnn"),
    "cfg 0": _drawn(cfg_weight=0.0),
    "tf32": _plain(precision="tf32"),
    "temperature 0.5": _drawn(temperature=0.5),
    "cfg 1, temperature 1.2": _drawn(cfg_weight=1.0, temperature=1.2),
}
"""Name to options; what is not named stands at its default."""
