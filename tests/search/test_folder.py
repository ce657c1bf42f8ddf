"""A study's folder: one sweep at a time, one set of conditions, the time spent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from search.errors import InfrastructureError, StudyBusyError, StudyMismatchError
from search.folder import StudyFolder
from search.record import write_draft, write_record
from tests.search.test_record import make


def test_a_second_sweep_on_the_same_study_is_refused(tmp_path: Path) -> None:
    with StudyFolder(tmp_path, "a"):
        with pytest.raises(StudyBusyError, match="another sweep is running on study 'a'"):
            StudyFolder(tmp_path, "a").__enter__()
        with StudyFolder(tmp_path, "b"):
            pass
    with StudyFolder(tmp_path, "a"):
        pass


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("a file where a folder should be")
    with pytest.raises(InfrastructureError, match=r"cannot write below .*mlruns: .*writable"):
        StudyFolder(tmp_path / "mlruns", "a").__enter__()


def test_other_conditions_are_another_study(tmp_path: Path) -> None:
    with StudyFolder(tmp_path, "a") as folder:
        folder.check_conditions({"model": "x", "prompts": "1"}, {})
        folder.check_conditions({"model": "x", "prompts": "1"}, {"budget": 3})
        with pytest.raises(StudyMismatchError, match=r"prompts was 1, is 2\).*another name"):
            folder.check_conditions({"model": "x", "prompts": "2"}, {})
    assert json.loads((tmp_path / "a" / "study.json").read_text())["config"] == {"budget": 3}


def test_the_time_spent_adds_up_over_sittings(tmp_path: Path) -> None:
    times = iter([10.0, 10.0, 17.0, 17.0])
    with StudyFolder(tmp_path, "a", clock=lambda: next(times)) as folder:
        folder.save_clock()
    times = iter([0.0, 0.0, 5.0])
    with StudyFolder(tmp_path, "a", clock=lambda: next(times)) as folder:
        assert folder.spent_s == 7.0 + 5.0


def test_the_confirmation_has_a_time_of_its_own(tmp_path: Path) -> None:
    times = iter([0.0, 0.0, 10.0, 14.0])
    with StudyFolder(tmp_path, "a", clock=lambda: next(times)) as folder:
        folder.spend_on("confirm")
        folder.save_clock()
    times = iter([0.0, 0.0, 5.0, 6.0, 6.0])
    with StudyFolder(tmp_path, "a", clock=lambda: next(times)) as folder:
        assert folder.accounts() == {"search": 15.0, "confirm": 4.0}
        folder.spend_on("confirm")
        assert folder.spent_s == 16.0 + 4.0


def test_a_draft_stays_and_its_record_takes_its_place(tmp_path: Path) -> None:
    with StudyFolder(tmp_path, "a") as folder:
        path = folder.make_trial(3, make().digest)
        write_draft(path, make())
        assert folder.records() == []
        assert folder.drafts() == [make()]
        (path / "record.json").write_text(make().to_json())  # killed before the draft is removed
        assert (folder.records(), folder.drafts()) == ([make()], [])
        write_record(path, make())
        assert [p.name for p in path.iterdir()] == ["record.json"]


def test_folders_without_a_record_are_cleared_away(tmp_path: Path) -> None:
    with StudyFolder(tmp_path, "a") as folder:
        kept = folder.make_trial(3, make().digest)
        write_record(kept, make())
        (folder.make_trial(4, "f" * 16) / "audio").mkdir()
        assert folder.records() == [make()]
        assert list(folder.trials.iterdir()) == [kept]


def test_an_unfit_baseline_is_set_aside_and_another_may_follow(tmp_path: Path) -> None:
    record = replace(make(), number=0, role="baseline")
    with StudyFolder(tmp_path, "a") as folder:
        folder.check_conditions({"baseline": "1"}, {})
        write_record(folder.make_trial(0, record.digest), record)
        evidence = folder.set_aside(record)
        folder.forget_conditions()
        assert (evidence / "record.json").is_file()
        assert folder.records() == []
        folder.check_conditions({"baseline": "2"}, {})


def test_a_damaged_clock_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "clock.json").write_text("{")
    with pytest.raises(InfrastructureError, match=r"clock\.json"):
        StudyFolder(tmp_path, "a").__enter__()
