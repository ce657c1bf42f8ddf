"""The command from a sweep that is stopped to one that is reported, shown and exported."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from search import cli
from search.export import verify
from search.tracking import database_uri
from tests.search import fakes, toy
from tests.search.command_line import ROOM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
]
SWEEP = f"""
study: toy
model: tests.search.fakes:FakeVoice
device: cpu
prompts: {{path: prompts.tsv, n: 9}}
space: {{precision: [fp32], quantization: [none], attention: [math], compile: [none, default],
        kv_cache: [dynamic, static], temperature: [{fakes.FINE}]}}
confirm: {{n: 8, pairs: 1}}
recipes: []
arming: {{enabled: false}}
budget: {{max_trials: 3}}
"""
# The command itself, with a scorer that needs no models.
SCRIPT = """
import functools, sys
import search.study
from search import cli
from tests.search import fakes
search.study.run_sweep = functools.partial(search.study.run_sweep, scorer=fakes.FakeScorer())
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    toy.sweep(tmp_path, SWEEP)
    return ["sweep", str(tmp_path / "sweep.yaml"), "--root", str(tmp_path / "runs")]


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words],
        cwd=ROOM,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def trials(root: Path) -> list[Run]:
    client = MlflowClient(tracking_uri=database_uri(root))
    experiment = client.get_experiment_by_name("toy")
    found = client.search_runs([experiment.experiment_id])
    return [run for run in found if "mlflow.parentRunId" in run.data.tags]


def test_stopped_resumed_shown_and_exported(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    with start(words) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith("[0/3]"):  # the baseline is done: stop in the next trial
                first.send_signal(signal.SIGTERM)
                break
        out, err = first.communicate(timeout=50)
    assert first.returncode == 130, err
    assert "interrupted" in out + err

    with start(words) as second:
        out, err = second.communicate(timeout=50)
    assert second.returncode == 0, out + err
    assert "[0/3]" not in out  # what was measured is not measured again
    assert "won: latency p50" in out

    told = trials(root)
    assert sorted(run.data.tags["mosgate.number"] for run in told) == ["0", "1", "2", "3", "4"]
    assert [run.data.tags["role"] for run in told].count("confirm") == 2
    assert {run.info.status for run in told} == {"FINISHED"}

    assert cli.main(["show", "toy", "--root", str(root)]) == 0
    assert "(fp32 default static b1) won" in capsys.readouterr().out
    assert cli.main(["export", "toy", "-o", str(tmp_path / "winner"), "--root", str(root)]) == 0
    assert verify(tmp_path / "winner") == []
