"""``mosgate sweep``: how it ends, what it says and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from search import cli
from search.config import SweepConfig
from search.errors import (
    BaselineUnfitError,
    ConfigError,
    InfrastructureError,
    StudyBusyError,
    StudyMismatchError,
)
from search.events import Event, SweepStarted, TrialFinished
from search.record import SweepResult, TrialRecord
from tests.search import record_fixtures as fixtures
from tests.search.command_line import Capture, check
from tts.errors import InapplicableError, TextError, WeightsError


def test_a_file_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    check((["sweep", "TMP/none.yaml"], 2, "", "none.yaml"), tmp_path, tmp_path, capsys)


def fake_sweep(monkeypatch: pytest.MonkeyPatch, act: Callable[..., SweepResult]) -> dict[str, Any]:
    """Put ``act`` in the place of the loop; what it is called with is returned."""
    seen: dict[str, Any] = {}

    def run_sweep(config: SweepConfig, **how: object) -> SweepResult:
        seen.update(how, config=config)
        return act(config, **how)

    study = ModuleType("search.study")
    study.run_sweep = run_sweep  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "search.study", study)
    monkeypatch.delitem(sys.modules, "search.commands.sweep", raising=False)
    return seen


def ends_with(result: SweepResult) -> Callable[..., SweepResult]:
    def act(
        _: SweepConfig,
        *,
        on_event: Callable[[Event], None],
        report: Callable[[TrialRecord], None],
        **__: object,
    ) -> SweepResult:
        on_event(
            SweepStarted(
                study="toy",
                device="a toy CPU",
                objectives=result.objectives,
                max_trials=40,
                seconds=60.0,
                spent_s=0.0,
            )
        )
        for record in result.records:
            on_event(TrialFinished(record=record))
            report(record)
        return result

    return act


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text("study: toy\nprompts: {path: prompts.tsv}\n", encoding="utf-8")
    return path


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a tracking without MLflow behind it was told; ``problem`` may be set."""
    said: list[str] = []

    class Tracking:
        problem = ""

        def __init__(self, root: Path) -> None:
            said.append(f"root {root.name}")

        def report(self, record: TrialRecord) -> None:
            said.append(f"trial {record.number}")

        def finish(self, _: SweepResult, texts: Mapping[str, str]) -> None:
            said.append(f"finish with {', '.join(texts)}")

    monkeypatch.setattr("search.tracking.Tracking", Tracking)
    return said


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (fixtures.result(), 0, "Trial 2 (bf16 default dynamic b4) won"),
        (
            fixtures.result(tuple(r for r in fixtures.records() if not r.accepted)),
            1,
            "Nothing won",
        ),
        (fixtures.unconfirmed(), 1, "Not confirmed, so nothing can be exported yet: trial 2"),
        (fixtures.result(interrupted=True), 130, "interrupted: the same command goes on"),
    ],
    ids=["winner", "nothing", "unconfirmed", "interrupted"],
)
def test_how_a_sweep_ends(
    result: SweepResult,
    code: int,
    said: str,
    config: Path,
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    seen = fake_sweep(monkeypatch, ends_with(result))
    words = ["sweep", str(config), "--root", str(tmp_path / "runs"), "--set", "budget.seconds=99"]
    assert cli.main(words) == code
    assert said in capsys.readouterr().out
    assert seen["config"].budget.seconds == 99
    assert told == [
        "root runs",
        *(f"trial {r.number}" for r in result.records),
        "finish with report.md, report.html",
    ]


def test_mlflow_being_away_is_said_and_changes_no_exit_code(
    config: Path,
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    import search.tracking

    monkeypatch.setattr(search.tracking.Tracking, "problem", "MLflow could not be told")
    fake_sweep(monkeypatch, ends_with(fixtures.result()))
    assert cli.main(["sweep", str(config), "--root", str(tmp_path)]) == 0
    assert "mosgate: MLflow could not be told" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError(Path("a.yaml"), 3, "unknown key"), 2, "a.yaml:3: unknown key"),
        (StudyMismatchError("begun under other conditions"), 2, "begun under"),
        (TextError("nothing to say"), 2, "nothing to say"),
        (InapplicableError("precision", "fp8", "needs sm_89"), 3, "precision=fp8: needs sm_89"),
        (WeightsError("voice: damaged"), 3, "voice: damaged"),
        (BaselineUnfitError("the baseline is silent"), 3, "the baseline is silent"),
        (ModuleNotFoundError("No module named 'optuna'"), 3, "install the project's dependencies"),
        (StudyBusyError("another sweep holds it"), 4, "another sweep holds it"),
        (InfrastructureError("the disk is full"), 4, "the disk is full"),
        (OSError(28, "No space left", "/x"), 4, "/x: the disk is full; free some space"),
        (PermissionError(13, "Permission denied", "/x"), 4, "choose another folder with --root"),
        (ZeroDivisionError("oh"), 4, "ZeroDivisionError: oh (run again with --debug"),
        (KeyboardInterrupt(), 130, "the same command goes on where this one stopped"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_error_has_one_message_and_its_code(
    error: BaseException,
    code: int,
    said: str,
    config: Path,
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    def act(*_: object, **__: object) -> SweepResult:
        raise error

    fake_sweep(monkeypatch, act)
    assert cli.main(["sweep", str(config), "--root", str(tmp_path)]) == code
    captured = capsys.readouterr().err
    assert said in captured
    assert len(captured.splitlines()) == 1
    assert cli.main(["sweep", str(config), "--root", str(tmp_path), "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err
