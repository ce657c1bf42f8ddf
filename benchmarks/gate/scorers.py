"""Who speaks and scores a pool: the judge on the CPU, or processes that share a device.

Both end when the time is up; what was scored by then has been given back already.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch

from benchmarks.gate.batched import (
    Opinion,
    agreement,
    ear,
    opinions_of,
    with_opinion,
    with_words,
)
from benchmarks.gate.deadline import Deadline, OutOfTimeError
from benchmarks.gate.scoring import METRICS, score, write_clips
from benchmarks.gate.voices import CPU_BATCH, Spoken, speak_options, speaker
from evaluation.audio import read_clip
from evaluation.judge import Judge
from evaluation.prompts import Prompt
from evaluation.scores import Clip, UtteranceScores

GPU_BATCH = 64
MIN_PART = 16
"""Fewer clips than this are not worth a process of their own."""


class Scorer(Protocol):
    """Speaks and scores; a context manager."""

    def speak(self, voice: str, prompts: Sequence[Prompt], seed: int) -> list[Spoken]:
        """Say every prompt; the seeds count on from the first."""

    def score(self, prompts: Sequence[Prompt], spoken: Sequence[Spoken]) -> list[UtteranceScores]:
        """Return what the gate decides on."""

    def opinions(
        self, prompts: Sequence[Prompt], spoken: Sequence[Spoken]
    ) -> list[UtteranceScores]:
        """Return the same with DNSMOS alone."""

    def provenance(self) -> dict[str, Any]:
        """Return what the scores depend on."""

    def agreement(self) -> dict[str, Any] | None:
        """Return how far the scores are from the judge's own; None where they are its own."""


