"""Texts at the edges on the voice that ships with us: how short, how long, how odd they may be."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from evaluation import resident
from tts.build import build
from tts.embedded import voice as embedded_voice
from tts.embedded.text import normalise, split_sentences
from tts.embedded.text.sentences import MAX_CHARACTERS
from tts.embedded.vocoder import FADE_S, PAUSE_S
from tts.errors import TextError
from tts.options import Options, Sampling
from tts.types import Audio, Synthesizer, Utterance

RATE_HZ, SAMPLES_PER_TOKEN = 16_000, 640
N_PAUSE, N_FADE = round(PAUSE_S * RATE_HZ), round(FADE_S * RATE_HZ)
SENTENCE = "The lamp on the landing flickers when a train goes by. "
PAGE = (SENTENCE * 40)[:2000]
MIB = 2**20
BRIEF = 4


def said(voice: Synthesizer, text: str, seed: int = 0) -> Audio:
    return voice.synthesize([Utterance(id="it", text=text, seed=seed)])[0]


@pytest.fixture(scope="module")
def voice() -> Synthesizer:
    return build("embedded", Options(), "cpu").synthesizer


@pytest.fixture(scope="module")
def eight() -> Synthesizer:
    return build("embedded", Options(batch_size=8), "cpu").synthesizer


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a sentence have a few tokens only: what is looked at here does not need all of it."""
    monkeypatch.setattr(embedded_voice, "token_cap", lambda n_characters: BRIEF)
    return BRIEF


