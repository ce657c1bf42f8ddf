"""What a trial is given: its deadlines and the time there is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from search.config import SweepConfig
from search.folder import StudyFolder
from search.judging import Brief, Collected
from search.prompts import PromptSet
from search.reference import Reference
from search.runner import Runner
from search.scoring import Scoring
from search.sections import (
    BudgetConfig,
    ConfirmConfig,
    DeadlinesConfig,
    MeasureConfig,
    PromptsConfig,
)
from search.space import Candidate
from search.trial import Outcome
from tests.search import fakes
from tts.options import Options


@pytest.fixture
def runner(tmp_path: Path) -> Callable[[StudyFolder], Runner]:
    config = SweepConfig(
        study="a", prompts=PromptsConfig(path="p", n=16, seeds=2),
        deadlines=DeadlinesConfig(synthesize=100.0), budget=BudgetConfig(seconds=60.0),
        confirm=ConfirmConfig(seconds=30.0),
    )  # fmt: skip

    def make(folder: StudyFolder) -> Runner:
        scoring = Scoring(fakes.FakeScorer())
        return Runner(config, folder, scoring, {}, {}, "cpu", lambda event: None)

    return make


@pytest.mark.parametrize(("n", "seconds"), [(0, 100.0), (32, 100.0), (128, 400.0)])
def test_more_utterances_than_the_search_speaks_have_more_time(
    tmp_path: Path, runner: Callable[[StudyFolder], Runner], n: int, seconds: float
) -> None:
    with StudyFolder(tmp_path, "a") as folder:
        found = runner(folder).deadlines(n)
    assert found["synthesize"] == seconds
    assert found["load"] == DeadlinesConfig().load


def test_search_and_confirmation_have_a_time_each(
    tmp_path: Path, runner: Callable[[StudyFolder], Runner]
) -> None:
    now = [0.0]
    with StudyFolder(tmp_path, "a", clock=lambda: now[0]) as folder:
        tried = runner(folder)
        now[0] = 50.0
        assert tried.left_s == 10.0
        folder.spend_on("confirm")
        assert tried.left_s == 30.0
        now[0] = 75.0
        assert tried.left_s == 5.0
        folder.spend_on("search")
        assert tried.left_s == 10.0


def test_the_next_process_loads_only_while_nothing_is_timed(
    tmp_path: Path, runner: Callable[[StudyFolder], Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("search.runner.os.cpu_count", lambda: 2)

    def phases(tried: Runner) -> list[str]:
        calls.clear()
        monkeypatch.setattr(tried.standby, "prepare", lambda: calls.append(phase))
        prompts = PromptSet(utterances=(), references={})
        job = tried.job(tmp_path, Options(), prompts, None)
        brief = Brief(folder=tmp_path, references={}, gate=tried.config.gate, reference=None)
        on_phase = tried.trial(job, brief, 1).on_phase
        for phase in ("load", "compile", "measure", "fidelity", "render", "synthesize", "judge"):
            on_phase(phase)
        return list(calls)

    with StudyFolder(tmp_path, "a") as folder:
        tried = runner(folder)
        tried.config = replace(tried.config, measure=MeasureConfig(threads=1))
        assert phases(tried) == ["synthesize"]
        tried.config = replace(tried.config, measure=MeasureConfig(threads=2))
        assert phases(tried) == []  # the model takes all the cores there are


def test_the_next_process_loads_while_a_trial_is_written_down(
    tmp_path: Path, runner: Callable[[StudyFolder], Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with StudyFolder(tmp_path, "a") as folder:
        tried = runner(folder)
        tried.conditions = dict.fromkeys(("model", "device", "measure"), "x")
        monkeypatch.setattr(tried.standby, "prepare", lambda: said.append("prepared"))
        monkeypatch.setattr(tried, "on_event", lambda event: said.append(type(event).__name__))
        got = Collected(metrics={"latency_p50_s": 1.0}, judged={"surpassed": "trial 0 is as quick"})
        outcome = Outcome(status="completed", failure=None, attempts=1, collected=got)
        monkeypatch.setattr("search.runner.Trial.run", lambda trial: outcome)
        candidate = Candidate(options=Options(), requested=Options())
        prompts = PromptSet(utterances=(), references={})
        record = tried.run(candidate, "search", prompts, Reference(scores=()))
    assert said == ["TrialStarted", "prepared", "TrialFinished"]
    assert record.surpassed == "trial 0 is as quick"
    assert (record.verdict, record.constraints["gate"]) == (None, 0.1)


def test_without_a_limit_the_time_is_endless(tmp_path: Path) -> None:
    config = SweepConfig(study="a", prompts=PromptsConfig(path="p"))
    with StudyFolder(tmp_path, "a") as folder:
        tried = Runner(
            config, folder, Scoring(fakes.FakeScorer()), {}, {}, "cpu", lambda event: None
        )
        assert tried.left_s == math.inf
        folder.spend_on("confirm")
        assert tried.left_s == math.inf
