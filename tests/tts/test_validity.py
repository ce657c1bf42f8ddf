from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pytest

from tts.device import DeviceCaps, probe
from tts.options import Options, Sampling
from tts.validity import canonical, choices, refusal

COMMON: dict[str, Any] = {"memory_bytes": 2**35, "n_threads": 2, "cpu_flags": ("avx2",)}
CPU = DeviceCaps(type="cpu", name="a CPU", torch_name="cpu", capability=None, **COMMON)
H200 = DeviceCaps(type="cuda", name="H200", torch_name="cuda:0", capability=(9, 0), **COMMON)
A100 = DeviceCaps(type="cuda", name="A100", torch_name="cuda:0", capability=(8, 0), **COMMON)
T4 = DeviceCaps(type="cuda", name="T4", torch_name="cuda:0", capability=(7, 5), **COMMON)

OLD_CPU = replace(CPU, cpu_flags=())
ALONE = Sampling(cfg_weight=1.0)
IN_TURN: dict[str, Any] = {"batching": "continuous", "batch_size": 4}
FUSED: dict[str, Any] = {"compile": "fused", "precision": "bf16", "kv_cache": "static"}

REFUSED = [
    (CPU, {"precision": "tf32"}, "precision", "TF32"),
    (CPU, {"attention": "efficient"}, "attention", "CUDA kernel"),
    (CPU, {"attention": "cudnn"}, "attention", "CUDA kernel"),
    (CPU, {"attention": "split_k", "kv_cache": "static"}, "attention", "CUDA kernel"),
    (OLD_CPU, {"attention": "flex", "kv_cache": "static"}, "attention", "AVX2"),
    (CPU, {"attention": "flex"}, "attention", "another shape"),
    (CPU, {"attention": "flex", "kv_cache": "paged"}, "attention", "pages lie anywhere"),
    (CPU, {"compile": "cuda-graph", "kv_cache": "static"}, "compile", "NVIDIA GPU"),
    (CPU, {"compile": "fused", "kv_cache": "static"}, "compile", "NVIDIA GPU"),
    (CPU, {"quantization": "int4_weight_only", "precision": "bf16"}, "quantization", "sm_80"),
    (CPU, {"quantization": "fp8"}, "quantization", "sm_89"),
    (CPU, {"compile": "max-autotune"}, "compile", "another shape"),
    (H200, {"compile": "default", "kv_cache": "none"}, "compile", "another shape"),
    (H200, {"compile": "cuda-graph"}, "compile", "a captured graph has one"),
    (H200, {"compile": "fused", "kv_cache": "none"}, "compile", "a captured graph has one"),
    (H200, {"compile": "fused", "kv_cache": "static", "precision": "tf32"}, "compile", "TF32"),
    (H200, {**FUSED, "quantization": "fp8"}, "quantization", "int8 or int4"),
    (H200, {**FUSED, "quantization": "int8_dynamic", "batch_size": 32}, "quantization", "int8 or"),
    (H200, {**FUSED, "quantization": "int8_weight_only", "batch_size": 3}, "quantization", "6, g"),
    (T4, {"compile": "fused", "kv_cache": "static"}, "compile", "sm_80"),
    (T4, {"attention": "split_k", "kv_cache": "static"}, "attention", "sm_80"),
    (H200, {"attention": "split_k"}, "attention", "fixed size"),
    (H200, {"attention": "flex", "kv_cache": "none"}, "attention", "another shape"),
    (H200, {"attention": "flash"}, "attention", "16-bit"),
    (H200, {"attention": "cudnn", "precision": "tf32"}, "attention", "16-bit"),
    (H200, {"attention": "flash", "precision": "bf16", "kv_cache": "static"}, "attention", "mask"),
    (
        H200,
        {"attention": "flash", "precision": "bf16", "kv_cache": "bucketed"},
        "attention",
        "mask",
    ),
    (H200, {"attention": "flash", "precision": "bf16", "batch_size": 2}, "attention", "unequal"),
    (H200, {"quantization": "int4_weight_only", "precision": "fp16"}, "quantization", "bf16"),
    (H200, {"quantization": "int8_dynamic", "batch_size": 16}, "quantization", "17"),
    (CPU, {**IN_TURN, "kv_cache": "bucketed"}, "batching", "come and go"),
    (H200, {**IN_TURN, "kv_cache": "dynamic"}, "batching", "not dynamic"),
    (A100, {"quantization": "fp8"}, "quantization", "sm_89"),
    (T4, {"precision": "tf32"}, "precision", "sm_80"),
    (T4, {"attention": "flash", "precision": "fp16"}, "attention", "sm_80"),
]

