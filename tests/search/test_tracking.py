"""Tracking against a real sqlite MLflow: what arrives, only once, and what it survives."""

from __future__ import annotations

import dataclasses
import json
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from search.config import SweepConfig
from search.record import TrialRecord
from search.sections import PromptsConfig
from search.tracking import PROFILES, Tracking, database_uri
from search.yaml_lines import FieldError
from tests.search import record_fixtures as fixtures

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the module: its migrations take seconds."""
    return tmp_path_factory.mktemp("mlruns")


@pytest.fixture(scope="module")
def client(root: Path) -> MlflowClient:
    Tracking(root).report(study_of("first")[0])
    return MlflowClient(tracking_uri=database_uri(root))


def study_of(name: str) -> tuple[TrialRecord, ...]:
    return tuple(dataclasses.replace(r, study=name) for r in fixtures.records())


def runs(client: MlflowClient, study: str) -> list[Run]:
    experiment = client.get_experiment_by_name(study)
    return list(client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL))


def children(client: MlflowClient, study: str) -> list[Run]:
    return [run for run in runs(client, study) if "mlflow.parentRunId" in run.data.tags]


def test_a_trial_arrives_whole(root: Path, client: MlflowClient) -> None:
    found = study_of("whole")
    fixtures.write_study(root, found)
    tracking = Tracking(root)
    for record in found:
        tracking.report(record)
    assert tracking.problem == ""
    by_number = {run.data.tags["mosgate.number"]: run for run in children(client, "whole")}
    winner = by_number["2"]
    assert winner.info.run_name == "002 bf16 default dynamic b4"
    assert winner.info.status == "FINISHED"
    assert winner.info.end_time - winner.info.start_time == 10_000
    assert winner.data.params["precision"] == "bf16"
    assert winner.data.params["temperature"] == "0.7"
    assert winner.data.metrics["latency_p50_s"] == pytest.approx(0.1)
    assert winner.data.metrics["gate/dnsmos_p808_lower_pct"] == pytest.approx(-2.0)
    assert winner.data.tags["verdict"] == "PASS"
    assert winner.data.tags["accepted"] == "true"
    assert winner.data.tags["applied.precision"] == "bf16 (9 modules): all linears"
    history = client.get_metric_history(winner.info.run_id, "samples/latency_s")
    assert sorted((m.step, m.value) for m in history) == [
        (0, pytest.approx(0.1)),
        (1, pytest.approx(0.11)),
        (2, pytest.approx(0.09)),
    ]
    artifacts = {a.path for a in client.list_artifacts(winner.info.run_id)}
    assert artifacts == {
        "audio",
        "environment.json",
        "record.json",
        "spectrogram.png",
        "utterances.json",
        "worker.log",
    }
    audio = {a.path for a in client.list_artifacts(winner.info.run_id, "audio")}
    assert audio == {"audio/baseline", *(f"audio/u{i:02d}.wav" for i in range(3))}
    assert Path(winner.info.artifact_uri.removeprefix("file://")).is_relative_to(
        root / "artifacts" / "whole"
    )


def test_rejected_and_crashed_trials_say_why(root: Path, client: MlflowClient) -> None:
    tracking = Tracking(root)
    for record in study_of("why"):
        tracking.report(record)
    assert tracking.problem == ""
    by_number = {run.data.tags["mosgate.number"]: run for run in children(client, "why")}
    assert by_number["3"].data.tags["verdict"] == "FAIL"
    assert "upper bound -7.5 %" in by_number["3"].data.tags["reasons"]
    assert by_number["4"].info.status == "FAILED"
    assert by_number["4"].data.tags["verdict"] == "infeasible"
    assert by_number["4"].data.tags["failure"] == "oom"


def test_telling_twice_makes_one_run_with_one_set_of_samples(
    root: Path, client: MlflowClient
) -> None:
    record = study_of("twice")[2]
    for tracking in (Tracking(root), Tracking(root)):
        tracking.report(record)
        tracking.report(record)
        assert tracking.problem == ""
    (run,) = children(client, "twice")
    assert len(client.get_metric_history(run.info.run_id, "samples/latency_s")) == 3


def test_a_half_told_run_is_completed(root: Path, client: MlflowClient) -> None:
    """A process that dies between making a run and finishing it leaves it to the next one."""
    record = study_of("half")[2]
    fixtures.write_study(root, (record,))
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from search.record import read_record\n"
        "from search.tracking import Tracking\n"
        "class Dying(Tracking):\n"
        "    def _log_audio(self, *args): os._exit(9)\n"
        "Dying(Path(sys.argv[1])).report(read_record(Path(sys.argv[2])))\n"
    )
    path = root / "half" / "trials" / record.folder_name / "record.json"
    died = subprocess.run([sys.executable, "-c", script, str(root), str(path)], check=False)
    assert died.returncode == 9
    (run,) = children(client, "half")
    assert run.info.status == "RUNNING"
    Tracking(root).report(record)
    (run,) = children(client, "half")
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "samples/latency_s")) == 3
    assert "audio" in {a.path for a in client.list_artifacts(run.info.run_id)}


def test_the_parent_run_sums_up(root: Path, client: MlflowClient) -> None:
    found = study_of("parent")
    result = fixtures.result(found, study="parent")
    tracking = Tracking(root)
    tracking.finish(result, {"report.html": "<p>done</p>"})
    assert tracking.problem == ""
    (parent,) = [r for r in runs(client, "parent") if "mlflow.parentRunId" not in r.data.tags]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["winner"] == "trial 2"
    assert parent.data.metrics["winner/latency_p50_s"] == pytest.approx(0.1)
    assert parent.data.metrics["accepted"] == 2
    assert [a.path for a in client.list_artifacts(parent.info.run_id)] == ["report.html"]
    assert len(children(client, "parent")) == len(found)  # finish tells what was never told
    assert {r.data.tags["mlflow.parentRunId"] for r in children(client, "parent")} == {
        parent.info.run_id
    }
    Tracking(root).finish(result, {"report.html": "<p>again</p>"})
    assert len(runs(client, "parent")) == len(found) + 1


def test_a_run_that_a_person_deleted_stays_deleted(root: Path, client: MlflowClient) -> None:
    record = study_of("gone")[1]
    Tracking(root).report(record)
    (run,) = children(client, "gone")
    client.delete_run(run.info.run_id)
    Tracking(root).report(record)
    assert [r.info.lifecycle_stage for r in children(client, "gone")] == ["deleted"]


def test_a_deleted_experiment_is_a_problem_with_a_remedy(root: Path, client: MlflowClient) -> None:
    record = study_of("dropped")[1]
    Tracking(root).report(record)
    client.delete_experiment(client.get_experiment_by_name("dropped").experiment_id)
    tracking = Tracking(root)
    tracking.report(record)
    assert "was deleted in MLflow; restore it" in tracking.problem


def test_what_waits_is_told_at_the_next_chance(
    root: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = Tracking(root)
    first, second = study_of("later")[:2]
    with monkeypatch.context() as away:
        away.setattr(Tracking, "_open", _raise_locked)
        tracking.report(first)
        assert "database is locked" in tracking.problem
        assert "1 trials wait" in tracking.problem
    tracking.report(second)
    assert tracking.problem == ""
    assert len(children(client, "later")) == 2


def _raise_locked(*_: object) -> None:
    raise OSError("database is locked")


def test_a_broken_database_never_raises(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is not a database" * 100)
    tracking = Tracking(tmp_path)
    tracking.report(fixtures.record())
    assert "could not be told" in tracking.problem
    tracking.finish(fixtures.result(), {})
    assert "records are safe" in tracking.problem


def test_a_read_only_folder_never_raises() -> None:
    """As a user without rights: a superuser may write anywhere."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from mlflow import MlflowClient\n"
        "from search.tracking import Tracking\n"
        "from tests.search import record_fixtures\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "tracking = Tracking(Path(sys.argv[1]))\n"
        "tracking.report(record_fixtures.record())\n"
        "print(tracking.problem)\n"
    )
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
        done = subprocess.run(
            [sys.executable, "-c", script, place], capture_output=True, text=True, check=False
        )
        Path(place).chmod(stat.S_IRWXU)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("MLflow could not be told everything")
    assert "ermission denied" in done.stdout


