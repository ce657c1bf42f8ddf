"""The measuring half of a trial's process, on a voice that only counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from search.benchmark import Benchmark
from search.job import Job
from tts.options import Options
from tts.types import Audio, Utterance


class CountingVoice:
    """Says nothing and remembers what it was asked to say."""

    sample_rate_hz = 16_000

    def __init__(self) -> None:
        self.heard: list[str] = []

    def synthesize(self, utterances: Sequence[Utterance]) -> list[Audio]:
        self.heard += [u.text for u in utterances]
        silence = np.zeros(160, np.float32)
        return [
            Audio(utterance_id=u.id, samples=silence, sample_rate_hz=16_000) for u in utterances
        ]


@pytest.mark.parametrize(("batch_size", "n_batches"), [(1, 5), (2, 3), (8, 2)])
def test_warm_up_speaks_every_text(batch_size: int, n_batches: int) -> None:
    voice, texts = CountingVoice(), tuple("abcde")
    job = Job(
        folder="", model="", device="cpu", options=Options().to_mapping(), repeats=5, warmup=2,
        texts=texts, measure_ttfa=False,
    )  # fmt: skip
    Benchmark(voice, job, batch_size).warm_up()  # type: ignore[arg-type]
    assert set(voice.heard) == set(texts)
    assert len(voice.heard) == n_batches * batch_size