class OnJudge:
    """The judge as in a sweep, one process per core; speaks in this process.

    Args:
        workers: Of the judge; 0 is one per core.
        deadline: When to give up.
    """

    def __init__(self, workers: int, deadline: Deadline) -> None:
        self._judge = Judge("embedded", workers, metrics=METRICS)
        self._dnsmos = Judge("embedded", workers, metrics=("dnsmos",))
        self._deadline = deadline

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._judge.close()
        self._dnsmos.close()

    def speak(self, voice: str, prompts: Sequence[Prompt], seed: int) -> list[Spoken]:
        """Say every prompt.

        Raises:
            OutOfTimeError: The time is up.
            VoiceMissingError: The voice is not installed.
        """
        spoken = []
        for item in speaker(voice)(prompts, seed):
            self._deadline.check()
            spoken.append(item)
        return spoken

    def score(self, prompts: Sequence[Prompt], spoken: Sequence[Spoken]) -> list[UtteranceScores]:
        """Score by all that the gate decides on.

        Raises:
            OutOfTimeError: The time is up.
        """
        return score(self._judge, prompts, spoken, on_progress=self._deadline.check)

    def opinions(
        self, prompts: Sequence[Prompt], spoken: Sequence[Spoken]
    ) -> list[UtteranceScores]:
        """Score by DNSMOS alone.

        Raises:
            OutOfTimeError: The time is up.
        """
        return score(self._dnsmos, prompts, spoken, on_progress=self._deadline.check)

    def provenance(self) -> dict[str, Any]:
        """Return the judge's provenance."""
        return {**self._judge.provenance()}

    def agreement(self) -> None:
        """Say that these are the judge's own scores."""
        return


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What one process found in its part of the clips; no transcripts where none were asked."""

    transcripts: tuple[str, ...]
    opinions: tuple[Opinion, ...]


class InBatches:
    """Words and DNSMOS in batches on a device by a few processes, the judge's guards beside them.

    Args:
        device: ``cuda:0``, or ``cpu`` to try it out.
        processes: That use the device.
        workers: Of the judge's guards; 0 is one per core.
        deadline: When to give up.
    """

    def __init__(self, device: str, processes: int, workers: int, deadline: Deadline) -> None:
        self._device, self._n, self._deadline = device, processes, deadline
        self._guards = Judge("embedded", workers, metrics=("guards",))
        self._folder = tempfile.TemporaryDirectory(prefix="gate-")
        self._folders = 0
        self._pool = multiprocessing.get_context("spawn").Pool(
            processes, initializer=torch.set_num_threads, initargs=(1,)
        )
        self._agreement: Any = None

    def __enter__(self) -> Self:
        self._guards.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.terminate()
        self._pool.join()
        self._guards.close()
        self._folder.cleanup()

    def speak(self, voice: str, prompts: Sequence[Prompt], seed: int) -> list[Spoken]:
        """Say every prompt, each process its part.

        Raises:
            OutOfTimeError: The time is up.
            VoiceMissingError: The voice is not installed.
        """
        parts = [
            (voice, prompts[part], seed + part.start, self._device) for part in self._parts(prompts)
        ]
        return list(chain.from_iterable(self._ask(_speak, parts)))

    def score(self, prompts: Sequence[Prompt], spoken: Sequence[Spoken]) -> list[UtteranceScores]:
        """Score by all that the gate decides on.

        Raises:
            OutOfTimeError: The time is up.
        """
        clips = self._written(prompts, spoken)
        asked = self._start(
            _hear, [(clips[part], self._device, True) for part in self._parts(clips)]
        )
        guarded = self._guards.score(clips, on_progress=self._deadline.check)
        found = self._wait(asked)
        heard = list(chain.from_iterable(part.transcripts for part in found))
        opinions = list(chain.from_iterable(part.opinions for part in found))
        if self._agreement is None:
            self._agreement = self._start(agreement, [(clips, heard, opinions)])
        else:
            _forget(clips)
        return [
            with_words(with_opinion(item, opinion), clip.reference, text)
            for item, clip, text, opinion in zip(guarded, clips, heard, opinions, strict=True)
        ]

    def opinions(
        self, prompts: Sequence[Prompt], spoken: Sequence[Spoken]
    ) -> list[UtteranceScores]:
        """Score by DNSMOS alone.

        Raises:
            OutOfTimeError: The time is up.
        """
        clips = self._written(prompts, spoken)
        found = self._ask(
            _hear, [(clips[part], self._device, False) for part in self._parts(clips)]
        )
        _forget(clips)
        return [
            with_opinion(UtteranceScores(utterance_id=clip.utterance_id), opinion)
            for clip, opinion in zip(
                clips, chain.from_iterable(part.opinions for part in found), strict=True
            )
        ]

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of the judge's guards, and the device."""
        return {**self._guards.provenance(), "batches": self._device.partition(":")[0]}

    def agreement(self) -> dict[str, Any] | None:
        """Wait for the comparison of the first scores with the judge's own.

        Raises:
            OutOfTimeError: The time is up.
        """
        return None if self._agreement is None else self._wait(self._agreement)[0]

    def _written(self, prompts: Sequence[Prompt], spoken: Sequence[Spoken]) -> list[Clip]:
        self._folders += 1
        return write_clips(Path(self._folder.name) / str(self._folders), prompts, spoken)

    def _parts(self, items: Sequence[Any]) -> list[slice]:
        size = max(MIN_PART, -(-len(items) // self._n))
        return [slice(start, start + size) for start in range(0, len(items), size)]

    def _start(self, work: Any, parts: Sequence[tuple[Any, ...]]) -> list[Any]:  # noqa: ANN401
        return [self._pool.apply_async(work, part) for part in parts]

    def _ask(self, work: Any, parts: Sequence[tuple[Any, ...]]) -> list[Any]:  # noqa: ANN401
        return self._wait(self._start(work, parts))

    def _wait(self, asked: Sequence[Any]) -> list[Any]:
        found = []
        for one in asked:
            try:
                found.append(one.get(timeout=max(0.1, self._deadline.left_s)))
            except multiprocessing.TimeoutError:
                raise OutOfTimeError from None
        return found


def _speak(voice: str, prompts: Sequence[Prompt], seed: int, device: str) -> list[Spoken]:
    """Say prompts in a process of its own."""
    if voice != "embedded":
        return list(speaker(voice)(prompts, seed))
    batch = CPU_BATCH if device == "cpu" else GPU_BATCH
    return list(speak_options(prompts, seed, {"batch_size": batch}, device))


def _hear(clips: Sequence[Clip], device: str, words: bool) -> Heard:
    """Hear and score clips in a process of its own."""
    sounds = [read_clip(clip.wav_path) for clip in clips]
    heard = ear(device).transcribe(sounds) if words else []
    return Heard(transcripts=tuple(heard), opinions=opinions_of(sounds, device))


def _forget(clips: Sequence[Clip]) -> None:
    for clip in clips:
        clip.wav_path.unlink()
