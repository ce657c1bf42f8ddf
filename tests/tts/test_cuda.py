"""Every axis on a GPU: the same tokens as the fp32 eager reference where the numbers allow it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tts import kv_cache
from tts.build import build
from tts.options import Options, Sampling
from tts.types import Audio, Built, GivenSentence, LogProbs, TokenScorer, Utterance

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
]
GREEDY = Sampling(temperature=0.0)
BF16 = {"precision": "bf16"}
FUSED = {**BF16, "kv_cache": "static", "compile": "fused"}

# In float32 every way of running gives the same greedy tokens.
EXACT: list[dict[str, Any]] = [
    {"attention": "efficient"},
    {"kv_cache": "none"},
    {"kv_cache": "static"},
    {"kv_cache": "static", "attention": "efficient"},
    {"kv_cache": "static", "compile": "default"},
    {"kv_cache": "static", "compile": "reduce-overhead"},
    {"kv_cache": "static", "compile": "reduce-overhead", "attention": "efficient"},
    {"kv_cache": "static", "compile": "max-autotune"},
    {"kv_cache": "bucketed"},
    {"kv_cache": "paged"},
    *({"kv_cache": cache, "compile": "cuda-graph"} for cache in ("static", "bucketed", "paged")),
    {"kv_cache": "bucketed", "compile": "reduce-overhead"},
    *({"kv_cache": cache, "attention": "split_k"} for cache in ("static", "bucketed", "paged")),
    {"kv_cache": "static", "attention": "split_k", "compile": "reduce-overhead"},
    {"kv_cache": "bucketed", "attention": "split_k", "compile": "cuda-graph"},
    {"kv_cache": "paged", "attention": "split_k", "compile": "reduce-overhead"},
    {"kv_cache": "static", "attention": "flex"},
    {"kv_cache": "bucketed", "attention": "flex", "compile": "cuda-graph"},
    {"kv_cache": "static", "attention": "flex", "compile": "reduce-overhead"},
    *({"kv_cache": cache, "compile": "fused"} for cache in ("static", "bucketed", "paged")),
]
# These change the numbers: they must speak, not repeat the reference.
ROUNDED: list[dict[str, Any]] = [
    {"precision": "tf32"},
    BF16,
    {"precision": "fp16"},
    {**BF16, "attention": "flash", "batch_size": 1},
    {**BF16, "attention": "flash", "kv_cache": "none"},
    {**BF16, "attention": "cudnn"},
    {**BF16, "attention": "cudnn", "kv_cache": "static"},
    {**BF16, "attention": "efficient", "kv_cache": "static", "compile": "reduce-overhead"},
    {**BF16, "attention": "cudnn", "kv_cache": "static", "compile": "reduce-overhead"},
    {"kv_cache": "static_int8"},
    {**BF16, "kv_cache": "static_int8", "compile": "reduce-overhead"},
    {**BF16, "quantization": "int8_weight_only"},
    {**BF16, "quantization": "int8_dynamic", "batch_size": 24},
    {**BF16, "quantization": "int4_weight_only"},
    {**BF16, "quantization": "fp8"},
    {**BF16, "quantization": "int8_weight_only", "kv_cache": "static", "compile": "default"},
    {
        **BF16,
        "quantization": "int8_weight_only",
        "kv_cache": "static",
        "compile": "reduce-overhead",
    },
    {**BF16, "quantization": "fp8", "kv_cache": "static", "compile": "reduce-overhead"},
    {**BF16, "attention": "cudnn", "kv_cache": "static", "compile": "cuda-graph"},
    {**BF16, "quantization": "int8_weight_only", "kv_cache": "static", "compile": "cuda-graph"},
    {**BF16, "attention": "split_k", "kv_cache": "static", "compile": "reduce-overhead"},
    {"attention": "split_k", "kv_cache": "static_int8", "compile": "cuda-graph"},
    {**BF16, "attention": "split_k", "kv_cache": "static_int8", "compile": "reduce-overhead"},
    {**BF16, "attention": "flex", "kv_cache": "static_int8", "compile": "reduce-overhead"},
    {**FUSED},
    {**FUSED, "precision": "fp16", "kv_cache": "bucketed"},
    {**FUSED, "kv_cache": "static_int8"},
    {**FUSED, "kv_cache": "paged", "batch_size": 1},
    {**FUSED, "quantization": "int8_weight_only", "batch_size": 1},
    {**FUSED, "quantization": "int4_weight_only", "batch_size": 1},
    {**FUSED, "quantization": "int8_weight_only", "kv_cache": "static_int8", "batch_size": 1},
    {
        **BF16,
        "quantization": "int4_weight_only",
        "kv_cache": "static",
        "compile": "reduce-overhead",
    },
]


@pytest.fixture
def on_gpu(voice: Path) -> Callable[..., Built]:
    def make(**options: object) -> Built:
        return build(f"embedded:{voice}", Options(**options), "cuda")  # type: ignore[arg-type]

    return make


def speak(built: Built, utterances: list[Utterance]) -> list[Audio]:
    size = built.synthesizer.options.batch_size  # type: ignore[attr-defined]
    audios = []
    for i in range(0, len(utterances), size):
        audios += built.synthesizer.synthesize(utterances[i : i + size])
    return audios


@pytest.mark.parametrize("options", EXACT, ids=str)
def test_float32_tokens_are_equal(
    on_gpu: Callable[..., Built], utterances: list[Utterance], options: dict[str, Any]
) -> None:
    reference = speak(on_gpu(sampling=GREEDY, batch_size=3), utterances)
    found = speak(on_gpu(sampling=GREEDY, batch_size=3, **options), utterances)
    assert [a.tokens for a in found] == [a.tokens for a in reference]
    for audio, expected in zip(found, reference, strict=True):
        assert np.abs(audio.samples - expected.samples).max() < 1e-3


@pytest.mark.parametrize("options", ROUNDED, ids=str)
def test_rounded_numbers_speak(
    on_gpu: Callable[..., Built], utterances: list[Utterance], options: dict[str, Any]
) -> None:
    built = on_gpu(**{"sampling": GREEDY, "batch_size": 3, **options})
    audios = speak(built, utterances)
    assert all(np.isfinite(audio.samples).all() and len(audio.samples) for audio in audios)
    assert [a.tokens for a in speak(built, utterances)] == [a.tokens for a in audios]


def test_a_gpu_speaks_the_tokens_of_a_cpu(
    on_gpu: Callable[..., Built], speak_with: Callable[..., Built], utterances: list[Utterance]
) -> None:
    options = {"sampling": Sampling(temperature=1.0), "batch_size": 3}
    on_cpu = speak(speak_with(**options), utterances)
    found = speak(on_gpu(**options), utterances)
    assert [a.tokens for a in found] == [a.tokens for a in on_cpu]


def test_a_captured_step_is_used_again_by_the_next_batch(
    on_gpu: Callable[..., Built], utterances: list[Utterance]
) -> None:
    built = on_gpu(kv_cache="static", compile="reduce-overhead", batch_size=1)
    first = speak(built, utterances)
    assert [a.tokens for a in speak(built, utterances)] == [a.tokens for a in first]
    assert built.synthesizer.observed()["cuda_graphs"] == "1"  # type: ignore[attr-defined]


def test_a_growing_cache_has_a_graph_for_each_of_its_sizes(
    on_gpu: Callable[..., Built], utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv_cache, "FIRST_BUCKET", 16)
    reference = speak(on_gpu(sampling=GREEDY), utterances)
    built = on_gpu(sampling=GREEDY, kv_cache="bucketed", compile="cuda-graph")
    assert [a.tokens for a in speak(built, utterances)] == [a.tokens for a in reference]
    n_graphs = int(built.synthesizer.observed()["cuda_graphs"])  # type: ignore[attr-defined]
    assert 3 <= n_graphs <= 6
    assert [a.tokens for a in speak(built, utterances)] == [a.tokens for a in reference]
    assert built.synthesizer.observed()["cuda_graphs"] == str(n_graphs)  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [{}, {"compile": "cuda-graph"}, {"compile": "fused"}], ids=str)
def test_our_own_attention_is_observed(
    on_gpu: Callable[..., Built], utterances: list[Utterance], options: dict[str, Any]
) -> None:
    built = on_gpu(**BF16, kv_cache="static", attention="split_k", **options)
    speak(built, utterances)
    seen = built.synthesizer.observed()  # type: ignore[attr-defined]
    assert seen["attention_prefill"] == "flash_attention"
    assert seen["attention_step"].startswith("decode_attention")


def test_the_way_of_a_fused_step_is_observed(
    on_gpu: Callable[..., Built], utterances: list[Utterance]
) -> None:
    tiny = on_gpu(**FUSED)  # its heads are too narrow for one launch
    guided, alone = (
        build("embedded", Options(**FUSED, sampling=Sampling(cfg_weight=weight)), "cuda")
        for weight in (2.0, 1.0)
    )
    is_hopper = torch.cuda.get_device_capability() == (9, 0)
    quickest = "one launch for all layers" if is_hopper else "our products of few rows"
    for built, expected in (
        (tiny, "2 rows: our products of few rows (not one launch: "),
        (guided, f"2 rows: {quickest}"),
        (alone, f"1 rows: {quickest}"),
    ):
        speak(built, utterances[:1])
        seen = built.synthesizer.observed()  # type: ignore[attr-defined]
        assert seen["fused_step"].startswith(expected)
        is_one_launch = expected.endswith("all layers")
        assert seen["attention_step"].startswith("attend" if is_one_launch else "decode_attention")


@pytest.mark.parametrize("quantization", ["none", "int8_weight_only"])
@pytest.mark.parametrize("cfg_weight", [2.0, 1.0])
def test_the_embedded_voice_keeps_its_probabilities(
    utterances: list[Utterance], quantization: str, cfg_weight: float
) -> None:
    """By one launch where the GPU can: given the tokens that float32 drew."""
    plain = Options(sampling=Sampling(cfg_weight=cfg_weight))
    exact = build("embedded", plain, "cuda")
    fused = Options(**FUSED, quantization=quantization, sampling=plain.sampling)  # type: ignore[arg-type]
    found = build("embedded", fused, "cuda")
    given = [
        GivenSentence(utterance=utterance, sentence=0, tokens=speech.tokens[0])
        for utterance, speech in zip(utterances, speak(exact, utterances), strict=True)
    ]
    if torch.cuda.get_device_capability() == (9, 0):
        step = found.synthesizer.generator.fused  # type: ignore[attr-defined]
        speak(found, utterances[:1])
        assert step.ran == {1 if cfg_weight == 1 else 2: "layers"}
    scores = []
    for built in (exact, found):
        assert isinstance(built.synthesizer, TokenScorer)
        scores.append(list(built.synthesizer.log_probabilities(given)))
    for theirs, mine in zip(*scores, strict=True):
        terms = np.exp(theirs.astype(np.float64)) * (theirs - mine)
        assert terms.sum(axis=1).mean() < 0.01


@pytest.mark.parametrize("compile", ["none", "default", "reduce-overhead", "cuda-graph"])
@pytest.mark.parametrize("attention", ["math", "efficient", "cudnn"])
def test_the_attention_kernel_that_ran_is_observed(
    on_gpu: Callable[..., Built], utterances: list[Utterance], attention: str, compile: str
) -> None:
    built = on_gpu(**BF16, kv_cache="static", compile=compile, attention=attention)
    speak(built, utterances)
    seen = built.synthesizer.observed()  # type: ignore[attr-defined]
    assert attention in seen["attention_prefill"]
    assert attention in seen["attention_step"]


@pytest.mark.parametrize("options", [{}, {"kv_cache": "static", "compile": "reduce-overhead"}])
def test_a_stream_is_what_one_shot_gives(
    on_gpu: Callable[..., Built], options: dict[str, Any]
) -> None:
    voice = on_gpu(**options).synthesizer
    utterance = Utterance(id="a", text="One two three. Four five six seven!", seed=3)
    whole = voice.synthesize([utterance])[0].samples
    joined = np.concatenate([chunk.samples for chunk in voice.stream(utterance)])
    assert np.abs(joined - whole).max() < 1e-3


def test_memory_is_on_the_gpu(on_gpu: Callable[..., Built]) -> None:
    before = torch.cuda.memory_allocated()
    built = on_gpu()
    assert torch.cuda.memory_allocated() > before
    assert built.applied[0].detail.endswith("cuda:0")


GIVEN = ((5, 17, 15_000, 4), (900, 901), (77,) * 40)


def asked(built: Built, utterances: list[Utterance]) -> list[LogProbs]:
    """Probabilities of fixed tokens, as if they were the last sentence's of each utterance."""
    voice = built.synthesizer
    assert isinstance(voice, TokenScorer)
    return list(
        voice.log_probabilities(
            [
                GivenSentence(utterance=utterance, sentence=0, tokens=tokens)
                for utterance, tokens in zip(utterances, GIVEN, strict=True)
            ]
        )
    )


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("options", EXACT, ids=str)
def test_given_tokens_are_as_likely_as_on_a_cpu(
    on_gpu: Callable[..., Built],
    speak_with: Callable[..., Built],
    utterances: list[Utterance],
    options: dict[str, Any],
    batch_size: int,
) -> None:
    expected = asked(speak_with(), utterances)
    found = asked(on_gpu(**options, batch_size=batch_size), utterances)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape
        assert np.abs(mine - theirs).max() < 1e-2


