"""The record: round trip, what counts as accepted, whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
from pathlib import Path

import pytest

from search.errors import InfrastructureError
from search.labels import reasons, verdict_label
from search.record import (
    Failure,
    TrialRecord,
    read_record,
    read_records,
    write_atomically,
    write_record,
)


def make(**changes: object) -> TrialRecord:
    values = {
        "study": "a", "number": 3, "role": "search", "digest": "0123456789abcdef",
        "options": {"precision": "fp32"}, "requested": {"precision": "fp32"},
        "status": "completed", "metrics": {"rtf": 0.5}, "phases": {"load": 1.0},
        "verdict": {"status": "PASS"}, "utterances": ({"utterance_id": "p"},),
        "measurements": {"latency": {"unit": "s", "samples": [0.1, 0.2]}},
        **changes,
    }  # fmt: skip
    return TrialRecord(**values)  # type: ignore[arg-type]


def test_json_round_trip() -> None:
    record = make(failure=Failure(phase="load", kind="oom", message="no room"), status="failed")
    assert TrialRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({}, True),
        ({"verdict": None}, False),
        ({"verdict": {"status": "UNDECIDED"}}, False),
        ({"verdict": {"status": "UNGATED"}}, False),
        ({"status": "infeasible"}, False),
        ({"slo_violations": ("rtf 2 is above the limit 1",)}, False),
    ],
)
def test_accepted_is_completed_passed_and_within_the_service_levels(
    changes: dict[str, object], accepted: bool
) -> None:
    assert make(**changes).accepted is accepted


def test_a_figure_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_record(tmp_path, make(metrics={"rtf": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_records_are_read_in_order_of_number(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        record = make(number=number)
        folder = tmp_path / "trials" / record.folder_name
        folder.mkdir(parents=True)
        write_record(folder, record)
    (tmp_path / "trials" / "0003-unfinished").mkdir()
    assert [r.number for r in read_records(tmp_path)] == [0, 1, 2]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1}'])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(InfrastructureError, match=r"record\.json"):
        read_record(path)


def test_an_unknown_field_is_not_ignored() -> None:
    values = {**json.loads(make().to_json()), "surprise": 1}
    with pytest.raises(ValueError, match="surprise"):
        TrialRecord.from_json(json.dumps(values))


def test_a_full_disk_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, "old")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        InfrastructureError, match=r"No space left.*nothing recorded so far is lost"
    ):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_record_from_before_the_looks_is_read() -> None:
    values = json.loads(make().to_json())
    del values["judged"]
    assert TrialRecord.from_json(json.dumps(values)) == make()


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        ([], ""),
        ([(8, "FAIL")], "settled at look 1 of 3: 8 of 32 utterances judged, 11 spoken"),
        (
            [(8, "UNDECIDED"), (16, "FAIL")],
            "settled at look 2 of 3: 16 of 32 utterances judged, 11 spoken",
        ),
        ([(8, "UNDECIDED"), (16, "UNDECIDED"), (32, "FAIL")], ""),
    ],
)
def test_a_record_says_at_which_look_it_was_settled(
    looks: list[tuple[int, str]], said: str
) -> None:
    taken = [{"n": n, "status": status} for n, status in looks]
    assert make(judged={"planned": [8, 16, 32], "looks": taken, "n_spoken": 11}).early == said


def test_who_is_as_good_is_read_from_new_records_and_from_older_ones() -> None:
    why = "trial 2 is at least as good in rtf"
    judged = {"planned": [8, 16], "looks": [], "n_spoken": 0, "surpassed": why}
    new = make(verdict=None, utterances=(), judged=judged)
    older = make(
        judged={"planned": [8, 16], "looks": [{"n": 8, "status": "UNDECIDED"}], "n_spoken": 9},
        verdict={"status": "UNDECIDED", "n": 8, "reasons": ["So.", f"Not judged further: {why}."]},
    )
    for record in (new, older):
        read = TrialRecord.from_json(record.to_json())
        assert (read.surpassed, read.early, read.accepted) == (why, "", False)
    assert make(verdict=None, judged={}).surpassed == ""


@pytest.mark.parametrize(
    ("name", "stopped"),  # heard until it was clear, as all were once; not heard at all since
    [
        ("cpu", r"not heard"),
        ("cpu-f25d35e", r"stopped after \d+ utterances"),
        ("h200", r"stopped after \d+ utterances"),
    ],
)
def test_the_committed_records_are_read_and_shown_as_they_were(name: str, stopped: str) -> None:
    folder = Path(__file__).parents[2] / "benchmarks" / "quickstart"
    lines = (folder / f"{name}.records.jsonl").read_text(encoding="utf-8").splitlines()
    shown = [row["label"] for row in json.loads((folder / f"{name}.json").read_text())["trials"]]
    records = [TrialRecord.from_json(line) for line in lines]
    assert [verdict_label(record) for record in records] == shown
    surpassed = [record for record in records if record.surpassed]
    assert len(surpassed) == shown.count("surpassed")
    for record in surpassed:
        (said,) = reasons(record)
        assert re.match(rf"{stopped}: .* is at least as good in ", said)


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().number = 4  # type: ignore[misc]
