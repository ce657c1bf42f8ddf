"""A cold start's schedule: who starts alone, who beside others, and what is kept when it is cut."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from benchmarks.decoder import cold_start

FOUND = dict.fromkeys((*cold_start.STAGES, "warm_first_piece_s"), 2.0)


def arguments(out: Path, **changed: Any) -> argparse.Namespace:  # noqa: ANN401
    given = {
        "out": out, "device": "cuda", "seconds": 100.0, "repeats": 1, "processes": 3,
        "threads": 1, "only": None, "alone": "none;fused",
    }  # fmt: skip
    return argparse.Namespace(**{**given, **changed})


class Machine:
    """Stands for the processes; keeps which options and which cache each found."""

    def __init__(self) -> None:
        self.lock, self.starts = Lock(), list[tuple[str, str]]()

    def __call__(
        self, values: Mapping[str, Any], args: argparse.Namespace, cache: Path, limit_s: float
    ) -> dict[str, Any]:
        with self.lock:
            self.starts.append((json.dumps(values), "warm" if any(cache.iterdir()) else "cold"))
        (cache / "kernel").touch()
        return dict(FOUND)


def test_each_mode_starts_without_and_with_what_the_first_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Machine()
    monkeypatch.setattr(cold_start, "in_a_process", machine)
    cold_start.Bench(arguments(tmp_path / "cold.json")).run()
    found = json.loads((tmp_path / "cold.json").read_text())
    modes = found["modes"]
    assert modes.keys() == {*cold_start.MODES["cuda"], "none, among others"}
    assert {row["cold"]["first_audio_s"]["n"] for row in modes.values()} == {1}
    assert {row["warm"]["first_audio_s"]["n"] for row in modes.values()} == {1}
    assert found["first_of_all"]["first_audio_s"] == 2.0
    alone = {name for name, row in modes.items() if row["processes_at_a_time"] == 1}
    assert alone == {"none", "fused"}
    # The one that is not counted, then the two that are alone, in order.
    none, fused = (json.dumps(cold_start.MODES["cuda"][name]) for name in ("none", "fused"))
    assert machine.starts[:5] == [
        ("{}", "cold"), (none, "cold"), (none, "warm"), (fused, "cold"), (fused, "warm")
    ]  # fmt: skip
    assert sorted(kind for _, kind in machine.starts[5:]) == ["cold"] * 6 + ["warm"] * 6


def test_what_a_cut_run_had_is_in_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    n_starts = 0

    def killed(*_: object) -> dict[str, Any]:
        nonlocal n_starts
        n_starts += 1
        if n_starts > 3:
            raise KeyboardInterrupt
        return dict(FOUND)

    monkeypatch.setattr(cold_start, "in_a_process", killed)
    with pytest.raises(KeyboardInterrupt):
        cold_start.Bench(arguments(tmp_path / "cold.json", processes=1)).run()
    modes = json.loads((tmp_path / "cold.json").read_text())["modes"]
    assert modes["none"]["warm"]["first_audio_s"]["n"] == 1
    assert modes["fused"]["cold"]["runs"] == []
    assert cold_start.AMONG not in "".join(modes)  # alone they all are


def test_no_pair_is_begun_when_the_time_is_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Machine()
    monkeypatch.setattr(cold_start, "in_a_process", machine)
    cold_start.Bench(arguments(tmp_path / "cold.json", seconds=-1.0, only="none")).run()
    modes = json.loads((tmp_path / "cold.json").read_text())["modes"]
    assert modes["none"]["cold"]["runs"] == [{"error": "no time was left"}]
    assert modes["none"]["warm"]["runs"] == []
    assert len(machine.starts) == 1


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_who_starts_alone_is_among_the_modes(device: str) -> None:
    assert set(cold_start.ALONE[device].split(";")) <= cold_start.MODES[device].keys()