ALLOWED = [
    (CPU, {}),
    (CPU, {"precision": "fp16", "attention": "flash", "kv_cache": "static", "batch_size": 8}),
    (CPU, {"quantization": "int8_dynamic", "compile": "default", "kv_cache": "static_int8"}),
    (CPU, {"attention": "flex", "kv_cache": "bucketed", "compile": "default"}),
    *((CPU, {**IN_TURN, "kv_cache": cache}) for cache in ("static", "static_int8", "paged")),
    (H200, {**IN_TURN, **FUSED}),
    (H200, {"attention": "flash", "precision": "bf16"}),
    (H200, {"attention": "flash", "precision": "bf16", "kv_cache": "none", "batch_size": 8}),
    (H200, {"attention": "cudnn", "precision": "bf16", "kv_cache": "static"}),
    (H200, {"quantization": "fp8", "precision": "bf16"}),
    (H200, {"quantization": "int8_dynamic", "batch_size": 32}),
    (H200, {"compile": "reduce-overhead", "kv_cache": "static_int8", "precision": "tf32"}),
    (H200, {"compile": "cuda-graph", "kv_cache": "bucketed", "quantization": "int8_weight_only"}),
    (H200, {"compile": "fused", "kv_cache": "static_int8"}),
    (H200, {**FUSED, "quantization": "int8_weight_only"}),
    (H200, {**FUSED, "quantization": "int4_weight_only", "precision": "fp16"}),
    (H200, {**FUSED, "quantization": "int8_weight_only", "batch_size": 4, "sampling": ALONE}),
    (H200, {"attention": "split_k", "kv_cache": "static_int8", "compile": "max-autotune"}),
    (H200, {"attention": "split_k", "kv_cache": "paged", "compile": "cuda-graph"}),
    (H200, {"attention": "flex", "kv_cache": "bucketed", "compile": "cuda-graph"}),
    (A100, {"quantization": "int4_weight_only", "precision": "bf16"}),
]


@pytest.mark.parametrize(("caps", "options", "axis", "words"), REFUSED)
def test_refused_with_its_reason(
    caps: DeviceCaps, options: dict[str, Any], axis: str, words: str
) -> None:
    found = refusal(Options(**options), caps)
    assert found is not None
    assert found.axis == axis
    assert words in found.reason


@pytest.mark.parametrize(("caps", "options"), ALLOWED)
def test_allowed(caps: DeviceCaps, options: dict[str, Any]) -> None:
    assert refusal(Options(**options), caps) is None


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_a_cpu_has_one_way_to_compile(mode: str) -> None:
    assert canonical(Options(compile=mode), CPU).compile == "default"
    assert canonical(Options(compile=mode), H200).compile == mode


@pytest.mark.parametrize("attention", ["math", "flash", "flex", "split_k"])
def test_a_fused_step_has_one_attention(attention: str) -> None:
    asked = canonical(Options(**FUSED, attention=attention), H200)  # type: ignore[arg-type]
    assert asked == Options(**FUSED, attention="split_k")
    assert refusal(asked, H200) is None


def test_one_row_has_nobody_to_wait_for() -> None:
    asked = Options(batching="continuous", kv_cache="static")
    assert canonical(asked, CPU) == Options(kv_cache="static")
    assert refusal(Options(batching="continuous"), CPU) is None


def test_a_digest_is_from_before_there_was_continuous_batching() -> None:
    assert Options().digest == "2ab6a8b280e6df1e"
    assert len({Options(batching=how).digest for how in ("static", "continuous")}) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.0, 1e-40, 9e-7])
def test_greedy_forgets_its_limits(temperature: float) -> None:
    sampling = Sampling(temperature=temperature, top_p=0.5, top_k=7, min_p=0.1)
    assert canonical(Options(sampling=sampling), CPU).sampling == Sampling(
        temperature=0.0, top_p=1.0
    )


@pytest.mark.parametrize(("caps", "options"), ALLOWED)
def test_canonical_is_idempotent(caps: DeviceCaps, options: dict[str, Any]) -> None:
    once = canonical(Options(**options), caps)
    assert canonical(once, caps) == once


def test_choices_of_a_cpu() -> None:
    assert choices("precision", CPU) == ("fp32", "bf16", "fp16")
    assert choices("quantization", CPU) == ("none", "int8_weight_only", "int8_dynamic")
    assert choices("attention", CPU) == ("math", "flash", "flex")
    assert choices("attention", OLD_CPU) == ("math", "flash")
    assert choices("compile", CPU) == ("none", "default")
    assert choices("kv_cache", CPU) == get_args(get_type_hints(Options)["kv_cache"])


def test_an_h200_can_do_every_value() -> None:
    assert choices("precision", H200) == ("fp32", "tf32", "bf16", "fp16")
    assert len(choices("quantization", H200)) == 5
    for axis in ("compile", "attention", "kv_cache"):
        assert choices(axis, H200) == get_args(get_type_hints(Options)[axis])


def test_choices_of_no_axis() -> None:
    with pytest.raises(ValueError, match="axis 'batch_size'"):
        choices("batch_size", CPU)


def test_this_machine_has_a_cpu() -> None:
    caps = probe("cpu")
    assert caps.type == "cpu"
    assert caps.memory_bytes > 2**28
    assert caps.n_threads >= 1
