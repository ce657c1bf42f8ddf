"""DNSMOS in batches is the judge's DNSMOS."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gate.opinion import BatchedDnsmos, is_fit
from evaluation.errors import MetricError
from evaluation.metrics.base import MetricSettings
from evaluation.metrics.dnsmos import Dnsmos


def test_a_batch_scores_each_clip_as_the_judge_does() -> None:
    rng = np.random.default_rng(0)
    envelope = np.sin(np.linspace(0, 9, 12_345)) ** 2
    clips = [
        (0.1 * envelope * rng.standard_normal(12_345)).astype(np.float32),
        (0.3 * np.sin(np.arange(20_000) / 9)).astype(np.float32),
    ]
    judge = Dnsmos(MetricSettings(asr="embedded"))
    for found, clip in zip(BatchedDnsmos("cpu").score(clips), clips, strict=True):
        assert found == pytest.approx(judge.score(clip), abs=1e-5)


@pytest.mark.parametrize(
    ("clip", "fit"),
    [
        (np.full(8_000, 0.1, np.float32), True),
        (np.full(3_999, 0.1, np.float32), False),
        (np.zeros(8_000, np.float32), False),
        (np.full(8_000, np.nan, np.float32), False),
        (np.full(8_000, 1.1, np.float32), False),
    ],
)
def test_what_the_judge_refuses_is_not_sent(clip: np.ndarray, fit: bool) -> None:
    assert is_fit(clip) == fit
    judge = Dnsmos(MetricSettings(asr="embedded"))
    if not fit:
        with pytest.raises(MetricError):
            judge.score(clip)
