from collections.abc import Callable
from typing import Any

import pytest

from tts.adapters import ModelError
from tts.build import build
from tts.errors import InapplicableError, WeightsError
from tts.options import Options
from tts.types import Applied, Built

PASSES = ["load", "precision", "quantization", "attention", "kv_cache", "compile"]


class OwnModel:
    """An adapter as a user writes one."""

    def build(self, options: Options, device: str) -> Built:
        applied = Applied(name="own", value=device, n_modules=0, detail=options.precision)
        return Built(synthesizer=object(), applied=(applied,), load_s=0.0)  # type: ignore[arg-type]


def applied(built: Built, name: str) -> Applied:
    return next(a for a in built.applied if a.name == name)


def test_passes_come_in_order(speak_with: Callable[..., Built]) -> None:
    assert [a.name for a in speak_with().applied] == PASSES


@pytest.mark.parametrize(
    ("options", "name", "n_modules", "words"),
    [
        ({}, "precision", 0, "torch.float32"),
        ({"precision": "bf16"}, "precision", 32, "torch.bfloat16"),
        ({}, "quantization", 0, "as loaded"),
        ({"quantization": "int8_weight_only"}, "quantization", 9, "Int8Tensor"),
        ({"quantization": "int8_dynamic"}, "quantization", 9, "Int8Tensor"),
        ({}, "attention", 2, "decode step without a mask"),
        ({"batch_size": 2}, "attention", 2, "decode step with a mask"),
        ({"attention": "flash", "kv_cache": "static"}, "attention", 2, "with a mask"),
        ({}, "kv_cache", 2, "torch.float32"),
        ({"kv_cache": "none"}, "kv_cache", 0, "again"),
        ({"kv_cache": "static_int8"}, "kv_cache", 2, "int8"),
        ({"kv_cache": "bucketed"}, "kv_cache", 2, "doubles"),
        ({"kv_cache": "paged"}, "kv_cache", 2, "pages of 64"),
        ({"attention": "flex", "kv_cache": "static"}, "attention", 2, "SDPA's flash kernel"),
        ({}, "compile", 0, "eager"),
        ({"kv_cache": "static", "compile": "default"}, "compile", 2, "shared by all"),
    ],
)
def test_each_pass_says_what_it_did(
    speak_with: Callable[..., Built], options: dict[str, Any], name: str, n_modules: int, words: str
) -> None:
    found = applied(speak_with(**options), name)
    assert found.n_modules == n_modules
    assert words in found.detail


def test_quantized_matrices_are_quantized_and_the_embedding_is_not(
    speak_with: Callable[..., Built],
) -> None:
    generator = speak_with(quantization="int8_weight_only").synthesizer.generator
    kinds = {type(block.ffn.down.weight).__name__ for block in generator.lm.decoder.blocks}
    assert kinds == {"Int8Tensor"}
    assert type(generator.table).__name__ == "Tensor"


def test_a_cast_voice_keeps_its_inverse_transform_in_float32(
    speak_with: Callable[..., Built],
) -> None:
    voice = speak_with(precision="bf16").synthesizer
    codec = voice.vocoder.codec
    assert {str(p.dtype) for p in codec.frame_blocks.parameters()} == {"torch.bfloat16"}
    assert str(codec.head.weight.dtype) == str(codec.window.dtype) == "torch.float32"


@pytest.mark.parametrize("axis", ["quantization", "attention", "compile"])
def test_what_the_device_lacks_is_refused_before_loading(axis: str) -> None:
    value = {"quantization": "fp8", "attention": "cudnn", "compile": "default"}[axis]
    with pytest.raises(InapplicableError) as caught:
        build("embedded:/nowhere", Options(**{axis: value}), "cpu")
    assert caught.value.axis == axis
    assert caught.value.reason


def test_a_missing_directory_is_a_weights_error() -> None:
    with pytest.raises(WeightsError, match=r"/nowhere/manifest\.json: missing"):
        build("embedded:/nowhere", Options(), "cpu")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("embeded", "did you mean 'embedded'"),
        ("chatterbox", "package.module:Class"),
        ("no.such.module:Thing", "cannot import no.such.module"),
        ("tts.types:Missing", "has no class Missing"),
        ("tts.types:Audio", "has no class Audio with build"),
    ],
)
def test_a_model_that_means_nothing_says_so(model: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build(model, Options(), "cpu")


def test_your_own_class_is_a_model() -> None:
    built = build(f"{__name__}:OwnModel", Options(), "cpu")
    assert built.applied[0].value == "cpu"


@pytest.mark.parametrize(
    ("device", "words"),
    [("tpu", "auto, cpu, cuda"), ("cuda:x", "auto, cpu, cuda"), ("cuda:99", "GPU")],
)
def test_a_device_that_is_not_there_is_refused(device: str, words: str) -> None:
    with pytest.raises(InapplicableError, match=words):
        build("embedded", Options(), device)
