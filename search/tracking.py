"""What MLflow is told: the only file that knows it.

One experiment per study, one parent run per sweep and one child run per trial, told from the
trial's record and its folder. Everything here may be done twice: a run is found again by the
digest and number in its tags, and one that was half told when the process died is completed.
"""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from search import facts
from search.labels import run_name
from search.record import SweepResult, TrialRecord
from search.spectrogram import draw

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
PROFILES = "_profiles"
"""The experiment of profiles; no study can have its name."""
_LOCK = ".mlflow.lock"
_LOCK_TIMEOUT_S = 60.0
_N_CLIPS = 3
_METRICS_PER_BATCH = 900
_PAIRS_PER_BATCH = 100
_log = logging.getLogger(__name__)


def database_uri(root: Path) -> str:
    """Return the address of the tracking database under ``mlruns``."""
    return f"sqlite:///{root.resolve() / DATABASE}"


@dataclass
class _Told:
    """What is known of one study's place in MLflow; runs by (digest, number)."""

    experiment_id: str
    parent_id: str
    finished: set[tuple[str, str]] = field(default_factory=set)


class Tracking:
    """Tells MLflow about trials; being away or broken, it never fails one.

    Args:
        root: The ``mlruns`` folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._pending: dict[tuple[str, int, str], TrialRecord] = {}
        self._told: dict[str, _Told] = {}
        self._problem = ""

    @property
    def problem(self) -> str:
        """One sentence for the user while something could not be told; empty when all was."""
        if not self._problem:
            return ""
        return (
            f"MLflow could not be told everything ({len(self._pending)} trials wait): "
            f"{self._problem}. The records are safe in {self._root}; run the same sweep again "
            "to report them"
        )

    def report(self, record: TrialRecord) -> None:
        """Tell MLflow about a trial and about those that could not be told before.

        Afterwards ``problem`` is empty, or says what could not be told and why.
        """
        self._pending[record.study, record.number, record.digest] = record
        self._problem = ""
        for key, waiting in list(self._pending.items()):
            try:
                self._tell(waiting)
            except Exception as error:  # noqa: BLE001 - MLflow never fails a trial
                self._note(error)
                if waiting.study not in self._told:
                    break  # the store itself is away: do not wait for it once per record
            else:
                del self._pending[key]

    def finish(self, result: SweepResult, texts: dict[str, str]) -> None:
        """Tell the parent run how the sweep ended.

        Args:
            result: The sweep's end.
            texts: Artifacts of the parent run by file name, such as ``report.html``.
        """
        for record in result.records:
            self._pending.setdefault((record.study, record.number, record.digest), record)
        self.report(result.baseline)
        try:
            self._tell_parent(result, texts)
        except Exception as error:  # noqa: BLE001 - MLflow never fails a sweep
            self._note(error)

    def tell_profile(
        self,
        title: str,
        params: dict[str, str],
        metrics: list[tuple[str, float, int]],
        tags: dict[str, str],
        folder: Path,
    ) -> str:
        """Tell a profile as a run of its own, in an experiment of profiles.

        Args:
            title: The run's name.
            params: One level deep.
            metrics: (key, value, step).
            tags: What a person filters by.
            folder: Every file in it becomes an artifact.

        Returns:
            Why MLflow could not be told; empty when it was.
        """
        self._problem, run_id, status = "", "", "FAILED"
        try:
            with self._locked_store():
                experiment_id = self._experiment(PROFILES)
            tags = {"mosgate.role": "profile", "mlflow.source.name": "mosgate profile", **tags}
            run = self._client.create_run(experiment_id, tags=tags, run_name=title)
            run_id = str(run.info.run_id)
            self._log_values(run_id, params, metrics, {}, int(run.info.start_time))
            for path in sorted(folder.iterdir()):
                self._client.log_artifact(run_id, str(path))
            status = "FINISHED"
        except Exception as error:  # noqa: BLE001 - MLflow never fails a profile
            self._note(error)
        finally:  # an interruption, too, leaves no run that seems to go on
            self._end(run_id, status)
        return self._problem

    def _end(self, run_id: str, status: str) -> None:
        try:
            if run_id:
                self._client.set_terminated(run_id, status)
        except Exception as error:  # noqa: BLE001 - nor does its end
            self._note(error)

    @contextmanager
    def _locked_store(self) -> Iterator[None]:
        _ = self._client  # opens the store, under the same lock
        with self._locked():
            yield

    def _note(self, error: Exception) -> None:
        _log.debug("MLflow", exc_info=error)
        first = str(error).strip().splitlines() or [""]
        self._problem = self._problem or f"{type(error).__name__}: {first[0][:300]}"

    @functools.cached_property
    def _client(self) -> MlflowClient:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):  # their migrations' chatter would tear the live view
            logging.getLogger(name).setLevel(logging.WARNING)
        self._root.mkdir(parents=True, exist_ok=True)
        with self._locked():  # concurrent first opens would leave a half-migrated database
            return MlflowClient(tracking_uri=database_uri(self._root))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with FileLock(self._root / _LOCK, timeout=_LOCK_TIMEOUT_S):
            yield

    def _open(self, study: str) -> _Told:
        if study not in self._told:
            client = self._client
            with self._locked():
                experiment_id = self._experiment(study)
                found = _runs(client, experiment_id, "tags.`mosgate.role` = 'parent'")
                parent_id = found[0].info.run_id if found else self._new_parent(experiment_id)
            client.update_run(parent_id, status="RUNNING")
            told = _Told(experiment_id=experiment_id, parent_id=parent_id)
            told.finished = {
                _identity(run) for run in _runs(client, experiment_id) if _is_finished(run)
            }
            self._told[study] = told
        return self._told[study]

    def _experiment(self, study: str) -> str:
        found = self._client.get_experiment_by_name(study)
        if found is None:
            place = self._root / ARTIFACTS / study
            return str(self._client.create_experiment(study, artifact_location=place.as_uri()))
        if found.lifecycle_stage != "active":
            raise RuntimeError(
                f"the experiment {study!r} was deleted in MLflow; restore it there or give the "
                "study another name"
            )
        return str(found.experiment_id)

    def _new_parent(self, experiment_id: str) -> str:
        tags = {"mosgate.role": "parent", "mlflow.source.name": "mosgate sweep"}
        run = self._client.create_run(experiment_id, tags=tags, run_name="sweep")
        return str(run.info.run_id)

    def _tell(self, record: TrialRecord) -> None:
        told = self._open(record.study)
        identity = (record.digest, str(record.number))
        if identity in told.finished:
            return
        run_id = self._run_of(record, told)
        if run_id is not None:
            self._fill(run_id, record)
            status = "FINISHED" if record.status == "completed" else "FAILED"
            self._client.set_terminated(run_id, status, end_time=_milliseconds(record.ended_at))
        told.finished.add(identity)

    def _run_of(self, record: TrialRecord, told: _Told) -> str | None:
        """Return the id of the record's run, made if need be; None when there is nothing to do."""
        wanted = (
            f"tags.`mosgate.digest` = '{record.digest}' and "
            f"tags.`mosgate.number` = '{record.number}'"
        )
        with self._locked():
            for run in _runs(self._client, told.experiment_id, wanted):
                return None if _is_finished(run) else str(run.info.run_id)
            tags = {
                "mlflow.parentRunId": told.parent_id,
                "mlflow.source.name": "mosgate sweep",
                "mosgate.digest": record.digest,
                "mosgate.number": str(record.number),
            }
            run = self._client.create_run(
                told.experiment_id,
                start_time=_milliseconds(record.started_at),
                tags=tags,
                run_name=run_name(record),
            )
            return str(run.info.run_id)

    def _fill(self, run_id: str, record: TrialRecord) -> None:
        self._log_values(
            run_id,
            facts.params(record),
            facts.metrics(record),
            facts.tags(record),
            _milliseconds(record.ended_at),
        )
        folder = self._root / record.study / "trials" / record.folder_name
        for path in (folder / "record.json", folder / "worker.log"):
            if path.is_file():
                self._client.log_artifact(run_id, str(path))
        self._client.log_dict(run_id, dict(record.environment), "environment.json")
        if record.utterances:
            self._client.log_dict(run_id, facts.utterance_table(record), facts.TABLE_NAME)
        self._log_audio(run_id, folder, record.study)

    def _log_values(
        self,
        run_id: str,
        params: dict[str, str],
        metrics: list[tuple[str, float, int]],
        tags: dict[str, str],
        timestamp: int,
    ) -> None:
        # Equal values at equal times are one row in MLflow: telling them twice adds nothing.
        from mlflow.entities import Metric, Param, RunTag

        rows = [Metric(key, value, timestamp, step) for key, value, step in metrics]
        for start in range(0, len(rows), _METRICS_PER_BATCH):
            self._client.log_batch(run_id, metrics=rows[start : start + _METRICS_PER_BATCH])
        pairs = list(params.items())
        for start in range(0, len(pairs), _PAIRS_PER_BATCH):
            batch = [Param(k, v) for k, v in pairs[start : start + _PAIRS_PER_BATCH]]
            self._client.log_batch(run_id, params=batch)
        pairs = list(tags.items())
        for start in range(0, len(pairs), _PAIRS_PER_BATCH):
            self._client.log_batch(
                run_id, tags=[RunTag(k, v) for k, v in pairs[start : start + _PAIRS_PER_BATCH]]
            )

    def _log_audio(self, run_id: str, folder: Path, study: str) -> None:
        """Attach a few clips, the baseline's of the same texts, and a picture of the first."""
        clips = sorted((folder / "audio").glob("*.wav"))[:_N_CLIPS]
        baseline = next((self._root / study / "trials").glob("0000-*"), folder)
        for clip in clips:
            self._client.log_artifact(run_id, str(clip), "audio")
            if baseline != folder and (baseline / "audio" / clip.name).is_file():
                self._client.log_artifact(
                    run_id, str(baseline / "audio" / clip.name), "audio/baseline"
                )
        if clips:
            shown = {f"this trial: {clips[0].stem}": clips[0]}
            if baseline != folder and (baseline / "audio" / clips[0].name).is_file():
                shown[f"baseline: {clips[0].stem}"] = baseline / "audio" / clips[0].name
            with tempfile.TemporaryDirectory() as place:
                draw(shown, Path(place) / "spectrogram.png")
                self._client.log_artifact(run_id, str(Path(place) / "spectrogram.png"))

    def _tell_parent(self, result: SweepResult, texts: dict[str, str]) -> None:
        told = self._open(result.study)
        ended = max((_milliseconds(r.ended_at) for r in result.records), default=0)
        self._log_values(
            told.parent_id, {}, facts.sweep_metrics(result), facts.sweep_tags(result), ended
        )
        for name, text in texts.items():
            self._client.log_text(told.parent_id, text, name)
        status = "KILLED" if result.interrupted else "FINISHED"
        self._client.set_terminated(told.parent_id, status)


def _runs(client: MlflowClient, experiment_id: str, wanted: str = "") -> list[Run]:
    """Return an experiment's runs, deleted ones included: what a person removed stays removed."""
    from mlflow.entities import ViewType

    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], wanted, ViewType.ALL, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _is_finished(run: Run) -> bool:
    return run.info.lifecycle_stage != "active" or run.info.status in ("FINISHED", "FAILED")


def _identity(run: Run) -> tuple[str, str]:
    tags = run.data.tags
    return tags.get("mosgate.digest", ""), tags.get("mosgate.number", "")


def _milliseconds(iso: str) -> int:
    return int(datetime.fromisoformat(iso).timestamp() * 1000)
