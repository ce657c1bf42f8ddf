"""The trial of each canary: written, scored and judged look by look, as a candidate is.

Damage that the guards see is rejected before any network is asked, the rest at the first look as
a rule, and all copies of a look are scored in one batch.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile

from evaluation.audio import SAMPLE_RATE_HZ, read_clip
from evaluation.canaries import Canary
from evaluation.gate import decide
from evaluation.scores import Clip, UtteranceScores
from evaluation.sequential import first_look, looks
from evaluation.tail import GATED_METRICS
from evaluation.verdict import GateConfig, Status, Verdict

SCREEN = ("guards",)
"""What is asked first: it costs next to nothing, may reject and never accepts."""


class Scorer(Protocol):
    """What scores clips: ``evaluation.judge.Judge``, or what stands before one."""

    def score(
        self, clips: Sequence[Clip], *, metrics: Sequence[str] | None = None
    ) -> list[UtteranceScores]:
        """Score clips, in their order, by some of the metrics or (None) by all."""
        ...


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the gate said to one canary.

    Args:
        name: The canary's.
        what: What it does, to stand in a sentence.
        harmless: Whether it had to pass; otherwise it had to be turned down.
        status: The gate's last word. On damage it is asked as if what failed had heard nothing:
            a failure counts as the worst case, and a metric that is dead on every copy would
            otherwise turn down all of them.
        n: Utterances that this took.
        reason: The first reason that the gate gave, or "".
        failures: Metric to how many copies it failed on.
        is_moot: Whether it left every clip as it was, as a gain does at full scale: what is said
            to such copies proves nothing.
    """

    name: str
    what: str
    harmless: bool
    status: Status
    n: int
    reason: str
    failures: Mapping[str, int] = field(default_factory=dict)
    is_moot: bool = False

    @property
    def is_right(self) -> bool:
        """Whether the gate said what it had to say.

        UNDECIDED when the full judgement is over turns a candidate down, and so it does damage.
        UNGATED does not: there nothing was judged.
        """
        return self.status in (("PASS",) if self.harmless else ("FAIL", "UNDECIDED"))


def judge_canaries(
    canaries: Sequence[Canary],
    clips: Sequence[Clip],
    baseline: Sequence[UtteranceScores],
    scorer: Scorer,
    config: GateConfig,
    *,
    harmless_n: int | None = None,
) -> tuple[tuple[Judged, ...], int]:
    """Have a gate judge canaries; the audio is removed again after each look.

    Args:
        canaries: What to try.
        clips: The baseline's audio, one clip at least.
        baseline: Its scores, in the clips' order.
        scorer: Scores the copies, as it scored the baseline.
        config: The gate.
        harmless_n: As in ``evaluation.arming.arm``.

    Returns:
        What was said to each, and how many copies every metric was asked about.

    Raises:
        AudioError: A clip of the baseline cannot be read.
    """
    enough = len(clips) if harmless_n is None else harmless_n
    trials = [_Trial(canary, clips, baseline, config, enough) for canary in canaries]
    sizes = looks(len(clips), first_look(config.min_n))
    n_judged = sum(_look(trials, size, scorer) for size in sizes)
    return tuple(trial.judged() for trial in trials), n_judged


