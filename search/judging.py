"""One trial's audio on its way to the judge: collected, scored while the child still speaks."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.gate import GateConfig, Verdict, decide
from evaluation.scores import Clip, UtteranceScores
from search.errors import InfrastructureError
from search.folder import CLIPS
from search.process import Message
from search.record import NOT_JUDGED, Failure, write_atomically
from search.scoring import Scoring

# What the guards say of a clip with nothing in it.
SILENT = re.compile(r"silen|empty|short|level|quiet|unvoiced|voiced", re.I)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What candidates are compared with: the baseline's scores, tokens and renderings.

    Args:
        scores: One per utterance.
        tokens: Utterance id to speech tokens, of the first few utterances.
        renders: Utterance id to a wav of those tokens by the baseline's vocoder.
    """

    scores: tuple[UtteranceScores, ...]
    tokens: Mapping[str, Any] = field(default_factory=dict)
    renders: Mapping[str, Path] = field(default_factory=dict)


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
        overlap: Whether to judge while the child still speaks.
        surpassed: Given the trial's metrics: why it cannot win whatever its quality, or "";
            None where that does not matter.
    """

    folder: Path
    references: Mapping[str, str]
    gate: GateConfig
    reference: Reference | None
    overlap: bool = True
    surpassed: Callable[[Mapping[str, float]], str] | None = None


class Judging:
    """Follows one child and has its audio scored while it goes on speaking."""

    def __init__(self, brief: Brief, scoring: Scoring, on_phase: Callable[[str], None]) -> None:
        self.brief, self.scoring, self.on_phase = brief, scoring, on_phase
        self.collected = Collected()
        self.n_early = max(brief.gate.min_n, -(-len(brief.references) // 3))
        self.early: Future[list[UtteranceScores]] | None = None

    def take(self, message: Message) -> None:
        """Note a message; send the first third to the judge once it is there."""
        self.collected.take(message)
        if "phase" in message:
            self.on_phase(message["phase"])
        if self.brief.overlap:
            self.look_early()

    def look_early(self) -> None:
        """Have the first third judged, if it is there and is not all there is."""
        n_spoken, n_all = len(self.collected.clips), len(self.brief.references)
        if self.early is None and self.n_early <= n_spoken and self.n_early < n_all:
            self.early = self.submit(list(self.collected.clips)[: self.n_early])

    @property
    def why_no_more(self) -> str:
        """Why the first third is enough although nothing is wrong with it, or ""."""
        brief = self.brief
        if brief.reference is None or brief.surpassed is None:
            return ""
        return brief.surpassed(self.collected.metrics)

    def enough(self) -> bool:
        """Whether nothing after the first third matters: it cannot pass, or cannot win."""
        if len(self.collected.clips) >= self.n_early and self.why_no_more:
            return True
        if self.early is None or not self.early.done():
            return False
        verdict = self.decide(self.early.result(), complete=False)
        return verdict is not None and verdict.status == "FAIL"

    def finish(self) -> tuple[tuple[UtteranceScores, ...], Verdict | None]:
        """Have the rest judged, unless the first third was enough; return scores and verdict."""
        ids = list(self.collected.clips)
        if not ids:
            return (), None
        self.on_phase("judge")
        start = time.perf_counter()
        self.look_early()
        scores = self.early.result() if self.early is not None else []
        verdict = self.decide(scores, complete=False) if scores else None
        if verdict is not None and verdict.status != "FAIL" and self.why_no_more:
            reasons = (*verdict.reasons, f"{NOT_JUDGED}{self.why_no_more}.")
            verdict = replace(verdict, status="UNDECIDED", reasons=reasons)
        elif verdict is None or verdict.status != "FAIL":
            scores = scores + self.submit(ids[len(scores) :]).result()
            verdict = self.decide(scores, complete=True)
        self.collected.phases["judge"] = time.perf_counter() - start
        return tuple(scores), verdict

    def decide(self, scores: Sequence[UtteranceScores], *, complete: bool) -> Verdict | None:
        """Return the gate's verdict, or None for the baseline."""
        if self.brief.reference is None:
            return None
        known = list(self.brief.reference.scores)
        return decide(known, list(scores), self.brief.gate, complete=complete)

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
            render_path=folder / render if both and render else None,
            baseline_render_path=paired if both else None,
        )

    def save_clips(self) -> None:
        """Write what later trials need of this one: files and tokens."""
        text = json.dumps({"clips": self.collected.clips, "renders": self.collected.renders})
        write_atomically(self.brief.folder / CLIPS, text)


def silent(scores: Sequence[UtteranceScores]) -> Failure | None:
    """Return a failure if every judged utterance tripped a guard for having nothing in it."""
    if not scores or not all(any(SILENT.match(g) for g in s.guards) for s in scores):
        return None
    message = f"all {len(scores)} judged utterances are silent or empty: {scores[0].guards[0]}"
    return Failure(phase="judge", kind="silence", message=message)


def load_reference(folder: Path, scores: Sequence[Mapping[str, Any]]) -> Reference:
    """Read back what candidates are compared with from the baseline's trial folder."""
    try:
        saved = json.loads((folder / CLIPS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InfrastructureError(
            f"cannot read the baseline's {CLIPS}: {error}; remove {folder} and run the same "
            "command again, which runs the baseline anew"
        ) from error
    renders = {k: folder / v for k, v in saved["renders"].items()}
    tokens = {k: saved["clips"][k]["tokens"] for k in renders if k in saved["clips"]}
    found = tuple(UtteranceScores.from_mapping(s) for s in scores)
    return Reference(scores=found, tokens=tokens, renders=renders)
