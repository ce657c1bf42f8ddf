"""Joined pieces are the whole: nothing is heard where one ends and the next begins."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from tts.build import build
from tts.embedded.codec import SAMPLES_PER_TOKEN
from tts.embedded.streaming import FIRST_CHUNK_TOKENS, MAX_CHUNK_TOKENS
from tts.embedded.vocoder import PAUSE_S, Vocoder
from tts.embedded.voice import EmbeddedVoice
from tts.options import Options
from tts.types import Built, Samples, Utterance

TEXTS = (
    "Go.",
    "The quick brown fox sleeps here, and nobody wakes it.",
    "One two three four. Five six seven eight, and nine!",
)


def streamed(voice: EmbeddedVoice, text: str) -> tuple[Samples, list[int]]:
    """The joined stream, and where each piece but the first begins."""
    chunks = [chunk.samples for chunk in voice.stream(Utterance(id="a", text=text, seed=3))]
    return np.concatenate(chunks), np.cumsum([len(chunk) for chunk in chunks])[:-1].tolist()


def steps_at(samples: Samples, borders: list[int]) -> Samples:
    """The jump from one sample to the next at each border."""
    inner = [b for b in borders if 0 < b < len(samples)]
    return np.abs(np.array([samples[b] - samples[b - 1] for b in inner], dtype=np.float32))


def check_seamless(voice: EmbeddedVoice, text: str, tolerance: float) -> None:
    whole = voice.synthesize([Utterance(id="a", text=text, seed=3)])[0].samples
    joined, borders = streamed(voice, text)
    assert joined.shape == whole.shape
    assert np.abs(joined - whole).max() < tolerance
    found, expected = steps_at(joined, borders), steps_at(whole, borders)
    assert np.abs(found - expected).max(initial=0.0) < tolerance


@pytest.fixture
def voice_with(speak_with: Callable[..., Built]) -> Callable[..., EmbeddedVoice]:
    def make(**options: object) -> EmbeddedVoice:
        voice = speak_with(**options).synthesizer
        assert isinstance(voice, EmbeddedVoice)
        return voice

    return make


@pytest.mark.parametrize(
    ("text", "kv_cache"), [*((text, "dynamic") for text in TEXTS), (TEXTS[2], "paged")]
)
def test_borders_are_where_the_whole_has_none(
    voice_with: Callable[..., EmbeddedVoice], text: str, kv_cache: str
) -> None:
    check_seamless(voice_with(kv_cache=kv_cache), text, 1e-4)


def test_without_its_context_a_border_would_be_heard(
    voice_with: Callable[..., EmbeddedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the measure above says of a vocoder that renders each piece alone."""
    voice = voice_with()
    whole = voice.synthesize([Utterance(id="a", text=TEXTS[1], seed=3)])[0].samples
    monkeypatch.setattr(voice.vocoder, "context", 0)
    joined, borders = streamed(voice, TEXTS[1])
    assert joined.shape == whole.shape
    assert np.abs(joined - whole).max() > 1e-2
    assert np.abs(steps_at(joined, borders) - steps_at(whole, borders)).max() > 1e-3


@pytest.mark.slow
def test_the_real_voice_streams_what_it_says() -> None:
    voice = build("embedded", Options(), "cpu").synthesizer
    assert isinstance(voice, EmbeddedVoice)
    check_seamless(voice, "The fox sleeps here. Nobody wakes it.", 1e-4)


def test_the_first_piece_is_small_and_the_next_ones_grow(
    voice_with: Callable[..., EmbeddedVoice],
) -> None:
    joined, borders = streamed(voice_with(), TEXTS[1])
    sizes = np.diff([0, *borders, len(joined)]) // SAMPLES_PER_TOKEN
    assert sizes[0] == FIRST_CHUNK_TOKENS
    for before, after in pairwise(sizes[:-1].tolist()):
        assert after == min(2 * before, MAX_CHUNK_TOKENS)


def test_the_first_piece_asks_for_few_steps(voice_with: Callable[..., EmbeddedVoice]) -> None:
    """At 0.5 ms a step these take 7 ms of the 25 that the first audio may take."""
    voice = voice_with(kv_cache="static")
    n_steps = 0
    draw = voice.generator.sampler.draw

    def counted(*args: object) -> object:
        nonlocal n_steps
        n_steps += 1
        return draw(*args)  # type: ignore[arg-type]

    voice.generator.sampler.draw = counted  # type: ignore[assignment, method-assign]
    next(voice.stream(Utterance(id="a", text=TEXTS[1], seed=3)))
    assert n_steps == FIRST_CHUNK_TOKENS + voice.vocoder.context
    # Of the voice that ships: the width of its kernels is what it looks ahead.
    assert build("embedded", Options(), "cpu").synthesizer.vocoder.context <= 10  # type: ignore[attr-defined]


def test_a_long_text_is_spoken_in_bounded_windows(
    voice_with: Callable[..., EmbeddedVoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the text: what is rendered at once, and what the cache holds, stays small."""
    voice = voice_with(kv_cache="static")
    rendered: list[int] = []
    decode = Vocoder._decode

    def watched(self: Vocoder, rows: list[list[int]]) -> list[Samples]:
        rendered.append(max(map(len, rows)))
        return decode(self, rows)

    monkeypatch.setattr(Vocoder, "_decode", watched)
    n_samples, n_pieces = 0, 0
    for chunk in voice.stream(Utterance(id="a", text="Word after word. " * 24, seed=1)):
        assert len(chunk.samples) <= (MAX_CHUNK_TOKENS + voice.vocoder.context) * SAMPLES_PER_TOKEN
        n_samples += len(chunk.samples)
        n_pieces += 1
    assert n_pieces > 12
    assert n_samples > 10 * 16_000
    assert max(rendered) <= MAX_CHUNK_TOKENS + 3 * voice.vocoder.context
    assert len(voice.generator._kept) == 1


def test_a_pause_stands_between_sentences(voice_with: Callable[..., EmbeddedVoice]) -> None:
    voice = voice_with()
    chunks = list(voice.stream(Utterance(id="a", text=TEXTS[2], seed=3)))
    n_pause = round(PAUSE_S * voice.sample_rate_hz)
    pauses = [c for c in chunks if len(c.samples) == n_pause and not c.samples.any()]
    assert len(pauses) == len(voice.synthesize([Utterance(id="a", text=TEXTS[2])])[0].tokens) - 1
    assert [c.is_last for c in chunks] == [False] * (len(chunks) - 1) + [True]


def test_a_stream_that_was_overtaken_says_so_and_speaks_no_rubbish(
    voice_with: Callable[..., EmbeddedVoice],
) -> None:
    """With a static cache both would write to the same buffers."""
    voice = voice_with(kv_cache="static")
    first = voice.stream(Utterance(id="a", text=TEXTS[1], seed=3))
    next(first)
    next(voice.stream(Utterance(id="b", text=TEXTS[2], seed=3)))
    with pytest.raises(RuntimeError, match="another batch"):
        next(first)