@pytest.fixture(scope="module")
def page(eight: Synthesizer) -> Audio:
    """A page of sentences that are cut off after a few tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded_voice, "token_cap", lambda n_characters: BRIEF)
        return said(eight, PAGE)


@pytest.mark.parametrize("text", ["a", "I", "7", "x", "é", "%", "½", "a.", "I 😀"])
def test_one_character_is_a_short_word(voice: Synthesizer, text: str) -> None:
    audio = said(voice, text)
    assert audio.n_truncated == 0
    assert 0.25 <= audio.duration_s <= 1.5
    assert np.abs(audio.samples).max() > 0.1


NOTHING = [
    ("", "it is empty"),
    (" \n\t", "it is empty"),
    ("...", "all punctuation"),
    ("?!", "all punctuation"),
    ("\u201c\u2014\u201d", "all punctuation"),
    ("😀👍🏽", "all signs or emoji"),
    ("^ ~", "all signs or emoji"),
    ("日本語", "reads Latin letters"),
    ("." * 10_000, "all punctuation"),
    ("😀" * 2_500, "all signs or emoji"),
    ("\ud83d", "nothing to speak"),
]


@pytest.mark.parametrize(("text", "reason"), NOTHING, ids=[repr(t[:6]) for t, _ in NOTHING])
def test_what_cannot_be_spoken_is_named_with_a_remedy(
    voice: Synthesizer, text: str, reason: str
) -> None:
    with pytest.raises(TextError) as caught:
        said(voice, text)
    message = str(caught.value)
    assert message.startswith("utterance 'it': ")
    assert reason in message
    assert "give it at least one word or number" in message
    assert len(message) < 200


def test_a_stream_refuses_as_one_shot_does(voice: Synthesizer) -> None:
    with pytest.raises(TextError, match="'it': the text has nothing to speak: it is empty"):
        next(voice.stream(Utterance(id="it", text="")))


def test_a_page_is_cut_at_the_ends_of_its_sentences() -> None:
    pieces = split_sentences(normalise(PAGE))
    assert len(pieces) == len(PAGE) // len(SENTENCE) + 1
    assert all(piece.endswith(".") for piece in pieces)
    assert {piece + " " for piece in pieces[:-1]} == {SENTENCE.lower()}


def test_a_page_has_no_seam(page: Audio) -> None:
    """Where pieces meet, neighbouring samples are no further apart than within the speech."""
    assert [len(sentence) for sentence in page.tokens] == [BRIEF] * 37
    steps = np.abs(np.diff(page.samples))
    at = joins(page)
    assert len(at) == 36
    nearby = np.concatenate([steps[i - N_FADE // 4 : i + N_PAUSE + N_FADE // 4] for i in at])
    assert nearby.max() < np.quantile(steps, 0.9)
    assert all(not page.samples[i : i + N_PAUSE].any() for i in at)


def test_a_page_is_what_its_sentences_are(voice: Synthesizer, page: Audio, brief: int) -> None:
    """Its first sentence sounds as it does alone: nothing leaks over a join."""
    alone = said(voice, SENTENCE)
    assert page.tokens[0] == alone.tokens[0]
    whole = page.samples[: len(alone.samples)]
    np.testing.assert_allclose(whole, alone.samples, atol=1e-3)


def test_a_page_takes_the_memory_of_a_batch(eight: Synthesizer, brief: int) -> None:
    """Beside its samples: groups of sentences are spoken one after the other in the same room."""
    if not resident.forget_peak():
        pytest.skip("this system does not tell a peak of its own for a stretch")
    growth = {}
    for name, text in (("warm", SENTENCE * 8), ("batch", SENTENCE * 8), ("page", PAGE)):
        resident.forget_peak()
        before = resident.resident_bytes()
        samples = said(eight, text).samples
        after = resident.peak_bytes()
        assert before is not None
        assert after is not None
        growth[name] = after - before - samples.nbytes
    assert growth["page"] < max(0, growth["batch"]) + 16 * MIB


WORDS = {
    "blanks": "word " * 2_000,
    "no blanks": "supercalifragilistic" * 500,
    "one letter": "a" * 10_000,
    "digits": "1" * 10_000,
    "marks before it": "#" * 9_996 + "word",
}


@pytest.mark.parametrize("name", WORDS)
def test_ten_kilobytes_of_one_word_are_read_in_pieces(name: str) -> None:
    pieces = split_sentences(normalise(WORDS[name]))
    assert all(0 < len(piece) <= MAX_CHARACTERS for piece in pieces)
    joined = "".join(pieces).replace(" ", "")
    assert joined == normalise(WORDS[name]).replace(" ", "")


# Each of these made a pattern look at every place from every place: minutes for so many.
@pytest.mark.parametrize("run", [".", "/", "#", '"', "_", "\r", "\f", "-/", "\n/"])
def test_long_runs_are_read_before_the_suite_gives_up(run: str) -> None:
    assert normalise((run * 100_000)[:100_000] + " end") == "end."


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\f", "\x85"])
def test_a_line_ends_in_many_ways(end: str) -> None:
    assert normalise(f"one{end}two{end}{end}three") == "one two. three."


def test_ten_kilobytes_of_one_word_are_spoken(eight: Synthesizer, brief: int) -> None:
    audio = said(eight, WORDS["no blanks"])
    pieces = split_sentences(normalise(WORDS["no blanks"]))
    assert len(audio.tokens) == len(pieces) == 72
    assert np.isfinite(audio.samples).all()
    assert len(audio.samples) == 72 * brief * SAMPLES_PER_TOKEN + 71 * N_PAUSE


MIXED = ("a", PAGE[: 3 * len(SENTENCE)], "I 😀 it!")


def test_a_mixed_batch_says_what_each_says_alone(
    voice: Synthesizer, eight: Synthesizer, brief: int
) -> None:
    batch = [Utterance(id=str(i), text=text, seed=i) for i, text in enumerate(MIXED)]
    together = eight.synthesize(batch)
    alone = [voice.synthesize([utterance])[0] for utterance in batch]
    assert [audio.tokens for audio in together] == [audio.tokens for audio in alone]
    assert [len(audio.tokens) for audio in together] == [1, 3, 1]
    for mine, its in zip(together, alone, strict=True):
        np.testing.assert_allclose(mine.samples, its.samples, atol=1e-3)


def test_a_mixed_batch_names_all_that_cannot_be_spoken(eight: Synthesizer) -> None:
    texts = {"fine": "Good morning.", "bare": "", "face": "😀"}
    batch = [Utterance(id=name, text=text) for name, text in texts.items()]
    with pytest.raises(TextError) as caught:
        eight.synthesize(batch)
    first, second = str(caught.value).splitlines()
    assert first.startswith("utterance 'bare': ")
    assert second.startswith("utterance 'face': ")


def test_greedy_speech_of_a_letter_ends(voice: Synthesizer) -> None:
    greedy = build("embedded", Options(sampling=Sampling(temperature=0)), "cpu").synthesizer
    assert said(greedy, "b").n_truncated == 0


def joins(audio: Audio) -> list[int]:
    """The first sample of each pause."""
    lengths = [len(sentence) * SAMPLES_PER_TOKEN + N_PAUSE for sentence in audio.tokens]
    starts = np.cumsum([0, *lengths])
    assert all(b > a for a, b in pairwise(starts))
    return [int(start) - N_PAUSE for start in starts[1:-1]]
