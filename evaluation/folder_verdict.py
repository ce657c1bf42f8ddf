"""Judge one folder of wavs against another: the baseline first, then the candidate look by look.

The candidate is rejected at the first look that shows it, and accepted only at the last. A gate
that would let it pass is armed first: damaged copies of the baseline must not pass it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile

from evaluation.arming import Arming, arm
from evaluation.audio import SAMPLE_RATE_HZ
from evaluation.folders import Folder, Inputs
from evaluation.gate import GateConfig, Verdict, check_baseline, decide, unarmed
from evaluation.recogniser import doubt
from evaluation.scores import Clip, UtteranceScores
from evaluation.sequential import first_look, looks
from evaluation.verdict import Status
from evaluation.wording import summarise

OnProgress = Callable[[str, int, int], None]
"""Told what is judged, how many of its clips are done, and how many there are."""

HARMLESS_N = 32
"""Harmless copies that pass on this many utterances are not judged further."""

NOT_AGAIN = "The baseline was not judged against itself (--baseline-again)."
NOT_ARMED = "The gate was not tried on damaged copies (--no-arming)."


class Scorer(Protocol):
    """What scores clips: ``evaluation.judge.Judge``, or a stand-in in tests."""

    def score(
        self,
        clips: Sequence[Clip],
        *,
        metrics: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[UtteranceScores]:
        """Score clips, in their order, by some of the metrics or (None) by all."""
        ...


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the gate said at one look."""

    n: int
    status: Status


@dataclass(frozen=True, kw_only=True)
class FolderVerdict:
    """How one folder did against another.

    Args:
        verdict: The gate's last word.
        looks: What it said at each look at the candidate.
        baseline: Scores of every utterance, in the order of listening.
        candidate: Scores of those that were listened to.
        again: The baseline against itself with other seeds; None where it was not judged.
        arming: How the gate was tried; None where it was not.
    """

    verdict: Verdict
    looks: tuple[Look, ...]
    baseline: tuple[UtteranceScores, ...]
    candidate: tuple[UtteranceScores, ...]
    again: Verdict | None
    arming: Arming | None


def judge_folders(
    inputs: Inputs,
    config: GateConfig,
    scorer: Scorer,
    *,
    aligned: bool = False,
    arming: bool = True,
    on_progress: OnProgress = lambda *_: None,
) -> FolderVerdict:
    """Judge a candidate's folder against the baseline's.

    Args:
        inputs: Folders that were checked.
        config: The gate.
        scorer: Scores the clips.
        aligned: Whether both are renderings of the same tokens, so that PESQ means something; it
            is measured and never gated on.
        arming: Whether to try the gate on damaged copies before it lets anything pass.
        on_progress: Told of every clip.

    Raises:
        JudgeError: The judge cannot work at all.
    """
    with tempfile.TemporaryDirectory(prefix="mosgate-judge-") as place:
        hearing = _Hearing(inputs, config, scorer, Path(place), on_progress)
        return hearing.run(aligned=aligned, arming=arming)


