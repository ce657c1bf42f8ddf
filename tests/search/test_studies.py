"""A study read back from disk gives the result that its sweep ended in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.commands.studies import load_config_of, load_study, study_names
from search.errors import InfrastructureError
from search.exits import InputError
from tests.search import record_fixtures as fixtures


def test_the_result_comes_back(tmp_path: Path) -> None:
    records = fixtures.confirmed_records()
    fixtures.write_study(tmp_path, records)
    found, damaged = load_study(tmp_path, "toy")
    assert damaged == []
    assert found == fixtures.result(records)
    assert load_config_of(tmp_path, "toy")["model"] == "embedded"
    assert study_names(tmp_path) == ["toy"]


def test_a_contender_that_was_not_heard_again_is_no_winner(tmp_path: Path) -> None:
    records = fixtures.records()
    fixtures.write_study(tmp_path, records)
    found, _ = load_study(tmp_path, "toy")
    assert (found.winner, found.confirmation, found.unconfirmed) == (None, None, records[2])
    assert "run the same command again" in found.not_confirmed


def test_a_confirmation_on_few_does_not_outdo_one_on_many(tmp_path: Path) -> None:
    records = fixtures.records()
    again = [
        fixtures.heard_again(records[2], 5, status="FAIL"),
        fixtures.heard_again(records[2], 6, n=32),
    ]
    fixtures.write_study(tmp_path, (*records, *again))
    found, _ = load_study(tmp_path, "toy")
    assert (found.winner, found.unconfirmed) == (None, records[1])


@pytest.mark.parametrize(("speedup", "status"), [(0.9, "PASS"), (3.9, "FAIL")])
def test_a_refuted_winner_gives_way_to_the_next(
    tmp_path: Path, speedup: float, status: str
) -> None:
    records = fixtures.records()
    fixtures.write_study(tmp_path, (*records, fixtures.heard_again(records[2], 5, speedup, status)))
    found, _ = load_study(tmp_path, "toy")
    assert (found.winner, found.unconfirmed) == (None, records[1])


def test_nothing_stands_where_the_gate_was_tried_and_is_not_armed(tmp_path: Path) -> None:
    folder = fixtures.write_study(tmp_path, fixtures.confirmed_records())
    told = {"armed": False, "missed": ["It accepts noise."]}
    kept = json.dumps({"key": "k", "seconds": 1.0, "arming": told})
    (folder / "arming.json").write_text(kept, encoding="utf-8")
    found, _ = load_study(tmp_path, "toy")
    assert (found.winner, found.confirmation, found.unconfirmed) == (None, None, None)
    assert found.front == ()
    assert "not armed on this baseline, so nothing can pass. It accepts noise." in (
        found.not_confirmed
    )


def test_a_study_that_was_killed_before_its_baseline_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "young" / "trials").mkdir(parents=True)
    with pytest.raises(InputError, match="no finished baseline yet"):
        load_study(tmp_path, "young")


def test_an_empty_root_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run a sweep first"):
        load_study(tmp_path / "nowhere", "toy")


def test_a_configuration_that_does_not_say_how_to_confirm_is_named(tmp_path: Path) -> None:
    path = fixtures.write_study(tmp_path) / "study.json"
    path.write_text('{"config": {"objectives": ["rtf"], "confirm": {"m": 1}}}')
    with pytest.raises(InfrastructureError, match=r"study\.json does not say how to confirm"):
        load_study(tmp_path, "toy")


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    (fixtures.write_study(tmp_path) / "study.json").unlink()
    with pytest.raises(InfrastructureError, match=r"study\.json"):
        load_study(tmp_path, "toy")
