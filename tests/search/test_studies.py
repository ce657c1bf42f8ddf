"""A study read back from disk gives the result that its sweep ended in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from search.commands.studies import load_config_of, load_study, study_names
from search.errors import InfrastructureError
from search.exits import InputError
from search.record import TrialRecord
from tests.search import record_fixtures as fixtures


def heard_again(trial: TrialRecord, number: int, speedup: float, status: str) -> TrialRecord:
    """Return the record of a confirmation as the sweep writes it."""
    turns: dict[str, Any] = {
        "turns_baseline_latency_p50_s": {"unit": "", "samples": [0.4, 0.4]},
        "turns_winner_latency_p50_s": {"unit": "", "samples": [0.1, 0.1]},
    }
    figures = {"speedup": speedup, "speedup_low": speedup, "speedup_high": speedup}
    return dataclasses.replace(
        trial,
        number=number,
        role="confirm",
        digest=f"{number:016x}",
        measurements={**trial.measurements, **turns},
        metrics={**trial.metrics, **figures},
        verdict=fixtures.verdict(status),
    )


def test_the_result_comes_back(tmp_path: Path) -> None:
    fixtures.write_study(tmp_path)
    found, damaged = load_study(tmp_path, "toy")
    assert damaged == []
    assert found == fixtures.result()
    assert load_config_of(tmp_path, "toy")["model"] == "embedded"
    assert study_names(tmp_path) == ["toy"]


def test_a_confirmation_is_found_again(tmp_path: Path) -> None:
    records = fixtures.records()
    fixtures.write_study(tmp_path, (*records, heard_again(records[2], 5, 3.9, "PASS")))
    found, _ = load_study(tmp_path, "toy")
    assert found.winner == records[2]
    assert found.confirmation is not None
    assert (found.confirmation.speedup, found.confirmation.digest) == (3.9, records[2].digest)


@pytest.mark.parametrize(("speedup", "status"), [(0.9, "PASS"), (3.9, "FAIL")])
def test_a_refuted_winner_gives_way_to_the_next(
    tmp_path: Path, speedup: float, status: str
) -> None:
    records = fixtures.records()
    fixtures.write_study(tmp_path, (*records, heard_again(records[2], 5, speedup, status)))
    found, _ = load_study(tmp_path, "toy")
    assert found.winner == records[1]
    assert found.confirmation is None


def test_a_study_that_was_killed_before_its_baseline_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "young" / "trials").mkdir(parents=True)
    with pytest.raises(InputError, match="no finished baseline yet"):
        load_study(tmp_path, "young")


def test_an_empty_root_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run a sweep first"):
        load_study(tmp_path / "nowhere", "toy")


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    (fixtures.write_study(tmp_path) / "study.json").unlink()
    with pytest.raises(InfrastructureError, match=r"study\.json"):
        load_study(tmp_path, "toy")
