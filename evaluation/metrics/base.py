"""What a metric is: the seam through which others add their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from evaluation.audio import Samples
from evaluation.scores import Clip

Value = float | int | str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A clip with its audio read: float32 in [-1, 1], 16 kHz, mono, possibly empty or NaN."""

    clip: Clip
    samples: Samples


@dataclass(frozen=True, kw_only=True)
class MetricSettings:
    """What a metric is constructed with.

    Args:
        asr: The recogniser: ``"embedded"`` or an openai-whisper name.
    """

    asr: str


@runtime_checkable
class Metric(Protocol):
    """Constructed once in each child process of the judge, as ``Class(settings)``."""

    def __call__(self, subject: Subject) -> Mapping[str, Value]:
        """Measure one clip.

        Returns:
            Values by the names of ``UtteranceScores``; other names go to its ``extra``. Empty
            when the metric does not apply to this clip.

        Raises:
            MetricError: The metric refuses this audio; anything else raised counts as well.
        """
        ...

    def provenance(self) -> Mapping[str, str]:
        """Return the versions and checksums that the values depend on."""
        ...
