"""Ears that hear what they are told to, with real guards on the real copies."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evaluation.audio import read_clip
from evaluation.metrics.base import MetricSettings, Subject, Value
from evaluation.metrics.guards import GuardMetric
from evaluation.scores import Clip, UtteranceScores

UNSEEN = ("low_pass", "reversed")
"""Damage that no guard notices: the networks and the recogniser must."""
GUARDED: dict[tuple[bytes, Clip], Mapping[str, Value]] = {}


class Ears:
    """Real guards on the real copies; MOS and words from the name of the canary.

    Args:
        deaf_to: Canaries on which MOS and words are as good as ever.
        touchy: Canaries on which they are bad.
    """

    def __init__(self, deaf_to: Sequence[str] = (), touchy: Sequence[str] = ()) -> None:
        self.bad = (set(UNSEEN) | set(touchy)) - set(deaf_to)
        self.asked: list[tuple[str, str]] = []
        self.places: set[Path] = set()
        self.guards = GuardMetric(MetricSettings(asr="none"))

    def score(
        self, clips: Sequence[Clip], *, metrics: Sequence[str] | None = None
    ) -> list[UtteranceScores]:
        return [self.one(clip, metrics) for clip in clips]

    def one(self, clip: Clip, metrics: Sequence[str] | None) -> UtteranceScores:
        name = clip.wav_path.parent.name
        self.asked.append((name, "all" if metrics is None else ",".join(metrics)))
        self.places.add(clip.wav_path.parent.parent)
        samples = read_clip(clip.wav_path)
        values = self.guarded(clip, samples)
        found = scored(clip.utterance_id, 2.2 if name in self.bad else 3.0)
        if metrics is not None:
            found = UtteranceScores(utterance_id=clip.utterance_id)
        return dataclasses.replace(found, duration_s=len(samples) / 16_000, **values)  # type: ignore[arg-type]

    def guarded(self, clip: Clip, samples: npt.NDArray[np.float32]) -> Mapping[str, Value]:
        """Return what the guards say, of each sound once: most tests here make the same copies."""
        nameless = dataclasses.replace(clip, utterance_id="", wav_path=Path())
        key = (hashlib.sha256(samples.tobytes()).digest(), nameless)
        if key not in GUARDED:
            GUARDED[key] = self.guards(Subject(clip=clip, samples=samples))
        return GUARDED[key]


def scored(name: str, mos: float, errors: int = 0) -> UtteranceScores:
    mos += sum(name.encode()) % 7 / 100
    return UtteranceScores(
        utterance_id=name, duration_s=2.0, dnsmos_ovrl=mos, dnsmos_p808=mos + 0.3,
        wer_errors=errors, wer_words=8, noise_floor_dbfs=-65.0,
    )  # fmt: skip
