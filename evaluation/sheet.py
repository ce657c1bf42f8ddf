"""The score sheet of one clip while it is being judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from evaluation.content_guards import transcript_trips
from evaluation.guards import Limits
from evaluation.judge_child import AUDIO, Measured
from evaluation.metrics.base import Value
from evaluation.scores import Clip, UtteranceScores

_FIELDS = {item.name for item in dataclasses.fields(UtteranceScores)}


class Sheet:
    """What is known and what is still to be measured on one clip.

    Args:
        clip: The clip.
        metrics: What to measure, in order.
    """

    def __init__(self, clip: Clip, metrics: Sequence[str]) -> None:
        self.clip = clip
        self.remaining = tuple(metrics)
        self.is_done = False
        """True when nothing is left to measure and no child holds the clip."""
        self.current: str | None = None
        """The step that a child is in; to blame when the child dies."""
        self._values: dict[str, Value] = {}
        self._failures: dict[str, str] = {}

    def take(self, measured: Measured) -> None:
        """Note a step that came to its end."""
        self._values.update(measured.values)
        if measured.failure is not None:
            self._failures[measured.step] = measured.failure
        self._strike(measured.step)

    def fail(self, step: str, reason: str) -> None:
        """Note a step that did not, while no child holds the clip any more.

        Without the audio nothing else can be measured.
        """
        self._failures[step] = reason
        self._strike(step)
        if step == AUDIO or not self.remaining:
            self.finish()

    def finish(self) -> None:
        """Note that the child is done with the clip, also where the audio could not be read."""
        self.remaining = ()
        self.is_done = True

    def result(self) -> UtteranceScores:
        """Return the scores, the guards on the transcript among them."""
        known: dict[str, Any] = {k: v for k, v in self._values.items() if k in _FIELDS}
        extra = {k: float(v) for k, v in self._values.items() if k not in _FIELDS}  # type: ignore[arg-type]
        transcript = known.get("transcript")
        if isinstance(transcript, str):
            trips = transcript_trips(transcript, self.clip.reference, Limits())
            known["guards"] = (*known.get("guards", ()), *trips)
        return UtteranceScores(
            utterance_id=self.clip.utterance_id, failures=dict(self._failures), extra=extra, **known
        )

    def _strike(self, step: str) -> None:
        self.remaining = tuple(name for name in self.remaining if name != step)
        self.current = None
