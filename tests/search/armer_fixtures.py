"""An armer whose trials are made up: the canaries, the scores and what is written are real."""

from __future__ import annotations

import json
from pathlib import Path

from evaluation.canaries import CANARIES
from search.arming import Armer
from search.config import SweepConfig
from search.events import Event
from search.folder import StudyFolder
from search.judging import Brief, Judging
from search.prompts import PromptSet, search_prompts
from search.record import Failure, Role, TrialRecord, write_record
from search.reference import Reference
from search.runner import Runner
from search.scoring import Scoring
from search.space import Candidate
from tests.evaluation.sounds import voice, write
from tests.search import fakes, record_fixtures
from tts.options import Options

SWEEP = f"""
study: a
model: tests.search.fakes:FakeVoice
device: cpu
prompts: {{path: prompts.tsv, n: 9}}
space: {{precision: [fp32], quantization: [none], attention: [math], compile: [none, default],
        kv_cache: [dynamic, static], temperature: [{fakes.FINE}]}}
confirm: {{n: 0}}
recipes: [compiled]
budget: {{max_trials: 2}}
"""
FINE = "fine"


class FakeRunner(Runner):
    """A runner whose trials are made up; the rest is real."""

    def __init__(self, config: SweepConfig, folder: StudyFolder, *endings: object) -> None:
        scoring = Scoring(fakes.FakeScorer())
        self.told: list[Event] = []
        super().__init__(
            config, folder, scoring,
            {"model": "m", "device": "d", "measure": "x"}, {}, "cpu", self.told.append,
        )  # fmt: skip
        self.endings = list(endings)
        self.seeds: list[int] = []

    def attempt(
        self, candidate: Candidate, role: Role, prompts: PromptSet, reference: Reference | None
    ) -> TrialRecord:
        self.seeds = [u.seed for u in prompts.utterances]
        ending = self.endings.pop(0)
        if isinstance(ending, BaseException):
            raise ending
        digest = self.digest(candidate.options, prompts)
        path = self.folder.make_trial(self.next_number, digest)
        return spoken(self, path, digest, role, list(prompts.references), ending)


def spoken(
    runner: Runner, path: Path, digest: str, role: str, names: list[str], ending: object
) -> TrialRecord:
    """Write a trial's audio and what is known of it, and return its record."""
    (path / "audio").mkdir()
    clips = {}
    for i, name in enumerate(names):
        write(path / "audio" / f"{i}.wav", voice(1.0, seed=i))
        clips[name] = {"wav": f"audio/{i}.wav", "n_truncated": 0, "n_tokens": 0, "tokens": []}
    (path / "clips.json").write_text(json.dumps({"clips": clips, "renders": {}}))
    references = dict.fromkeys(names, "say la")
    failure = ending if isinstance(ending, Failure) else None
    brief = Brief(folder=path, references=references, gate=runner.config.gate, reference=None)
    with Scoring(fakes.FakeScorer()) as scoring:
        judging = Judging(brief, scoring, lambda phase: None)
        judging.collected.clips |= clips
        scores, _ = judging.finish()
    return record_fixtures.record(
        runner.next_number, study="a", role=role, digest=digest, verdict=None, failure=failure,
        options=Options(), utterances=tuple(score.to_mapping() for score in scores),
    )  # fmt: skip


def armer(runner: FakeRunner) -> Armer:
    prompts = search_prompts(runner.config)
    digest = runner.digest(Options(), prompts)
    baseline = runner.known(digest)
    if baseline is None:
        path = runner.folder.make_trial(0, digest)
        baseline = spoken(runner, path, digest, "baseline", list(prompts.references), FINE)
        write_record(path, baseline)
        runner.records.append(baseline)
    return Armer(runner, baseline, prompts)


def n_screened() -> int:
    """Return the copies of damage that the guards are asked about, all at the first look of 8."""
    return sum(sum(c.touches(i) for i in range(8)) for c in CANARIES if not c.harmless)


class Ticking(fakes.FakeScorer):
    """Takes a second a clip, on a clock that only it turns."""

    def now(self) -> float:
        return float(self.n_scored)
