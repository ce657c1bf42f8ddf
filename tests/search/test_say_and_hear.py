"""The voice and the ear that ship with us, together: what is said is heard."""

from __future__ import annotations

import pytest
import torch

from evaluation import asr
from evaluation.metrics.wer import count_word_errors
from tts.build import build
from tts.options import Options
from tts.types import Utterance

SAID = {
    "Your order will arrive tomorrow morning.": "your order will arrive tomorrow morning",
    "The train to the city leaves at seven thirty.": "the train to the city leaves at seven thirty",
    "Please call me back before the end of the week.": (
        "please call me back before the end of the week"
    ),
    "It costs $35.50.": "it costs thirty five dollars and fifty cents",
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_most_words_are_heard_as_they_were_said() -> None:
    voice = build("embedded", Options(batch_size=len(SAID)), "cpu").synthesizer
    ear = asr.load("embedded")
    audios = voice.synthesize([Utterance(id=t, text=t, seed=i) for i, t in enumerate(SAID)])
    heard = {audio.utterance_id: ear.transcribe(audio.samples) for audio in audios}
    counts = [count_word_errors(SAID[text], transcript) for text, transcript in heard.items()]
    errors, words = (sum(column) for column in zip(*counts, strict=True))
    assert errors / words <= 0.2, heard
