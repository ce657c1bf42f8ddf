"""What is recorded as silence: only clips of which the guards say that nothing is in them."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.audio import SAMPLE_RATE_HZ, Samples
from evaluation.features import measure_features
from evaluation.guards import Limits, clip_trips
from evaluation.scores import UtteranceScores
from search.judging import silent
from tests.evaluation.sounds import voice


def heard(samples: Samples) -> UtteranceScores:
    """Return what the real guards say of a clip."""
    trips = clip_trips(measure_features(samples), 0, Limits())
    return UtteranceScores(utterance_id="a", guards=trips)


def zeros(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)


@pytest.mark.parametrize(
    ("samples", "guard"),
    [
        (zeros(0.0), "empty: "),
        (zeros(1.0), "level: "),
        (voice(0.1), "too_short: "),
        (voice(1.0, peak=0.0005), "level: "),
    ],
    ids=["empty", "digital silence", "too short", "too quiet"],
)
def test_clips_with_nothing_in_them_are_silence(samples: Samples, guard: str) -> None:
    found = silent([heard(samples)] * 3)
    assert found is not None
    assert (found.phase, found.kind) == ("judge", "silence")
    assert found.message.startswith(f"all 3 judged utterances are silent or empty: {guard}")


def test_clips_that_are_broken_otherwise_are_not_silence() -> None:
    with_a_hole = np.concatenate([voice(1.0), zeros(1.8), voice(1.0)])
    noise = np.random.default_rng(0).normal(0.0, 0.1, SAMPLE_RATE_HZ).astype(np.float32)
    for samples, guard in ((with_a_hole, "silence: "), (noise, "voiced: ")):
        scores = heard(samples)
        assert any(said.startswith(guard) for said in scores.guards)
        assert silent([scores] * 3) is None


def test_one_clip_with_speech_in_it_is_enough() -> None:
    assert silent([heard(zeros(1.0)), heard(voice(1.0))]) is None
    assert silent([]) is None