def test_first_opens_at_the_same_moment_leave_one_sound_store(tmp_path: Path) -> None:
    script = (
        "import sys, dataclasses\n"
        "from pathlib import Path\n"
        "from search.tracking import Tracking\n"
        "from tests.search import record_fixtures\n"
        "tracking = Tracking(Path(sys.argv[1]))\n"
        "tracking.report(record_fixtures.record(int(sys.argv[2])))\n"
        "sys.exit(tracking.problem or None)\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(number)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (1, 1, 2)
    ]
    for process in started:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    client = MlflowClient(tracking_uri=database_uri(tmp_path))
    told = runs(client, "toy")
    assert len([r for r in told if "mlflow.parentRunId" not in r.data.tags]) == 1
    assert sorted(r.data.tags["mosgate.number"] for r in children(client, "toy")) == ["1", "2"]


def test_the_table_is_what_mlflow_shows_as_one(root: Path, client: MlflowClient) -> None:
    record = study_of("table")[2]
    Tracking(root).report(record)
    (run,) = children(client, "table")
    path = Path(run.info.artifact_uri.removeprefix("file://")) / "utterances.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    assert table["columns"][:3] == ["utterance_id", "duration_s", "dnsmos_ovrl"]
    assert len(table["data"]) == 3
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"])[0]["type"] == "table"


@pytest.mark.parametrize("error", [OSError("no room"), KeyboardInterrupt()])
def test_a_profile_that_is_told_by_half_does_not_seem_to_go_on(
    root: Path,
    client: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    def fail(*_: object) -> None:
        raise error

    tracking, name = Tracking(root), type(error).__name__
    monkeypatch.setattr(tracking, "_log_values", fail)
    if isinstance(error, Exception):
        assert "no room" in tracking.tell_profile(name, {}, [], {}, tmp_path)
    else:
        with pytest.raises(KeyboardInterrupt):
            tracking.tell_profile(name, {}, [], {}, tmp_path)
    (told,) = [run for run in runs(client, PROFILES) if run.info.run_name == name]
    assert told.info.status == "FAILED"


def test_no_study_shares_an_experiment_with_profiles() -> None:
    with pytest.raises(FieldError, match="use letters"):
        SweepConfig(study=PROFILES, prompts=PromptsConfig(path="a.tsv"))
