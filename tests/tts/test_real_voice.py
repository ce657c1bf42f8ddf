"""The voice that ships with us, with its real weights."""

import numpy as np
import pytest

from tts.build import build
from tts.options import Options
from tts.types import Audio, Synthesizer, Utterance

# How long the voice's teacher (flite's rms) takes for the same words, in seconds.
TEACHER_S = {"Your order will arrive tomorrow morning.": 2.515, "$35.50": 2.855}
UTTERANCES = [Utterance(id=text, text=text, seed=7) for text in TEACHER_S]


@pytest.fixture(scope="module")
def voice() -> Synthesizer:
    return build("embedded", Options(), "cpu").synthesizer


@pytest.fixture(scope="module")
def spoken(voice: Synthesizer) -> dict[str, Audio]:
    return {u.text: voice.synthesize([u])[0] for u in UTTERANCES}


@pytest.mark.parametrize("text", TEACHER_S)
def test_it_takes_about_as_long_as_its_teacher(spoken: dict[str, Audio], text: str) -> None:
    audio = spoken[text]
    assert audio.n_truncated == 0
    assert audio.sample_rate_hz == 16_000
    assert 0.8 <= audio.duration_s / TEACHER_S[text] <= 1.25


@pytest.mark.parametrize("text", TEACHER_S)
def test_it_is_heard(spoken: dict[str, Audio], text: str) -> None:
    samples = spoken[text].samples
    assert np.isfinite(samples).all()
    assert 0.1 < np.abs(samples).max() <= 1
    assert 0.01 < np.sqrt(np.mean(np.square(samples))) < 0.3


def test_a_seed_repeats_itself_and_another_does_not(
    voice: Synthesizer, spoken: dict[str, Audio]
) -> None:
    first = UTTERANCES[0]
    again, other = (
        voice.synthesize([Utterance(id="a", text=first.text, seed=seed)])[0] for seed in (7, 8)
    )
    np.testing.assert_array_equal(again.samples, spoken[first.text].samples)
    assert again.tokens == spoken[first.text].tokens
    assert other.tokens != again.tokens


def test_a_stream_is_what_one_shot_gives(voice: Synthesizer, spoken: dict[str, Audio]) -> None:
    first = UTTERANCES[0]
    joined = np.concatenate([chunk.samples for chunk in voice.stream(first)])
    assert joined.shape == spoken[first.text].samples.shape
    assert np.abs(joined - spoken[first.text].samples).max() < 1e-3
