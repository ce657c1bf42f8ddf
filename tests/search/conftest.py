"""Folders that several commands are tried on, and a sweep of a few prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from search.config import SweepConfig
from search.record import TrialRecord
from tests.search import record_fixtures as fixtures
from tests.search import toy


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A root folder: the toy study, one where nothing passed, one unconfirmed, one damaged."""
    folder = tmp_path / "mlruns"
    fixtures.write_study(folder, fixtures.confirmed_records())
    lost = tuple(r for r in fixtures.records() if not r.accepted)
    others = {"lost": lost, "open": fixtures.records(), "damaged": fixtures.confirmed_records()}
    for study, found in others.items():
        fixtures.write_study(folder, tuple(_renamed(r, study) for r in found))
    path = folder / "damaged" / "trials" / fixtures.records()[1].folder_name / "record.json"
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    return folder


def _renamed(record: TrialRecord, study: str) -> TrialRecord:
    return TrialRecord.from_json(record.to_json().replace('"study": "toy"', f'"study": "{study}"'))


@pytest.fixture
def toy_sweep(tmp_path: Path) -> Callable[[str], SweepConfig]:
    """Return a function from the lines of ``sweep.yaml``, beside its prompts, to what it says."""
    return lambda lines: toy.sweep(tmp_path, lines)
