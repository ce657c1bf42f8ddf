"""``mosgate show``: what is on disk, for people and for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from search import cli
from search.record import TrialRecord, write_record
from tests.search import record_fixtures as fixtures
from tests.search.command_line import ROOM, Capture, Row, check

TABLE: list[Row] = [
    (["show"], 0, "damaged\nlost\nopen\ntoy\n", ""),
    (["show", "toy"], 0, "Trial 2 (bf16 default dynamic b4) won", ""),
    (["show", "toy"], 0, "PASS on unseen prompts (n=128)", ""),
    (["show", "toy"], 0, "upper bound -7.5 % is below", ""),
    (["show", "lost"], 0, "Nothing won", ""),
    (["show", "open"], 0, "Not confirmed, so nothing can be exported yet: trial 2", ""),
    (["show", "open"], 0, "run the same command again", ""),
    (["show", "toy", "--markdown"], 0, "| winner | 2 |", ""),
    (["show", "open", "--markdown"], 0, "| unconfirmed | 2 |", ""),
    (["show", "toy", "--trial", "4"], 0, "CUDA out of memory: 3 GiB asked", ""),
    (["show", "toy", "--trial", "2"], 0, "dnsmos_p808: delta -0.50 %, lower -2.00 %", ""),
    (["show", "toy", "--trial", "9"], 2, "", "study toy has no trial 9; it has 0 to 5"),
    (["show", "toi"], 2, "", "no study 'toi' in ROOT; did you mean 'toy'?"),
    (["show", "zzz"], 2, "", "there are: damaged, lost, open, toy"),
    (["show", "damaged"], 0, "Trial 2", "left out: cannot read the record"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: " ".join(row[0]))
def test_what_is_shown(
    row: Row, studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    check(([*row[0], "--root", "ROOT"], *row[1:]), tmp_path, studies, capsys)


def test_a_verdict_is_shown_with_what_it_rests_on(
    studies: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    judged = {**fixtures.verdict("FAIL", ("P808 loses 9.0 %.",)), "sigma_pct": 4.25, "power": 0.987}
    judged["bounds"] = [
        {**fixtures.bound("dnsmos_p808", -9.0, "FAIL"), "power": 0.991},
        fixtures.bound("noise_floor_dbfs", 0.5),
    ]
    looks = [{"n": 8, "status": "UNDECIDED"}, {"n": 16, "status": "FAIL"}]
    record = fixtures.record(
        1, verdict=judged, utterances=({**fixtures.utterance("a"), "provenance": "ab" * 8},),
        judged={"planned": [8, 16, 32], "looks": looks, "n_spoken": 19},
    )  # fmt: skip
    write_record(studies / "toy" / "trials" / record.folder_name, record)
    assert cli.main(["show", "toy", "--trial", "1", "--root", str(studies)]) == 0
    out = capsys.readouterr().out
    for words in (
        "FAIL: worst bound dnsmos_p808 -10.5 %",
        "8 UNDECIDED, 16 FAIL (planned 8, 16, 32); 19 spoken",
        "settled at look 2 of 3: 16 of 32 utterances judged",
        "abababababababab",
        "noise_floor_dbfs: delta +0.50 dB",
        "lower -10.50 %, upper -7.50 %, sigma +4.00 %, power 0.99, n=16: FAIL",
    ):
        assert words in out


def test_json_is_for_programs(studies: Path, capsys: Capture) -> None:
    assert cli.main(["show", "toy", "--json", "--root", str(studies)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["winner"], told["baseline"], told["front"]) == (2, 0, [2])
    assert (told["unconfirmed"], told["confirmation"]["verdict"]["n"]) == (None, 128)
    assert len(told["trials"]) == 6
    assert told["rejections"] == {"FAIL dnsmos_p808": 1, "oom": 1}
    assert cli.main(["show", "toy", "--json", "--trial", "1", "--root", str(studies)]) == 0
    assert TrialRecord.from_json(capsys.readouterr().out).number == 1
    assert cli.main(["show", "open", "--json", "--root", str(studies)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["winner"], told["unconfirmed"]) == (None, 2)
    assert "not finished" in told["not_confirmed"]
    assert cli.main(["show", "--json", "--root", str(studies)]) == 0
    assert json.loads(capsys.readouterr().out) == ["damaged", "lost", "open", "toy"]


def test_a_damaged_baseline_is_named(studies: Path, capsys: Capture) -> None:
    path = studies / "toy" / "trials" / fixtures.baseline().folder_name / "record.json"
    path.write_text("{}", encoding="utf-8")
    assert cli.main(["show", "toy", "--root", str(studies)]) == 4
    said = capsys.readouterr().err
    assert str(path) in said
    assert "move its folder away" in said


def test_a_closed_pipe_is_not_worth_a_word(studies: Path) -> None:
    command = f"'{sys.executable}' -m search.cli show toy --json --root '{studies}' | head -c 10"
    done = subprocess.run(
        command, shell=True, cwd=ROOM, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
