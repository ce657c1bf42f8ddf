"""Arming before a sweep: what is run once, what is kept, and what ends it."""

from __future__ import annotations

import ast
import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation import provenance
from evaluation.scores import Clip, UtteranceScores
from search.armed import ARMING
from search.arming import AGAIN_SEED
from search.config import SweepConfig
from search.errors import BaselineUnfitError, ConfigError, InfrastructureError
from search.folder import StudyFolder
from search.prompts import CONFIRM_SEED, PromptSet
from search.record import Failure, Role, TrialRecord
from search.reference import Reference
from search.space import Candidate
from search.trial import BudgetOverError
from tests.search import fakes
from tests.search.armer_fixtures import FINE, SWEEP, FakeRunner, Ticking, armer, n_screened


@pytest.fixture
def configure(toy_sweep: Callable[[str], SweepConfig]) -> Callable[[str], SweepConfig]:
    """Return a function from further YAML lines to a configuration."""
    return lambda further: toy_sweep(SWEEP + further)


def test_other_seeds_than_the_search_and_the_confirmation(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        runner = FakeRunner(configure(""), folder, FINE)
        found = armer(runner).arm()
    assert found is not None
    assert found.armed
    assert runner.unarmed == ()
    assert runner.seeds == [AGAIN_SEED + i for i in range(9)]
    assert max(runner.seeds) < CONFIRM_SEED


def test_a_second_sitting_hears_and_tries_nothing_again(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        first = armer(FakeRunner(configure(""), folder, FINE)).arm()
        runner = FakeRunner(configure(""), folder)
        assert armer(runner).arm() == first
        assert runner.scoring.scorer.n_scored == 0  # type: ignore[attr-defined]
        # A sitting that was killed between the two finds the second hearing on disk.
        (folder.path / ARMING).unlink()
        runner = FakeRunner(configure(""), folder)
        found = armer(runner).arm()
    assert found is not None
    assert found.canaries == first.canaries  # type: ignore[union-attr]
    assert runner.scoring.scorer.n_scored == found.n_judged + n_screened()  # type: ignore[attr-defined]


def test_other_canaries_are_another_arming(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        armer(FakeRunner(configure(""), folder, FINE)).arm()
        fewer = configure("arming: {canaries: [low_pass, gain_up]}\n")
        found = armer(FakeRunner(fewer, folder)).arm()
    assert found is not None
    assert [canary.name for canary in found.canaries] == ["low_pass", "gain_up"]


@pytest.mark.parametrize("name", ["gate.py", "canaries.py", "length_and_noise.py"])
def test_a_gate_of_other_code_is_armed_anew(
    tmp_path: Path, configure: Callable[[str], SweepConfig], monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:  # fmt: skip
    edited = Path(shutil.copytree(provenance.ROOM, tmp_path / "evaluation"))
    with (edited / name).open("a", encoding="utf-8") as file:
        file.write("# another line\n")
    real = provenance.code_digest
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        before = armer(FakeRunner(configure(""), folder)).key
        assert armer(FakeRunner(configure(""), folder)).key == before
        monkeypatch.setattr("search.arming.code_digest", lambda names: real(edited, names))
        assert armer(FakeRunner(configure(""), folder)).key != before


def test_no_code_of_the_gate_is_left_out() -> None:
    """Whatever arming imports of this room, however far, is counted here or with the scores."""
    waiting, known = ["arming.py"], set[str]()
    while waiting:
        name = waiting.pop()
        known.add(name)
        for node in ast.walk(ast.parse((provenance.ROOM / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evaluation"):
                modules = (node.module or "").split(".")[1:] or [alias.name for alias in node.names]
                found = f"{modules[0]}.py"
                waiting += [found] if found not in {*known, *provenance.CODE} else []
    shapes = {"scores.py", "errors.py"}
    assert known - shapes <= set(provenance.GATE_CODE)
    assert all((provenance.ROOM / name).exists() for name in provenance.GATE_CODE)


def test_it_can_be_left_out(tmp_path: Path, configure: Callable[[str], SweepConfig]) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        runner = FakeRunner(configure("arming: {enabled: false}\n"), folder)
        assert armer(runner).arm() is None
        assert (runner.told, runner.unarmed) == ([], ())


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        (
            Failure(phase="synthesize", kind="crash", message="died of SIGSEGV"),
            r"failed when it was heard again with other seeds \(crash in synthesize: died of",
        ),
        (BudgetOverError(), "time was over before the gate was armed: give it more"),
    ],
)
def test_a_second_hearing_that_comes_to_nothing_leaves_nothing(
    tmp_path: Path, configure: Callable[[str], SweepConfig], ending: object, message: str
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        runner = FakeRunner(configure(""), folder, ending)
        with pytest.raises(BaselineUnfitError, match=message):
            armer(runner).arm()
        assert [r.role for r in runner.records] == ["baseline"]
        assert [p.name for p in folder.trials.iterdir()] == [runner.records[0].folder_name]
        assert not (folder.path / ARMING).exists()


def test_the_canaries_time_is_written_down_with_what_came_of_them(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    scorer = Ticking()
    with StudyFolder(tmp_path / "mlruns", "a", clock=scorer.now) as folder:
        runner = FakeRunner(configure(""), folder, FINE)
        runner.scoring.scorer = scorer
        armer(runner).arm()
    # Killed right here, the next sitting knows of all that time.
    with StudyFolder(tmp_path / "mlruns", "a", clock=lambda: 0.0) as folder:
        assert folder.spent_s == scorer.n_scored > n_screened()


class Listening(FakeRunner):
    """Its second hearing lasts until the first canary is scored, and ends as told."""

    overlap = True

    def attempt(
        self, candidate: Candidate, role: Role, prompts: PromptSet, reference: Reference | None
    ) -> TrialRecord:
        deadline = time.monotonic() + 10
        while self.scoring.scorer.n_scored == 0:  # type: ignore[attr-defined]
            assert time.monotonic() < deadline, "no canary was scored while the baseline spoke"
            time.sleep(0.01)
        return super().attempt(candidate, role, prompts, reference)


def test_canaries_are_judged_while_the_baseline_is_heard_again(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        alone = armer(FakeRunner(configure(""), folder, FINE)).arm()
    with StudyFolder(tmp_path / "other", "a") as folder:
        found = armer(Listening(configure(""), folder, FINE)).arm()
    assert alone is not None
    assert found is not None
    assert dataclasses.replace(found, seconds=0.0) == dataclasses.replace(alone, seconds=0.0)


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), BudgetOverError()])
def test_canaries_end_with_the_hearing_beside_them(
    tmp_path: Path, configure: Callable[[str], SweepConfig], ending: BaseException
) -> None:
    class Slow(fakes.FakeScorer):
        def _one(self, clip: Clip) -> UtteranceScores:
            time.sleep(0.1)
            return super()._one(clip)

    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        runner = Listening(configure(""), folder, ending)
        runner.scoring.scorer = Slow()
        with pytest.raises((KeyboardInterrupt, BaselineUnfitError)):
            armer(runner).arm()
        assert runner.scoring.scorer.n_scored < n_screened()
        assert not (folder.path / ARMING).exists()


def test_canaries_end_with_the_searchs_time(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    config, scorer = configure(""), Ticking()
    config = dataclasses.replace(config, budget=dataclasses.replace(config.budget, seconds=5.0))
    with StudyFolder(tmp_path / "mlruns", "a", clock=scorer.now) as folder:
        runner = FakeRunner(config, folder, FINE)
        runner.scoring.scorer = scorer
        with pytest.raises(BaselineUnfitError, match="before the gate was armed: give it more"):
            armer(runner).arm()
        assert scorer.n_scored == 5 < n_screened()
        assert not (folder.path / ARMING).exists()
        assert [record.role for record in runner.records] == ["baseline", "arming"]
    with StudyFolder(tmp_path / "mlruns", "a", clock=lambda: 0.0) as folder:
        assert folder.spent_s == 5


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"key": "a", "seconds": 1, "arming": {"armed": true, "missed": ["it"]}}']
)
def test_a_damaged_arming_is_named(
    tmp_path: Path, configure: Callable[[str], SweepConfig], text: str
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        (folder.path / ARMING).write_text(text)
        with pytest.raises(InfrastructureError, match=r"arming\.json: .*; remove it and run"):
            armer(FakeRunner(configure(""), folder, FINE)).arm()


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ("arming: {canaries: [mulaw]}", r"sweep\.yaml:11: .*'mulaw'; did you mean 'mu_law'"),
        ("arming: {canaries: [gain_up]}", "without a damaging canary nothing is tested"),
        ("arming: {enabled: 1}", "1 is not true or false"),
    ],
)
def test_canaries_that_test_nothing_are_refused_with_their_line(
    configure: Callable[[str], SweepConfig], further: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(further)
