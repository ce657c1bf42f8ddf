"""The voice on our own kernels, interpreted where there is no GPU: as near as PyTorch's are.

``tts.validity`` offers these kernels to GPUs alone, so the adapter is asked past it.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports triton

pytest.importorskip("triton", reason="Triton is not installed")

from tts.adapters.embedded import EmbeddedAdapter
from tts.options import Options, Sampling
from tts.types import Applied, Built, GivenSentence, LogProbs, TokenScorer, Utterance
from tts.validity import FUSED_QUANTIZED_LANES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="not interpreted beside a GPU"),
]
GIVEN = ((5, 17), (900,))  # an interpreted kernel is ten thousand times slower
ALONE = Sampling(cfg_weight=1.0, temperature=0.0)
CACHES = ("static", "bucketed", "static_int8", "paged")
SPLIT_K = {"attention": "split_k"}
FUSED = {"attention": "split_k", "compile": "fused"}


@pytest.fixture
def build(voice: Path) -> Callable[..., Built]:
    def make(**options: object) -> Built:
        asked = Options(sampling=ALONE, **options)  # type: ignore[arg-type]
        return EmbeddedAdapter(voice).build(asked, "cpu")

    return make


def asked(built: Built, utterances: list[Utterance]) -> list[LogProbs]:
    speaker = built.synthesizer
    assert isinstance(speaker, TokenScorer)
    given = [
        GivenSentence(utterance=u, sentence=0, tokens=t)
        for u, t in zip(utterances, GIVEN, strict=False)
    ]
    return list(speaker.log_probabilities(given))


def off(found: list[LogProbs], expected: list[LogProbs]) -> float:
    return max(float(np.abs(f - e).max()) for f, e in zip(found, expected, strict=True))


def applied(built: Built, name: str) -> Applied:
    return next(a for a in built.applied if a.name == name)


@pytest.mark.parametrize("kv_cache", CACHES)
@pytest.mark.parametrize("how", [SPLIT_K, FUSED], ids=["split_k", "fused"])
def test_our_kernels_say_what_pytorchs_say(
    build: Callable[..., Built], utterances: list[Utterance], how: dict[str, Any], kv_cache: str
) -> None:
    plain = "static_int8" if kv_cache == "static_int8" else "static"
    expected = asked(build(kv_cache=plain, batch_size=2), utterances)
    found = asked(build(kv_cache=kv_cache, batch_size=2, **how), utterances)
    # Where an entry of the 8-bit cache falls between two codes, rounding decides.
    assert off(found, expected) < (2e-2 if kv_cache == "static_int8" else 1e-4)


@pytest.mark.parametrize(
    ("quantization", "words", "low", "high"),
    [("int8_weight_only", "int8", 1e-3, 1.0), ("int4_weight_only", "int4", 1e-2, 15.0)],
)
def test_our_quantized_products_are_used_and_said_to_be(
    build: Callable[..., Built],
    utterances: list[Utterance],
    quantization: str,
    words: str,
    low: float,
    high: float,
) -> None:
    expected = asked(build(kv_cache="static"), utterances)
    built = build(kv_cache="static", quantization=quantization, **FUSED)
    found = asked(built, utterances)
    assert low < off(found, expected) < high
    # The prefill multiplies by the weights as loaded.
    assert off([one[:1] for one in found], [one[:1] for one in expected]) < 1e-4
    said = applied(built, "quantization")
    assert (said.value, said.n_modules) == (quantization, 8)
    assert f"8 matrices of the decode step to {words}, read by our own kernels" in said.detail


def test_passes_say_which_kernels_run(build: Callable[..., Built]) -> None:
    built = build(kv_cache="static", **FUSED)
    assert applied(built, "quantization").value == "none"
    assert applied(built, "compile").n_modules == 2
    assert "our fused kernels" in applied(built, "compile").detail
    said = applied(built, "attention").detail
    assert "our fused step's own in decode steps, SDPA's flash" in said
    said = applied(build(kv_cache="static", **SPLIT_K), "attention").detail
    assert "our split-K kernel in decode steps, SDPA's flash" in said


def test_a_fused_step_is_built_without_torchs_compiler(voice: Path) -> None:
    """Whose import is most of a cold start."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tts.adapters.embedded import EmbeddedAdapter\n"
        "from tts.options import Options\n"
        "options = Options(kv_cache='static', attention='split_k', compile=sys.argv[2])\n"
        "EmbeddedAdapter(Path(sys.argv[1])).build(options, 'cpu')\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program, str(voice), how],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for how in ("none", "fused")
    ]
    assert said == ["True", "False"]


def test_our_attention_is_observed(
    build: Callable[..., Built], utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tts.embedded.voice.token_cap", lambda n_characters: 3)
    voice = build(kv_cache="static", **SPLIT_K).synthesizer
    voice.synthesize(utterances[:1])
    seen = voice.observed()  # type: ignore[attr-defined]
    assert seen["attention_prefill"] == "flash_attention_for_cpu"
    assert seen["attention_step"] == "decode_attention"


def test_the_way_of_a_fused_step_is_observed_with_its_reason(
    build: Callable[..., Built], utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tts.embedded.voice.token_cap", lambda n_characters: 3)
    voice = build(kv_cache="static", **FUSED).synthesizer
    voice.synthesize(utterances[:1])
    seen = voice.observed()  # type: ignore[attr-defined]
    reason = "one launch for all layers does not run on cpu"
    assert seen["fused_step"] == f"1 rows: our products of few rows (not one launch: {reason})"
    assert seen["attention_step"] == "decode_attention, in our fused step"


def test_no_more_rows_are_promised_than_the_products_take() -> None:
    from tts.kernels.linear import MAX_ROWS

    assert FUSED_QUANTIZED_LANES == MAX_ROWS
