"""Continuous batching's figures: what is divided, and what a run that is cut leaves behind."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.decoder import continuous
from benchmarks.decoder.timing import Sample


def sample(tokens_per_s: float, p95_s: float) -> Sample:
    return {"tokens_per_s": tokens_per_s, "latency_p95_s": p95_s}


def test_gains_are_of_the_rounds_that_both_arms_had() -> None:
    found = continuous.summary({
        "static": [sample(100.0, 8.0), sample(200.0, 8.0)],
        "static_sorted": [sample(150.0, 5.0)],
        "continuous": [sample(300.0, 2.0)],
    })  # fmt: skip
    assert found["throughput_over_static"] == [3.0]
    assert found["p95_over_static"] == [0.25]
    assert found["throughput_over_static_sorted"] == [2.0]
    assert found["medians"]["static"]["tokens_per_s"] == 150.0


def test_an_arm_that_never_ran_has_no_gain() -> None:
    found = continuous.summary({
        "static": [sample(100.0, 8.0)], "static_sorted": [], "continuous": []
    })  # fmt: skip
    assert found["throughput_over_static"] == []
    assert found["medians"].keys() == {"static"}


def bench(out: Path, **changed: float) -> continuous.Bench:
    given = {
        "device": "cpu", "scale": "tiny", "rows": 2, "requests": 6, "repeats": 2,
        "median_tokens": 4.0, "sigma": 0.3, "min_free": 1, "cfg_weight": 2.0,
        "kv_cache": "static", "seconds": 100.0, "out": out,
    }  # fmt: skip
    return continuous.Bench(argparse.Namespace(**{**given, **changed}))


def test_every_arm_speaks_every_request(tmp_path: Path) -> None:
    out = tmp_path / "continuous.json"
    assert bench(out).run() is True
    found = json.loads(out.read_text())
    assert {name: len(runs) for name, runs in found["runs"].items()} == {
        "static": 2, "static_sorted": 2, "continuous": 2
    }  # fmt: skip
    assert len(found["throughput_over_static"]) == 2
    assert found["errors"] == {}


def test_the_file_is_whole_after_each_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "continuous.json"
    made = bench(out)
    monkeypatch.setattr(continuous, "timed", lambda *_: sample(100.0, 1.0))
    n_runs = 0

    def arm(name: str, turn: int) -> Sample:
        nonlocal n_runs
        n_runs += 1
        if n_runs > 4:
            raise KeyboardInterrupt
        return continuous.Bench.arm(made, name, turn)

    monkeypatch.setattr(made, "arm", arm)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    found = json.loads(out.read_text())
    assert [len(runs) for runs in found["runs"].values()] == [2, 1, 1]
    assert found["throughput_over_static"] == [1.0]


def test_no_arm_is_begun_when_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "continuous.json"
    made = bench(out, seconds=0.0)
    monkeypatch.setattr(continuous, "timed", lambda *_: sample(100.0, 1.0))
    assert made.run() is False
    assert "runs" not in json.loads(out.read_text())
