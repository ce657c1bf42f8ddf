"""``mosgate export``: what is confirmed goes out, anything else is refused with a remedy."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from search import cli
from search.record import write_record
from tests.search import record_fixtures as fixtures
from tests.search.command_line import Capture, Row, check

TABLE: list[Row] = [
    (["export", "toy", "-o", "TMP/out"], 0, "12 files", "warning: the gate was not armed"),
    (["export", "lost", "-o", "TMP/out"], 1, "", "study lost has no winner to export"),
    (["export", "open", "-o", "TMP/out"], 1, "", "study open has no confirmed winner to export"),
    (["export", "open", "-o", "TMP/out"], 1, "", "run the same command again"),
    (["export", "toy", "-o", "TMP"], 2, "", "is not empty"),
    (["export", "nope", "-o", "TMP/out"], 2, "", "no study 'nope'"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{' '.join(row[0][1:])} {row[3]}")
def test_what_is_exported(row: Row, studies: Path, tmp_path: Path, capsys: Capture) -> None:
    check(([*row[0], "--root", "ROOT"], *row[1:]), tmp_path, studies, capsys)
    assert (tmp_path / "out").exists() == (row[1] == 0)


def test_a_confirmation_on_few_utterances_is_exported_with_a_warning(
    studies: Path, tmp_path: Path, capsys: Capture
) -> None:
    again = dataclasses.replace(fixtures.heard_again(fixtures.records()[2], n=32), study="open")
    folder = studies / "open" / "trials" / again.folder_name
    folder.mkdir()
    write_record(folder, again)
    study = studies / "open" / "study.json"
    asked = json.loads(study.read_text(encoding="utf-8"))
    asked["config"]["confirm"]["n"] = 32
    study.write_text(json.dumps(asked), encoding="utf-8")
    words = ["export", "open", "-o", str(tmp_path / "out"), "--root", str(studies)]
    assert cli.main(words) == 0
    assert "warning: confirmed on n = 32 utterances only" in capsys.readouterr().err
    text = (tmp_path / "out" / "winner.yaml").read_text(encoding="utf-8")
    assert "confirmed on n = 32 utterances only" in text
