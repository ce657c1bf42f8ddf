"""One trial's audio on its way to the judge: collected, scored while the child still speaks.

A child whose timing shows that it cannot win is stopped before it speaks. Of the others the judge
looks at 8, 16, 32, ... utterances, and the child is stopped at the first look after which the
candidate cannot pass. Where there are no cores to spare it stands still while the judge looks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.fidelity import FidelityConfig, FidelityStats, rejection, screen
from evaluation.gate import GateConfig, Verdict, decide, unarmed
from evaluation.scores import Clip, UtteranceScores
from evaluation.sequential import Plan, first_look
from search.folder import CLIPS
from search.process import ChildExit, Message
from search.record import Failure, write_atomically
from search.reference import Reference
from search.scoring import Scoring

# Names of the guards that trip on a clip with nothing in it to hear.
SILENT = frozenset({"empty", "too_short", "level"})


@dataclass(kw_only=True)
class Collected:
    """What a child has told so far, and what the judge has found."""

    phases: dict[str, float] = field(default_factory=dict)
    applied: list[Mapping[str, Any]] = field(default_factory=list)
    observed: dict[str, str] = field(default_factory=dict)
    measurements: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    clips: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    renders: dict[str, str] = field(default_factory=dict)
    judged: dict[str, Any] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        """Sort in one message."""
        self.phases |= message.get("seconds", {})
        self.applied += message.get("applied", [])
        self.observed |= message.get("observed", {})
        self.measurements |= message.get("measurements", {})
        self.metrics |= message.get("metrics", {})
        if "clip" in message:
            self.clips[message["clip"]["id"]] = message["clip"]
        if "render" in message:
            self.renders[message["render"]["id"]] = message["render"]["wav"]


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What the judge must know of a trial.

    Args:
        folder: The trial folder.
        references: Utterance id to what should be heard, in the order of synthesis.
        gate: How candidates are judged.
        reference: The baseline to compare with; None for the baseline itself.
        overlap: Whether the child may go on speaking while the judge looks.
        surpassed: Asked once, with the metrics that the timing gave: why the trial cannot win
            whatever its quality, or ""; None where that does not matter.
        screen: What is rejected at the token level, before anything is heard.
        unarmed: Why the gate lets nothing pass; empty where it is armed.
        on_hold: Told when the child is to stand still, and when it may go on.
    """

    folder: Path
    references: Mapping[str, str]
    gate: GateConfig
    reference: Reference | None
    overlap: bool = True
    surpassed: Callable[[Mapping[str, float]], str] | None = None
    screen: FidelityConfig = field(default_factory=FidelityConfig)
    unarmed: tuple[str, ...] = ()
    on_hold: Callable[[bool], None] = lambda _: None


