"""The guards as a metric, so that they run beside the others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from evaluation.content_guards import length_trips, token_trips
from evaluation.features import measure_features
from evaluation.guards import Limits, clip_trips
from evaluation.metrics.base import MetricSettings, Subject, Value


class GuardMetric:
    """Measure a clip's features and say which guards it trips."""

    def __init__(self, settings: MetricSettings) -> None:
        del settings
        self._limits = Limits()

    def __call__(self, subject: Subject) -> Mapping[str, Value]:
        """Return the trips, and noise floor and extent where there is audio to have them."""
        clip, features = subject.clip, measure_features(subject.samples)
        trips = (
            *clip_trips(features, clip.n_truncated, self._limits),
            *token_trips(clip.tokens, features.duration_s, self._limits),
            *length_trips(features.duration_s, clip.reference, self._limits),
        )
        values: dict[str, Value] = {"guards": trips}
        if features.n_samples and not features.n_not_finite:
            values["noise_floor_dbfs"] = features.noise_floor_dbfs
            values["speech_s"] = features.speech_s
            values["active_dbfs"] = features.active_dbfs
        return values

    def provenance(self) -> Mapping[str, str]:
        """Return a digest of the thresholds."""
        digest = hashlib.sha256(repr(self._limits).encode()).hexdigest()
        return {"guards.limits_sha256": digest}