@pytest.mark.parametrize("options", ROUNDED, ids=str)
def test_rounded_numbers_stay_near_the_probabilities_of_a_cpu(
    on_gpu: Callable[..., Built],
    speak_with: Callable[..., Built],
    utterances: list[Utterance],
    options: dict[str, Any],
) -> None:
    expected = asked(speak_with(), utterances)
    for mine, theirs in zip(asked(on_gpu(**options), utterances), expected, strict=True):
        terms = np.exp(theirs.astype(np.float64)) * (theirs - mine)
        # On a CPU bf16 is 0.001 nats off, and weights rounded to 4 bits are 0.13.
        assert terms.sum(axis=1).mean() < 0.3


@pytest.mark.parametrize("compile", ["reduce-overhead", "max-autotune", "cuda-graph", "fused"])
def test_given_tokens_run_through_the_captured_graph_and_leave_speech_as_it_was(
    on_gpu: Callable[..., Built], utterances: list[Utterance], compile: str
) -> None:
    built = on_gpu(kv_cache="static", compile=compile)
    before = speak(built, utterances)
    first = asked(built, utterances)
    assert [a.tokens for a in speak(built, utterances)] == [a.tokens for a in before]
    # The observation steps outside the graph: what the graph answers must not be lost by it.
    assert built.synthesizer.observed()["cuda_graphs"] == "1"  # type: ignore[attr-defined]
    for again, once in zip(asked(built, utterances), first, strict=True):
        assert np.abs(again - once).max() < 1e-4
    assert built.synthesizer.observed()["cuda_graphs"] == "1"  # type: ignore[attr-defined]