class Judging:
    """Follows one child and has its audio scored, look by look, while it goes on speaking."""

    def __init__(self, brief: Brief, scoring: Scoring, on_phase: Callable[[str], None]) -> None:
        self.brief, self.scoring, self.on_phase = brief, scoring, on_phase
        self.collected = Collected()
        n_all = max(1, len(brief.references))
        self.plan = Plan(n=n_all, first=first_look(brief.gate.min_n))
        self.scores: list[UtteranceScores] = []
        self.verdict: Verdict | None = None
        # Who is as good, so that nothing is heard; or "".
        self.surpassed = ""
        self.looks: list[dict[str, Any]] = []
        self.pending: Future[list[UtteranceScores]] | None = None
        self.held_s, self.is_held = 0.0, False

    def take(self, message: Message) -> None:
        """Note a message; begin the next look once its utterances are there.

        What a child says after its timing showed that it cannot win is not listened to.
        """
        if self.surpassed:
            return
        self.collected.take(message)
        if "metrics" in message:
            self.surpassed = self.why_not_heard()
        if "phase" in message:
            self.on_phase(message["phase"])
        if "fidelity" in message:
            self.screen(FidelityStats.from_mapping(message["fidelity"]))
        self.follow()

    def screen(self, stats: FidelityStats) -> None:
        """Note the token level; what is plainly broken there is not heard at all."""
        self.collected.metrics |= stats.metrics()
        reasons = screen(stats, self.brief.screen)
        if reasons:
            self.verdict = rejection(reasons)

    def account(self, ended: ChildExit) -> None:
        """Note how long the child worked in its last phase, and how long it stood still."""
        phases = self.collected.phases
        if ended.stopped and not self.surpassed:
            phases.setdefault(ended.phase, ended.phase_s)
        elif ended.held_s and "synthesize" in phases:  # told by the child, whose clock went on
            phases["synthesize"] = max(0.0, phases["synthesize"] - ended.held_s)
        self.held_s = ended.held_s

    @property
    def settled(self) -> bool:
        """Whether no further utterance can let the candidate pass."""
        return self.verdict is not None and self.verdict.is_final

    def why_not_heard(self) -> str:
        """Return why the candidate cannot win whatever it sounds like, or ""."""
        brief = self.brief
        if brief.reference is None or brief.surpassed is None:
            return ""
        return brief.surpassed(self.collected.metrics)

    def needs_the_cores(self) -> bool:
        """Whether the child must stand still, since the judge looks and no core is to spare."""
        self.follow()
        held = not self.brief.overlap and self.pending is not None
        if held != self.is_held:
            self.is_held = held
            self.brief.on_hold(held)
        return held

    def enough(self) -> bool:
        """Whether nothing further matters: it cannot pass, or it cannot win."""
        self.follow()
        return self.settled or bool(self.surpassed)

    def follow(self) -> None:
        """End the look that is scored, and begin the next one if its utterances are spoken.

        The last look is left to ``finish``. Without cores to spare the baseline is left to it
        too, since it cannot be rejected.
        """
        if self.pending is not None and self.pending.done():
            self.end_look(complete=False)
        size = self.plan.next_look(len(self.scores))
        may_look = self.brief.overlap or self.brief.reference is not None
        if self.pending is not None or self.settled or size is None or not may_look:
            return
        if size < self.plan.n and size <= len(self.collected.clips):
            self.begin_look(size)

    def begin_look(self, size: int) -> None:
        """Send the judge what it lacks for a look at the first ``size`` utterances."""
        self.pending = self.submit(list(self.collected.clips)[len(self.scores) : size])

    def end_look(self, *, complete: bool) -> None:
        """Wait for the judge, and decide on all utterances scored so far."""
        assert self.pending is not None
        self.scores += self.pending.result()
        self.pending = None
        self.verdict = self.decide(self.scores, complete=complete)
        if self.verdict is not None:
            self.looks.append({"n": len(self.scores), "status": self.verdict.status})

    def finish(self) -> tuple[tuple[UtteranceScores, ...], Verdict | None]:
        """Take the looks that remain, as far as they matter; return scores and verdict."""
        n_spoken, planned = len(self.collected.clips), list(self.plan.looks)
        if self.surpassed:
            self.collected.judged = {
                "planned": planned, "looks": [], "n_spoken": 0, "surpassed": self.surpassed,
            }  # fmt: skip
        if not n_spoken:
            return (), self.verdict
        self.on_phase("judge")
        start, complete = time.perf_counter(), False
        while not (self.settled or complete):
            if self.pending is None:
                size = self.plan.next_look(len(self.scores)) or self.plan.n
                complete = size >= min(self.plan.n, n_spoken + 1)
                self.begin_look(n_spoken if complete else size)
            self.end_look(complete=complete)
        self.collected.phases["judge"] = self.held_s + time.perf_counter() - start
        self.collected.judged = {"planned": planned, "looks": self.looks, "n_spoken": n_spoken}
        return tuple(self.scores), self.verdict

    def decide(self, scores: Sequence[UtteranceScores], *, complete: bool) -> Verdict | None:
        """Return the gate's verdict, or None for the baseline."""
        if self.brief.reference is None:
            return None
        known = list(self.brief.reference.scores)
        verdict = decide(known, list(scores), self.brief.gate, complete=complete)
        return unarmed(verdict, self.brief.unarmed) if self.brief.unarmed else verdict

    def submit(self, ids: Sequence[str]) -> Future[list[UtteranceScores]]:
        """Begin to score these utterances."""
        return self.scoring.submit([self.clip(utterance_id) for utterance_id in ids])

    def clip(self, utterance_id: str) -> Clip:
        """Return one utterance with everything it is judged by."""
        told = self.collected.clips[utterance_id]
        reference, folder = self.brief.reference, self.brief.folder
        render = self.collected.renders.get(utterance_id)
        paired = reference.renders.get(utterance_id) if reference else None
        both = render is not None and paired is not None
        return Clip(
            utterance_id=utterance_id,
            wav_path=folder / told["wav"],
            reference=self.brief.references[utterance_id],
            n_truncated=told["n_truncated"],
            n_tokens=told["n_tokens"],
            tokens=tuple(map(tuple, told["tokens"])),
            render_path=folder / render if both and render else None,
            baseline_render_path=paired if both else None,
        )

    def save_clips(self) -> None:
        """Write what later trials need of this one: files and tokens."""
        text = json.dumps({"clips": self.collected.clips, "renders": self.collected.renders})
        write_atomically(self.brief.folder / CLIPS, text)


def silent(scores: Sequence[UtteranceScores]) -> Failure | None:
    """Return a failure if every judged utterance tripped a guard for having nothing in it."""
    found = [[g for g in s.guards if g.partition(":")[0] in SILENT] for s in scores]
    if not found or not all(found):
        return None
    message = f"all {len(scores)} judged utterances are silent or empty: {found[0][0]}"
    return Failure(phase="judge", kind="silence", message=message)
