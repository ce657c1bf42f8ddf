"""Scores of utterances that nobody spoke, and what may happen to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from evaluation.gate import GateConfig
from evaluation.scores import UtteranceScores

CONFIG = GateConfig()


def voices(n: int = 24, seed: int = 0) -> list[UtteranceScores]:
    """Return a fit baseline: ten words an utterance, one error in each third of them."""
    rng = np.random.default_rng(seed)
    return [
        UtteranceScores(
            utterance_id=f"p{i:02d}",
            duration_s=float(rng.uniform(2, 6)),
            dnsmos_ovrl=float(rng.normal(3.0, 0.2)),
            dnsmos_p808=float(rng.normal(3.4, 0.2)),
            wer_errors=int(i % 3 == 0),
            wer_words=10,
            transcript="something was said",
            noise_floor_dbfs=-60.0,
        )
        for i in range(n)
    ]


def changed(scores: Sequence[UtteranceScores], **factors: float) -> list[UtteranceScores]:
    """Scale fields of every utterance, with a little noise that keeps the mean."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.02, len(scores))
    noise -= noise.mean()
    return [
        dataclasses.replace(s, **{k: getattr(s, k) * (f + e) for k, f in factors.items()})
        for s, e in zip(scores, noise, strict=True)
    ]


def ruined(scores: Sequence[UtteranceScores], k: int, **fields: object) -> list[UtteranceScores]:
    """Replace fields of the first k utterances."""
    return [dataclasses.replace(s, **fields) if i < k else s for i, s in enumerate(scores)]  # type: ignore[arg-type]
