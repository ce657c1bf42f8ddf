"""From clips to scores to a verdict, in the background, with nothing judged twice."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from evaluation.provenance import file_sha256
from evaluation.scores import Clip, UtteranceScores


class Scorer(Protocol):
    """What scores clips: ``evaluation.judge.Judge``, or a stand-in in tests."""

    def score(
        self,
        clips: Sequence[Clip],
        *,
        on_progress: Callable[[int, int], None] | None = None,
        metrics: Sequence[str] | None = None,
    ) -> list[UtteranceScores]:
        """Score clips, in their order, by some metrics or (None) by all.

        Tell how many are done, and stop if that raises.
        """
        ...

    def provenance(self) -> Mapping[str, str]:
        """Return versions and checksums of what scores."""
        ...


class Scoring:
    """Scores batches of clips one after another on a thread of its own.

    Two clips with the same samples, reference and renderings have the same scores, so the second
    one is looked up: a candidate whose audio is the baseline's bit for bit costs nothing.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.known: dict[str, UtteranceScores] = {}
        self.is_closed = False
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scoring")

    def __enter__(self) -> Scoring:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True  # nobody waits for what is still being scored
        self.executor.shutdown(wait=True, cancel_futures=True)

    def submit(self, clips: Sequence[Clip]) -> Future[list[UtteranceScores]]:
        """Begin to score clips."""
        return self.executor.submit(self._score, list(clips))

    def in_turn(self, work: Callable[[], list[UtteranceScores]]) -> list[UtteranceScores]:
        """Do other scoring on this thread, after what it has to do, and wait for it."""
        return self.executor.submit(work).result()

    def _score(self, clips: list[Clip]) -> list[UtteranceScores]:
        keys = [clip_key(clip) for clip in clips]
        new = [clip for clip, key in zip(clips, keys, strict=True) if key not in self.known]
        if new:
            scored = {s.utterance_id: s for s in self.scorer.score(new, on_progress=self._go_on)}
            for clip, key in zip(clips, keys, strict=True):
                found = scored.get(clip.utterance_id)
                # A metric that failed may do better next time: do not keep that.
                if found is not None and not found.failures:
                    self.known.setdefault(key, found)
            fresh = [
                scored.get(clip.utterance_id) or self.known[key]
                for clip, key in zip(clips, keys, strict=True)
            ]
        else:
            fresh = [self.known[key] for key in keys]
        return [replace(s, utterance_id=c.utterance_id) for s, c in zip(fresh, clips, strict=True)]

    def _go_on(self, _done: int, _total: int) -> None:
        """Give up in the middle of a batch once a person has stopped the sweep."""
        if self.is_closed:
            raise CancelledError


def clip_key(clip: Clip) -> str:
    """Return a content address of everything a score depends on."""
    parts: list[Any] = [clip.reference, clip.n_truncated, clip.n_tokens, clip.tokens]
    parts += [_checksum(p) for p in (clip.wav_path, clip.render_path, clip.baseline_render_path)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _checksum(path: Path | None) -> str:
    return file_sha256(path) if path else ""


def quality_metrics(scores: Sequence[UtteranceScores]) -> dict[str, float]:
    """Return means over utterances, the corpus word error rate, and counts of what went wrong."""
    metrics: dict[str, float] = {}
    for name in ("dnsmos_ovrl", "dnsmos_p808", "dnsmos_sig", "dnsmos_bak", "pesq_wb", "duration_s"):
        values = [v for s in scores if (v := getattr(s, name)) is not None]
        if values:
            metrics["audio_mean_s" if name == "duration_s" else name] = math.fsum(values) / len(
                values
            )
    words = sum(s.wer_words or 0 for s in scores if s.wer_errors is not None)
    if words:
        metrics["wer"] = sum(s.wer_errors or 0 for s in scores) / words
    if scores:
        metrics["n_judged"] = float(len(scores))
        metrics["n_guarded"] = float(sum(bool(s.guards) for s in scores))
        metrics["n_metric_failures"] = float(sum(bool(s.failures) for s in scores))
    return metrics


def plain(value: Any) -> Any:  # noqa: ANN401 - any nested plain value
    """Return JSON values: tuples as lists, and None for what is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value
