"""What a process holds, and what it held since it was asked to forget."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation import resident

MIB = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="tells no resident memory by proc(5)")


@linux
def test_a_peak_is_remembered_until_it_is_forgotten() -> None:
    block = np.ones(64 * MIB, dtype=np.uint8)
    held = resident.resident_bytes()
    assert held is not None
    assert held >= 64 * MIB
    del block
    if not resident.forget_peak():
        pytest.skip("this system does not let a process forget its peak")
    before = resident.peak_bytes()
    block = np.ones(64 * MIB, dtype=np.uint8)
    after = resident.peak_bytes()
    assert before is not None
    assert after is not None
    assert after - before > 48 * MIB
    del block


def test_what_nobody_tells_is_not_zero(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resident, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(resident, "_CLEAR", tmp_path / "no" / "folder")
    assert resident.resident_bytes() is None
    assert resident.peak_bytes() is None
    assert resident.forget_peak() is False


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with 8 GiB available of which few are free."""
    (tmp_path / "meminfo").write_text("MemFree: 1024 kB\nMemAvailable: 8388608 kB\n")
    monkeypatch.setattr(resident, "_MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(resident, "_GROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, 2**33), ("max", 2**33), (str(2**32), 3 * 2**30), ("1", 0)]
)
def test_what_is_available_is_the_machines_or_the_groups(
    told: Path, limit: str | None, expected: int
) -> None:
    if limit is not None:
        (told / "memory.max").write_text(f"{limit}\n")
        (told / "memory.current").write_text(f"{2**30}\n")
    assert resident.available_bytes() == expected


def test_a_system_that_tells_nothing_available(told: Path) -> None:
    (told / "meminfo").unlink()
    assert resident.available_bytes() is None