class _Trial:
    """One canary on its way through the looks."""

    def __init__(
        self, canary: Canary, clips: Sequence[Clip], baseline: Sequence[UtteranceScores],
        config: GateConfig, enough: int,
    ) -> None:  # fmt: skip
        self.canary, self.clips, self.baseline = canary, clips, baseline
        self.config, self.enough = config, enough
        self.scores: list[UtteranceScores] = []
        self.verdict: Verdict | None = None
        self.failures: dict[str, int] = {}
        self.has_changed = False
        self.is_open = True

    def copies(self, size: int, folder: Path) -> list[Clip]:
        """Write the changed copies up to a look, under names unique among canaries."""
        wanted = range(len(self.scores), size)
        return [self._copy(i, folder) for i in wanted if self.canary.touches(i)]

    def _copy(self, position: int, folder: Path) -> Clip:
        clip = self.clips[position]
        path = folder / self.canary.name / f"{position:04d}.wav"
        path.parent.mkdir(exist_ok=True)
        samples = read_clip(clip.wav_path)
        changed = self.canary.apply(samples, clip.utterance_id)
        self.has_changed |= not np.array_equal(changed, samples)
        # Float, as the baseline's own: what leaves full scale must stay visible to the guards.
        soundfile.write(path, changed, SAMPLE_RATE_HZ, subtype="FLOAT")
        return replace(
            clip, utterance_id=self._name(position), wav_path=path, render_path=None,
            baseline_render_path=None,
        )  # fmt: skip

    def _name(self, position: int) -> str:
        """Name a copy apart from those of all other canaries."""
        return f"{self.canary.name}/{self.clips[position].utterance_id}"

    def screen(self, size: int, found: Mapping[str, UtteranceScores]) -> None:
        """Close it when the guards alone reject it.

        What was not asked for is taken to be as good as the baseline's own.
        """
        scores = self._with(size, found)
        self.failures = _failures(scores)
        scores = [_filled(one, own) for one, own in zip(scores, self.baseline, strict=False)]
        verdict = decide(self.baseline, scores, self.config, complete=False)
        if verdict.status == "FAIL":
            self.verdict, self.is_open = verdict, False

    def take(self, size: int, found: Mapping[str, UtteranceScores]) -> None:
        """Take the scores up to a look, and ask the gate."""
        self.scores = self._with(size, found)
        self.failures = _failures(self.scores)
        is_last = size == len(self.clips)
        heard = self.scores if self.canary.harmless else self._heard()
        self.verdict = decide(self.baseline, heard, self.config, complete=is_last)
        self.is_open = not (is_last or self.verdict.is_final)
        if self.is_open and self.canary.harmless and size >= self.enough:
            early = decide(self.baseline[:size], self.scores, self.config)
            if early.status == "PASS":
                self.verdict, self.is_open = early, False

    def rest(self, folder: Path) -> list[Clip]:
        """Write the copies that an early PASS left out, none otherwise."""
        is_early = self.verdict is not None and self.verdict.status == "PASS"
        return self.copies(len(self.clips), folder) if is_early and not self.is_open else []

    def see_rest(self, found: Mapping[str, UtteranceScores]) -> None:
        """Take back an early PASS when the guards reject what was left out.

        A few utterances rule out little of the tail: none newly ruined passes at any n.
        """
        rest = self._with(len(self.clips), found)[len(self.scores) :]
        own = self.baseline[len(self.scores) :]
        # A guard that fails here is a harmless copy rejected, so its failure stays.
        seen = [
            replace(_filled(one, theirs), failures=one.failures)
            for one, theirs in zip(rest, own, strict=True)
        ]
        whole = decide(self.baseline, [*self.scores, *seen], self.config)
        if whole.status != "PASS":
            self.verdict = whole

    def _heard(self) -> list[UtteranceScores]:
        """Return the scores with the baseline's own where a metric failed: it proves no damage."""
        pairs = zip(self.scores, self.baseline, strict=False)
        return [_filled(one, own) if one.failures else one for one, own in pairs]

    def _with(self, size: int, found: Mapping[str, UtteranceScores]) -> list[UtteranceScores]:
        """Return the scores so far and those just found, under the baseline's names."""
        scores = list(self.scores)
        for i in range(len(scores), size):
            own = self.baseline[i]
            # What is not changed needs no second judgement: it is the baseline's own clip.
            heard = found[self._name(i)] if self.canary.touches(i) else own
            scores.append(replace(heard, utterance_id=own.utterance_id))
        return scores

    def judged(self) -> Judged:
        """Return the gate's last word."""
        assert self.verdict is not None  # there is always one look
        return Judged(
            name=self.canary.name,
            what=self.canary.what,
            harmless=self.canary.harmless,
            status=self.verdict.status,
            n=self.verdict.n,
            reason=next(iter(self.verdict.reasons), ""),
            failures=self.failures,
            is_moot=not self.has_changed,
        )


def _filled(scores: UtteranceScores, own: UtteranceScores) -> UtteranceScores:
    """Return scores with the baseline's own in place of what was not measured or failed."""
    known = {name: value for name, value in vars(scores).items() if value is not None}
    return replace(own, **{**known, "failures": {}})


def _failures(scores: Sequence[UtteranceScores]) -> dict[str, int]:
    """Count the failures of each metric that the gate rests on."""
    return dict(Counter(name for one in scores for name in one.failures if name in GATED_METRICS))


def _look(trials: Sequence[_Trial], size: int, scorer: Scorer) -> int:
    """Take all open canaries to a look; return how many clips every metric was asked about."""
    waiting = [trial for trial in trials if trial.is_open]
    with tempfile.TemporaryDirectory(prefix="mosgate-canaries-") as place:
        copies = {trial: trial.copies(size, Path(place)) for trial in waiting}
        damages = [trial for trial in waiting if not trial.canary.harmless]
        screened = _scored(scorer, [c for trial in damages for c in copies[trial]], SCREEN)
        for trial in damages:
            trial.screen(size, screened)
        waiting = [trial for trial in waiting if trial.is_open]
        clips = [clip for trial in waiting for clip in copies[trial]]
        found = _scored(scorer, clips, None)
    for trial in waiting:
        trial.take(size, found)
    for trial in waiting:
        _see_rest(trial, scorer)
    return len(clips)


def _see_rest(trial: _Trial, scorer: Scorer) -> None:
    """Ask the guards about the copies that an early PASS left out."""
    with tempfile.TemporaryDirectory(prefix="mosgate-canaries-") as place:
        clips = trial.rest(Path(place))
        if clips:
            trial.see_rest(_scored(scorer, clips, SCREEN))


def _scored(
    scorer: Scorer, clips: Sequence[Clip], metrics: Sequence[str] | None
) -> dict[str, UtteranceScores]:
    if not clips:
        return {}
    return {item.utterance_id: item for item in scorer.score(clips, metrics=metrics)}
