"""Scores in the background, nothing twice; means and what becomes of figures in JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import soundfile

from evaluation.scores import Clip, UtteranceScores
from search.scoring import Scoring, plain, quality_metrics
from tests.search.fakes import FakeScorer


def clip(folder: Path, name: str, level: float, reference: str = "la") -> Clip:
    path = folder / f"{name}.wav"
    soundfile.write(path, np.full(1600, level, dtype=np.float32), 16_000, subtype="FLOAT")
    return Clip(utterance_id=name, wav_path=path, reference=reference)


def test_the_same_audio_is_scored_once(tmp_path: Path) -> None:
    scorer = FakeScorer()
    first, same, other = (clip(tmp_path, n, v) for n, v in (("a", 0.5), ("b", 0.5), ("c", 0.4)))
    with Scoring(scorer) as scoring:
        known = scoring.submit([first]).result()
        scores = scoring.submit([same, other]).result()
        assert scorer.n_scored == 2
        assert [s.utterance_id for s in scores] == ["b", "c"]
        assert scores[0] == replace(known[0], utterance_id="b")
        scoring.submit([replace(same, reference="lo")]).result()
        scoring.submit([replace(same, n_truncated=1)]).result()
        assert scorer.n_scored == 4


def test_a_failed_metric_is_tried_again(tmp_path: Path) -> None:
    class Failing(FakeScorer):
        def score(self, clips: Sequence[Clip], **how: object) -> list[UtteranceScores]:
            return [replace(s, failures={"wer": "no"}) for s in super().score(clips)]

    scorer = Failing()
    with Scoring(scorer) as scoring:
        for _ in range(2):
            scores = scoring.submit([clip(tmp_path, "a", 0.5)]).result()
            assert scores[0].failures == {"wer": "no"}
    assert scorer.n_scored == 2


def test_what_the_scorer_raises_reaches_the_caller(tmp_path: Path) -> None:
    class Broken(FakeScorer):
        def score(self, clips: Sequence[Clip], **how: object) -> list[UtteranceScores]:
            raise RuntimeError("the judge is ill")

    with Scoring(Broken()) as scoring, pytest.raises(RuntimeError, match="ill"):
        scoring.submit([clip(tmp_path, "a", 0.5)]).result()


def test_the_end_waits_for_one_clip_and_not_for_the_batch(tmp_path: Path) -> None:
    class Waiting(FakeScorer):
        def _one(self, clip: Clip) -> UtteranceScores:
            working.set()
            assert ended.wait(20)
            return super()._one(clip)

    working, ended, scorer = Event(), Event(), Waiting()
    clips = [clip(tmp_path, name, level) for name, level in (("a", 0.5), ("b", 0.4))]
    with Scoring(scorer) as scoring:
        begun = scoring.submit(clips)
        assert working.wait(20)
        scoring.is_closed = True
        ended.set()
    assert scorer.n_scored == 1
    with pytest.raises(CancelledError):
        begun.result()


def test_means_leave_out_what_was_not_measured() -> None:
    scores = [
        UtteranceScores(utterance_id="a", dnsmos_ovrl=3.0, wer_errors=1, wer_words=4),
        UtteranceScores(utterance_id="b", dnsmos_ovrl=2.0, wer_errors=0, wer_words=6),
        UtteranceScores(utterance_id="c", guards=("silence: x",), failures={"wer": "x"}),
    ]
    assert quality_metrics(scores) == {
        "dnsmos_ovrl": 2.5, "wer": 0.1, "n_judged": 3.0, "n_guarded": 1.0,
        "n_metric_failures": 1.0,
    }  # fmt: skip
    assert quality_metrics([]) == {}


def test_plain_values_are_json() -> None:
    given = {"a": (1, math.inf), 2: [math.nan, {"b": -math.inf}], "c": "x"}
    assert plain(given) == {"a": [1, None], "2": [None, {"b": None}], "c": "x"}
