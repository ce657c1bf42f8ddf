"""A tiny voice with random weights, small enough to be spoken and compiled within a second."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tts.build import build
from tts.decoder import DecoderConfig
from tts.embedded import weights
from tts.embedded.codec import CodecDecoder, CodecDecoderConfig
from tts.embedded.lm import EOS, SpeechLM
from tts.options import Options
from tts.types import Built, Utterance

LM = DecoderConfig(n_layers=2, width=64, n_heads=2, n_kv_heads=2, ffn_width=128, qk_norm=True)
CODEC = CodecDecoderConfig(width=32, n_token_blocks=1, n_frame_blocks=1)
TEXTS = ("One two.", "The quick brown fox sleeps.", "Hello there! How are you today, my friend?")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    lm, codec = SpeechLM(LM), CodecDecoder(CODEC)
    with torch.no_grad():
        # Scores far apart, as a trained model's are: rounding must not decide between tokens.
        lm.decoder.norm.weight.mul_(10)
        # Some rows end by chance, others reach their cap.
        lm.head.weight[EOS].mul_(2)
    return weights.save(tmp_path_factory.mktemp("voice"), lm, codec, {"version": "tiny"}).parent


@pytest.fixture
def speak_with(voice: Path) -> Callable[..., Built]:
    def make(**options: object) -> Built:
        return build(f"embedded:{voice}", Options(**options), "cpu")  # type: ignore[arg-type]

    return make


@pytest.fixture
def utterances() -> list[Utterance]:
    return [Utterance(id=str(i), text=text, seed=i) for i, text in enumerate(TEXTS)]
