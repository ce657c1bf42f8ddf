"""One clip to be judged, and what was found out about it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.errors import ScoresError


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One synthesised utterance on disk, with what is needed to judge it.

    Args:
        utterance_id: Unique within a prompt set (and seed); pairs candidate and baseline.
        wav_path: The audio: 16 kHz, mono.
        reference: What should be heard, curated and normalised; never empty.
        n_truncated: Sentences that reached the token cap without an end of speech.
        n_tokens: Speech tokens decoded; 0 where the model has none.
        tokens: They themselves, sentence by sentence, for the guard against loops; may be empty.
        render_path: The *baseline's* tokens rendered by the candidate's vocoder.
        baseline_render_path: The same tokens rendered by the baseline's vocoder: the PESQ
            reference. PESQ is taken between these two only, because two samplings of one
            sentence are not time-aligned.
    """

    utterance_id: str
    wav_path: Path
    reference: str
    n_truncated: int = 0
    n_tokens: int = 0
    tokens: tuple[tuple[int, ...], ...] = ()
    render_path: Path | None = None
    baseline_render_path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class UtteranceScores:
    """All that was measured on one utterance; ``None`` is not measured, never zero.

    Args:
        utterance_id: The clip's.
        duration_s: Length of the audio; None when the file could not be read.
        speech_s: From the first sound to the last; 0 where there is none.
        dnsmos_ovrl: Overall MOS by DNSMOS P.835, 1 to 5; robust, as all four are: the whole clip
            at one level (``evaluation.metrics.dnsmos``).
        dnsmos_p808: MOS by DNSMOS P.808, 1 to 5.
        dnsmos_sig: Speech quality by DNSMOS P.835.
        dnsmos_bak: Background quality by DNSMOS P.835.
        wer_errors: Word substitutions, deletions and insertions.
        wer_words: Words of the normalised reference.
        transcript: What the recogniser heard, as it wrote it.
        pesq_wb: Wide-band PESQ (MOS-LQO) of the teacher-forced rendering, 1.0 to 4.64.
        active_dbfs: Level of the loud frames.
        noise_floor_dbfs: 10th percentile of the frame level with the loud frames at -26 dBFS, so
            that a gain does not move it; guards compare it to the baseline's.
        guards: The guards that tripped, as ``"name: what was seen (limit)"``.
        failures: Metric name to reason, for each metric that failed on this utterance.
        extra: Values of metrics that are not built in, by name.
        provenance: Hash of all that the scores depend on; empty in records older than it. Scores
            of different hashes are never compared.
    """

    utterance_id: str
    duration_s: float | None = None
    speech_s: float | None = None
    dnsmos_ovrl: float | None = None
    dnsmos_p808: float | None = None
    dnsmos_sig: float | None = None
    dnsmos_bak: float | None = None
    wer_errors: int | None = None
    wer_words: int | None = None
    transcript: str | None = None
    pesq_wb: float | None = None
    active_dbfs: float | None = None
    noise_floor_dbfs: float | None = None
    guards: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, float] = field(default_factory=dict)
    provenance: str = ""

    @property
    def wer(self) -> float | None:
        """Word error rate of this utterance; may exceed 1."""
        if self.wer_errors is None or not self.wer_words:
            return None
        return self.wer_errors / self.wer_words

    def to_mapping(self) -> dict[str, Any]:
        """Return a mapping of JSON types."""
        mapping = dataclasses.asdict(self)
        mapping["guards"] = list(self.guards)
        return mapping

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> UtteranceScores:
        """Read what ``to_mapping`` wrote.

        Raises:
            ScoresError: A field is unknown, missing, of the wrong type or not finite.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        unknown = sorted(set(mapping) - known)
        if unknown:
            raise ScoresError(f"unknown field {unknown[0]!r} in the scores of an utterance")
        if not isinstance(mapping.get("utterance_id"), str):
            raise ScoresError("the scores of an utterance lack their utterance_id")
        values = {name: _checked(name, value) for name, value in mapping.items()}
        return cls(**values)

    def to_json(self) -> str:
        """Return one line of JSON; refuses NaN and infinity, which JSON does not have."""
        return json.dumps(self.to_mapping(), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> UtteranceScores:
        """Read what ``to_json`` wrote.

        Raises:
            ScoresError: The text is not JSON, or not the scores of an utterance.
        """
        try:
            mapping = json.loads(text)
        except json.JSONDecodeError as error:
            raise ScoresError(f"the scores of an utterance are not JSON: {error}") from error
        if not isinstance(mapping, dict):
            raise ScoresError("the scores of an utterance must be a JSON object")
        return cls.from_mapping(mapping)


_TEXT = {"utterance_id", "transcript", "provenance"}
_NEVER_NONE = {"utterance_id", "guards", "failures", "extra", "provenance"}
_COUNTS = {"wer_errors", "wer_words"}


def _checked(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever stood in the JSON
    """Return one field's value in its Python type, or say what is wrong with it."""
    if name == "guards" and isinstance(value, list | tuple):
        return tuple(str(item) for item in value)
    if name == "failures" and isinstance(value, Mapping):
        return {str(key): str(reason) for key, reason in value.items()}
    if name == "extra" and isinstance(value, Mapping):
        return {str(key): _finite(f"{name}.{key}", float(number)) for key, number in value.items()}
    if value is None and name not in _NEVER_NONE:
        return None
    if name in _TEXT and isinstance(value, str):
        return value
    if name in _COUNTS and type(value) is int:
        return value
    numeric = name not in _TEXT | _COUNTS | {"guards", "failures", "extra"}
    if numeric and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(name, float(value))
    raise ScoresError(f"field {name!r} of an utterance's scores has the wrong type: {value!r}")


def _finite(name: str, value: float) -> float:
    """Return a number that a bound can be taken of; Python's JSON reads NaN and Infinity too."""
    if not math.isfinite(value):
        raise ScoresError(f"field {name!r} of an utterance's scores is not finite: {value}")
    return value
