"""What a trial is given: its deadlines and the time there is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from search.config import SweepConfig
from search.folder import StudyFolder
from search.runner import Runner
from search.scoring import Scoring
from search.sections import BudgetConfig, ConfirmConfig, DeadlinesConfig, PromptsConfig
from tests.search import fakes


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


def test_without_a_limit_the_time_is_endless(tmp_path: Path) -> None:
    config = SweepConfig(study="a", prompts=PromptsConfig(path="p"))
    with StudyFolder(tmp_path, "a") as folder:
        tried = Runner(
            config, folder, Scoring(fakes.FakeScorer()), {}, {}, "cpu", lambda event: None
        )
        assert tried.left_s == math.inf
        folder.spend_on("confirm")
        assert tried.left_s == math.inf
