"""Shipping a winner: whole, checked, or not at all."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from search.errors import InfrastructureError
from search.exits import InputError
from search.export import NothingPassedError, _write, export, verify
from search.record import SweepResult, TrialRecord
from tests.search import record_fixtures as fixtures
from tts.options import Options

CONFIG = {"study": "toy", "model": "embedded"}


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_the_folder_holds_configuration_evidence_environment_and_checksums(tmp_path: Path) -> None:
    target = tmp_path / "out" / "winner"
    export(fixtures.result(), target, config=CONFIG)
    assert names(target) == {
        "SHA256SUMS",
        "config.json",
        "environment.json",
        "evidence/arming.json",
        "evidence/baseline.json",
        "evidence/verdict.json",
        "evidence/winner.json",
        "report.html",
        "report.md",
        "winner.json",
        "winner.yaml",
    }
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=target, check=False)
    assert done.returncode == 0
    assert verify(target) == []
    winner = yaml.safe_load((target / "winner.yaml").read_text(encoding="utf-8"))
    assert winner == json.loads((target / "winner.json").read_text(encoding="utf-8"))
    assert Options.from_mapping(winner["options"]) == Options(
        precision="bf16", compile="default", batch_size=4
    )
    evidence = (target / "evidence" / "winner.json").read_text(encoding="utf-8")
    assert TrialRecord.from_json(evidence).number == winner["trial"] == 2
    assert [p.name for p in target.parent.iterdir()] == ["winner"]


def test_a_change_is_found(tmp_path: Path) -> None:
    target = tmp_path / "winner"
    export(fixtures.result(), target, config=CONFIG)
    (target / "winner.yaml").write_text("options: {}\n", encoding="utf-8")
    (target / "report.md").unlink()
    assert verify(target) == ["winner.yaml was changed", "report.md is missing"]


def test_nothing_passed_is_refused_with_the_reason(tmp_path: Path) -> None:
    found = tuple(r for r in fixtures.records() if not r.accepted)
    with pytest.raises(NothingPassedError, match=r"no winner to export.*upper bound -7\.5 %"):
        export(fixtures.result(found), tmp_path / "winner", config=CONFIG)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (fixtures.unconfirmed(), r"Trial 2 is the best so far, but .* not finished: run it again"),
        (fixtures.result(confirmation=None), "no confirmed winner to export: run its sweep again"),
        (
            fixtures.result(winner=None, confirmation=None, not_confirmed="the best 3 fell"),
            "no winner to export. the best 3 fell",
        ),
        (
            fixtures.result(
                confirmation=fixtures.confirmation(fixtures.records()[2], status="UNDECIDED")
            ),
            "no confirmed winner",
        ),
    ],
    ids=["out of time", "never heard again", "refuted", "undecided"],
)
def test_what_is_not_confirmed_is_refused(tmp_path: Path, result: SweepResult, said: str) -> None:
    with pytest.raises(NothingPassedError, match=said):
        export(result, tmp_path / "winner", config=CONFIG)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [32, 128])
def test_the_confirmations_n_is_in_the_winner_with_a_warning_where_it_is_small(
    tmp_path: Path, n: int
) -> None:
    trial, armed = fixtures.records()[2], {"armed": True}
    found = fixtures.result(confirmation=fixtures.confirmation(trial, n=n), arming=armed)
    export(found, tmp_path / "winner", config=CONFIG)
    winner = yaml.safe_load((tmp_path / "winner" / "winner.yaml").read_text(encoding="utf-8"))
    assert (winner["confirmed"]["n"], winner["confirmed"]["pairs"]) == (n, 3)
    warning = None if n == 128 else "confirmed on n = 32 utterances only"
    assert winner.get("warning") == warning


def test_nothing_is_exported_past_a_gate_that_is_not_armed(tmp_path: Path) -> None:
    arming = {"armed": False, "missed": ["It accepts noise."]}
    with pytest.raises(NothingPassedError, match=r"gate is not armed.*It accepts noise\."):
        export(fixtures.result(arming=arming), tmp_path / "winner", config=CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_a_gate_that_was_never_tried_is_a_warning(tmp_path: Path) -> None:
    export(fixtures.result(arming=None), tmp_path / "winner", config=CONFIG)
    text = (tmp_path / "winner" / "winner.yaml").read_text(encoding="utf-8")
    assert "warning: the gate was not armed on this baseline" in text


def test_what_was_written_wrong_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_less(folder: Path, files: dict[str, str]) -> None:
        _write(folder, {**files, "winner.yaml": files["winner.yaml"][:9]})

    monkeypatch.setattr("search.export._write", write_less)
    with pytest.raises(InfrastructureError, match=r"winner\.yaml was changed.*run it again"):
        export(fixtures.result(), tmp_path / "winner", config=CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_confirmations_are_evidence(tmp_path: Path) -> None:
    found = (*fixtures.records(), fixtures.record(5, role="confirm"))
    export(fixtures.result(found), tmp_path / "winner", config=CONFIG)
    assert "evidence/confirm-0005.json" in names(tmp_path / "winner")


def test_an_empty_folder_is_used_and_a_full_one_refused(tmp_path: Path) -> None:
    target = tmp_path / "winner"
    target.mkdir()
    export(fixtures.result(), target, config=CONFIG)
    with pytest.raises(InputError, match="is not empty; name another folder, or use --force"):
        export(fixtures.result(), target, config=CONFIG)
    (target / "stale").write_text("old", encoding="utf-8")
    export(fixtures.result(), target, config=CONFIG, force=True)
    assert "stale" not in names(target)
    assert [p.name for p in tmp_path.iterdir()] == ["winner"]


def test_force_never_sweeps_away_what_is_no_export(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(InputError, match="replaces an earlier export only"):
        export(fixtures.result(), tmp_path, config=CONFIG, force=True)
    assert names(tmp_path) == {"thesis.tex"}


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "winner").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is a file"):
        export(fixtures.result(), tmp_path / "winner", config=CONFIG)


def test_what_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "winner"
    export(fixtures.result(), target, config=CONFIG)
    before = names(target)
    monkeypatch.setattr("search.export.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        export(fixtures.result(), target, config=CONFIG, force=True)
    assert names(target) == before
    assert verify(target) == []
    assert [p.name for p in tmp_path.iterdir()] == ["winner"]