class _Hearing:
    """One judgement on its way."""

    def __init__(
        self,
        inputs: Inputs,
        config: GateConfig,
        scorer: Scorer,
        place: Path,
        on_progress: OnProgress,
    ) -> None:
        self.inputs, self.config, self.scorer = inputs, config, scorer
        self.place, self.on_progress = place, on_progress
        self.looks: list[Look] = []

    def run(self, *, aligned: bool, arming: bool) -> FolderVerdict:
        clips = self.clips(self.inputs.baseline, "baseline")
        baseline = self.score("baseline", clips)
        unfit = check_baseline(baseline, self.config)
        if unfit:
            unfit += [said for said in [doubt(baseline)] if said]
            return self.found(_ungated(len(baseline), unfit), baseline)
        candidate, verdict = self.listen(baseline, clips if aligned else None)
        again = self.hear_again()
        itself = decide(baseline, again, self.config) if again else None
        armed, notes = None, self.notes(verdict)
        if verdict.status == "PASS" and arming:
            armed = self.arm(clips, baseline, again)
            verdict = verdict if armed.armed else unarmed(verdict, armed.missed)
        elif itself is not None and itself.status != "PASS":
            said = f"The baseline does not pass against itself: {_sentence(itself.summary)}"
            notes += [] if verdict.status == "PASS" else [said]
            verdict = unarmed(verdict, [said])
        notes += [] if arming else [NOT_ARMED]
        verdict = replace(verdict, summary=" ".join([_sentence(verdict.summary), *notes]))
        return self.found(verdict, baseline, candidate, itself, armed)

    def notes(self, verdict: Verdict) -> list[str]:
        """Say what the verdict's sentence does not: what was left out, and why it was."""
        n_all = len(self.inputs.texts)
        stopped = f"Stopped after {verdict.n} of {n_all}: no more of them could make it pass."
        notes = [stopped] if verdict.n < n_all and verdict.status != "FAIL" else []
        if self.inputs.candidate.digest == self.inputs.baseline.digest:
            notes.append("Every file is the baseline's own, byte by byte.")
        return notes if self.inputs.again else [*notes, NOT_AGAIN]

    def found(
        self,
        verdict: Verdict,
        baseline: Sequence[UtteranceScores],
        candidate: Sequence[UtteranceScores] = (),
        again: Verdict | None = None,
        arming: Arming | None = None,
    ) -> FolderVerdict:
        return FolderVerdict(
            verdict=verdict, looks=tuple(self.looks), baseline=tuple(baseline),
            candidate=tuple(candidate), again=again, arming=arming,
        )  # fmt: skip

    def listen(
        self, baseline: Sequence[UtteranceScores], aligned_to: Sequence[Clip] | None
    ) -> tuple[list[UtteranceScores], Verdict]:
        """Listen to the candidate until no more can make it pass; return scores and verdict."""
        clips = self.clips(self.inputs.candidate, "candidate")
        if aligned_to is not None:
            clips = [
                replace(clip, render_path=clip.wav_path, baseline_render_path=theirs.wav_path)
                for clip, theirs in zip(clips, aligned_to, strict=True)
            ]
        scores: list[UtteranceScores] = []
        for size in looks(len(clips), first_look(self.config.min_n)):
            scores += self.score("candidate", clips[len(scores) : size], len(scores), len(clips))
            verdict = decide(baseline, scores, self.config, complete=size == len(clips))
            self.looks.append(Look(n=size, status=verdict.status))
            if verdict.is_final:
                break
        return scores, verdict

    def hear_again(self) -> list[UtteranceScores]:
        """Score the baseline's second hearing; nothing where there is none."""
        if self.inputs.again is None:
            return []
        return self.score("baseline again", self.clips(self.inputs.again, "again"))

    def arm(
        self,
        clips: Sequence[Clip],
        baseline: Sequence[UtteranceScores],
        again: Sequence[UtteranceScores],
    ) -> Arming:
        """Try the gate on the baseline."""
        return arm(
            clips, baseline, again or None, _Copies(self), self.config, harmless_n=HARMLESS_N
        )

    def score(
        self,
        what: str,
        clips: Sequence[Clip],
        n_before: int = 0,
        n_all: int | None = None,
        metrics: Sequence[str] | None = None,
    ) -> list[UtteranceScores]:
        """Score clips, telling how far it is with them."""
        total = n_all or len(clips)
        self.on_progress(what, n_before, total)
        return self.scorer.score(
            clips,
            metrics=metrics,
            on_progress=lambda done, _: self.on_progress(what, n_before + done, total),
        )

    def clips(self, folder: Folder, name: str) -> list[Clip]:
        """Return a folder's clips in the order of listening, at 16 kHz."""
        return [
            Clip(
                utterance_id=spoken.name,
                wav_path=self.at_16_khz(folder.sounds[spoken.name].path, name),
                reference=spoken.reference,
            )
            for spoken in self.inputs.texts
        ]

    def at_16_khz(self, path: Path, name: str) -> Path:
        """Return a file of 16 kHz with the same sound."""
        if self.inputs.rate_hz == SAMPLE_RATE_HZ:
            return path
        import soxr

        samples, rate_hz = soundfile.read(path, dtype="float32")
        resampled = np.asarray(soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ, quality="HQ"))
        target = self.place / name / f"{path.stem}.wav"
        target.parent.mkdir(exist_ok=True)
        soundfile.write(target, resampled, SAMPLE_RATE_HZ, subtype="FLOAT")
        return target


class _Copies:
    """The scorer of damaged copies, which tells how far it is."""

    def __init__(self, hearing: _Hearing) -> None:
        self.hearing = hearing

    def score(
        self, clips: Sequence[Clip], *, metrics: Sequence[str] | None = None
    ) -> list[UtteranceScores]:
        """Score clips, in their order, by some of the metrics or (None) by all."""
        return self.hearing.score("copies of the baseline", clips, metrics=metrics)


def _ungated(n: int, unfit: Sequence[str]) -> Verdict:
    """Return the verdict where there is nothing to compare with."""
    reasons = ("The baseline is unfit to be compared with.", *unfit)
    empty = Verdict(status="UNGATED", n=n, bounds=(), reasons=reasons, summary="")
    return replace(empty, summary=summarise(empty))


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
