"""Every axis against float64 from the textbook: how far may each number format be off?"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tts import reference
from tts.decoder import Decoder, DecoderConfig, Llama3Scaling
from tts.embedded import weights
from tts.embedded.lm import BOS
from tts.embedded.voice import _rows
from tts.types import Built, GivenSentence, LogProbs, TokenScorer, Utterance

GIVEN = ((5, 17, 15_000, 4), (900, 901), (77,) * 12)
# Nats, at worst over 15,361 tokens; the tiny voice's scores spread over some 60 nats.
WORST = {"fp32": 1e-4, "fp16": 0.1, "bf16": 0.6}
WORST_8_BIT_CACHE = 0.1
SHAPES = {
    "own": DecoderConfig(n_layers=2, width=32, n_heads=4, n_kv_heads=4, ffn_width=48, qk_norm=True),
    "grouped": DecoderConfig(n_layers=2, width=32, n_heads=4, n_kv_heads=2, ffn_width=48),
    "llama3": DecoderConfig(
        n_layers=2,
        width=32,
        n_heads=2,
        n_kv_heads=1,
        ffn_width=48,
        rope_theta=500_000.0,
        rope_scaling=Llama3Scaling(original_context=64),
    ),
    "wide heads": DecoderConfig(
        n_layers=1, width=32, n_heads=4, n_kv_heads=2, ffn_width=48, head_width=16
    ),
}


def given(utterances: list[Utterance]) -> list[GivenSentence]:
    return [
        GivenSentence(utterance=u, sentence=0, tokens=t)
        for u, t in zip(utterances, GIVEN, strict=True)
    ]


@pytest.fixture(scope="module")
def known() -> dict[str, list[LogProbs]]:
    return {}


@pytest.fixture
def off(
    voice: Path,
    speak_with: Callable[..., Built],
    utterances: list[Utterance],
    known: dict[str, list[LogProbs]],
) -> Callable[..., float]:
    """Return by how many nats options are off, at worst."""
    if "all" not in known:
        lm, _ = weights.load(voice)
        known["all"] = [
            reference.log_probabilities(
                lm, _rows(g.utterance)[0].characters, [BOS, *g.tokens]
            ).numpy()
            for g in given(utterances)
        ]

    def measure(**options: object) -> float:
        speaker = speak_with(**options).synthesizer
        assert isinstance(speaker, TokenScorer)
        found = list(speaker.log_probabilities(given(utterances)))
        pairs = zip(found, known["all"], strict=True)
        return max(float(np.abs(one - true).max()) for one, true in pairs)

    return measure


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kv_cache", ["none", "dynamic", "static", "bucketed", "paged"])
@pytest.mark.parametrize("attention", ["math", "flash"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_format_is_as_near_as_it_can_be(
    off: Callable[..., float], precision: str, kv_cache: str, attention: str, batch_size: int
) -> None:
    options = {"kv_cache": kv_cache, "attention": attention, "batch_size": batch_size}
    assert off(precision=precision, **options) < WORST[precision]


def test_an_8_bit_cache_is_near_and_rounds(off: Callable[..., float]) -> None:
    assert WORST["fp32"] < off(kv_cache="static_int8", batch_size=3) < WORST_8_BIT_CACHE


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # inductor's import
def test_flex_attention_is_as_near(off: Callable[..., float]) -> None:
    assert off(attention="flex", kv_cache="bucketed", precision="bf16") < WORST["bf16"]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_what_the_textbook_says(shape: str) -> None:
    torch.manual_seed(0)
    decoder = Decoder(SHAPES[shape]).eval()
    x = torch.randn(70, 32)
    with torch.inference_mode():
        found = decoder(x[None], torch.arange(70)[None])[0]
        assert (found - reference.hidden(decoder, x.double())).abs().max() < 2e-5


def test_stretched_positions_differ_from_plain_ones() -> None:
    """Otherwise the reference and the decoder could both forget the scaling."""
    torch.manual_seed(0)
    x = torch.randn(1, 70, 32)
    config = SHAPES["llama3"]
    plain = replace(config, rope_scaling=None)
    one, other = Decoder(config), Decoder(plain)
    other.load_state_dict(one.state_dict())
    positions = torch.arange(70)[None]
    with torch.inference_mode():
        assert (one(x, positions) - other(x, positions)).abs().max() > 1e-2
