"""The one immutable record a trial ends in, and how it lies on disk.

``mlruns/<study>/trials/<NNNN>-<digest>/record.json``, written once, atomically; beside it
``audio/*.wav`` and ``worker.log``. Optuna and MLflow are told from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from search.errors import InfrastructureError

SCHEMA = 1
# Fields that records of this schema may lack, since they came later.
ADDED = frozenset({"judged"})
RECORD_NAME = "record.json"
# A confirmation that still has to take turns; the record takes its place.
DRAFT_NAME = "draft.json"
# Roles that are no candidates of the search and count against none of its budget of trials.
ASIDE: frozenset[str] = frozenset({"confirm", "arming"})
# How the last of a verdict's reasons begins in older records of trials that could not win: those
# were heard as far as their first look.
NOT_JUDGED = "Not judged further: "

Role = Literal["baseline", "recipe", "search", "confirm", "arming"]
Status = Literal["completed", "infeasible", "failed"]
FailureKind = Literal["refused", "oom", "crash", "timeout", "error", "silence", "guard"]
DETERMINISTIC: frozenset[str] = frozenset({"refused", "oom", "timeout", "silence", "guard"})


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a trial did not complete.

    Args:
        phase: The phase it happened in: load, compile, measure, synthesize, render or judge.
        kind: One of ``FailureKind``.
        message: One or a few lines for a person.
    """

    phase: str
    kind: FailureKind
    message: str


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What was asked, what ran, what came out and what was decided.

    Args:
        schema: Version of this layout.
        study: The study's name.
        number: Counted from 0 within the study, in order of start.
        role: Why this configuration was tried.
        digest: Content address of options, model, prompts, seeds and environment.
        options: The canonical options that ran (``Options.to_mapping``).
        requested: The options before they were made canonical.
        status: ``completed`` ran to the end; ``infeasible`` fails whenever it is run;
            ``failed`` failed for another reason even when repeated.
        failure: Why not completed, or None.
        attempts: How many processes were started for it.
        recipe: The known recipe's name, or "".
        phases: Seconds per phase.
        applied: What each pass did (``Applied`` as mappings).
        observed: What was seen after warm-up: kernels, graphs, recompiles.
        measurements: Raw samples per name: ``{"unit": str, "samples": [float, ...]}``.
        metrics: Flat finite figures, units in the names' suffixes.
        utterances: One ``UtteranceScores`` mapping per judged utterance.
        judged: How the audio was judged: ``planned``, the sizes of all looks; ``looks``, those
            that were taken, each ``{"n": int, "status": str}``; ``n_spoken``, the utterances
            it cost; ``pairs``, in a confirmation, the pairs of turns it was to take;
            ``surpassed``, of a trial that was not heard, who is as good.
        verdict: The gate's ``Verdict`` as a mapping, or None when nothing was judged.
        constraints: What the sampler is told: at most 0 is feasible, same keys in every record.
        slo_violations: One sentence per service level that was missed; empty is good.
        environment: Device, versions and the digests that the content address is made of.
        started_at: ISO 8601, UTC.
        ended_at: ISO 8601, UTC.
    """

    study: str
    number: int
    role: Role
    digest: str
    options: Mapping[str, Any]
    requested: Mapping[str, Any]
    status: Status
    failure: Failure | None = None
    attempts: int = 1
    recipe: str = ""
    phases: Mapping[str, float] = field(default_factory=dict)
    applied: tuple[Mapping[str, Any], ...] = ()
    observed: Mapping[str, str] = field(default_factory=dict)
    measurements: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    utterances: tuple[Mapping[str, Any], ...] = ()
    judged: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] | None = None
    constraints: Mapping[str, float] = field(default_factory=dict)
    slo_violations: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    started_at: str = ""
    ended_at: str = ""
    schema: int = SCHEMA

    @property
    def accepted(self) -> bool:
        """Whether it completed, passed the gate and met every service level."""
        passed = self.verdict is not None and self.verdict["status"] == "PASS"
        return self.status == "completed" and passed and not self.slo_violations

    @property
    def surpassed(self) -> str:
        """Why it was not heard although nothing was wrong with it: who is as good; or ""."""
        if "surpassed" in self.judged:
            return str(self.judged["surpassed"])
        reasons = (self.verdict or {}).get("reasons", ())
        last = str(reasons[-1]) if reasons else ""
        return last.removeprefix(NOT_JUDGED).rstrip(".") if last.startswith(NOT_JUDGED) else ""

    @property
    def early(self) -> str:
        """At which look short of the last it was turned down, and what that cost; or ""."""
        looks, planned = self.judged.get("looks", ()), self.judged.get("planned", ())
        if not looks or len(looks) >= len(planned) or self.surpassed:
            return ""
        return (
            f"settled at look {len(looks)} of {len(planned)}: {looks[-1]['n']} of {planned[-1]} "
            f"utterances judged, {self.judged['n_spoken']} spoken"
        )

    @property
    def folder_name(self) -> str:
        """The trial folder's name under ``mlruns/<study>/trials``."""
        return folder_name(self.number, self.digest)

    def to_json(self) -> str:
        """Return JSON text; ``from_json`` of it equals this.

        Raises:
            ValueError: A figure is not finite.
        """
        return json.dumps(asdict(self), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> TrialRecord:
        """Read JSON text.

        Raises:
            ValueError: Not a record of this schema.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise ValueError(f"not a trial record of schema {SCHEMA}")
        unknown = (set(values) ^ {f.name for f in fields(cls)}) - ADDED
        if unknown:
            raise ValueError(f"unknown or missing field {sorted(unknown)[0]!r}")
        failure = values.pop("failure")
        for name in ("applied", "utterances", "slo_violations"):
            values[name] = tuple(values[name])
        return cls(**values, failure=Failure(**failure) if failure else None)


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """The winner timed again, turn by turn with the baseline, and judged on unseen prompts.

    Args:
        digest: The confirmed record's digest (of its search trial, not of the confirm trial).
        metric: The first objective's name.
        baseline_samples: That metric from each fresh baseline process, in order.
        winner_samples: The same for the winner; the processes alternated.
        speedup: Baseline over winner (winner over baseline for throughput), median over pairs;
            above 1 is better.
        speedup_low: The smallest ratio of any pair.
        speedup_high: The largest ratio of any pair.
        verdict: The gate's verdict on the confirmation split, or None when nothing was judged.
        slo_violations: One sentence per service level that was missed there; empty is good.
        n_pairs: Pairs that were asked for; 0 in records from before they were noted.
    """

    digest: str
    metric: str
    baseline_samples: tuple[float, ...]
    winner_samples: tuple[float, ...]
    speedup: float
    speedup_low: float
    speedup_high: float
    verdict: Mapping[str, Any] | None
    slo_violations: tuple[str, ...] = ()
    n_pairs: int = 0


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep ends in.

    Args:
        study: The study's name.
        objectives: The objectives' metric names, the first one ranks the winner.
        records: All records in order of number, those of earlier sittings included.
        baseline: The baseline's record.
        winner: The best accepted record in the first objective that was confirmed, or None.
        front: Accepted records that no other accepted record beats in every objective, best
            first; with one objective, the winner alone.
        confirmation: How the winner fared when it was confirmed, or None if it was not.
        interrupted: Whether a person stopped the sweep.
        wall_s: Seconds spent on this study, earlier sittings included.
        unconfirmed: The best contender that no confirmation has upheld or refuted, where nobody
            won; it may not be shipped.
        not_confirmed: Why nobody was confirmed although there were contenders, and what to do
            about it; or "".
        arming: How the gate was tried on the baseline (an ``Arming`` as a mapping); None where that
            was left out.
    """

    study: str
    objectives: tuple[str, ...]
    records: tuple[TrialRecord, ...]
    baseline: TrialRecord
    winner: TrialRecord | None
    front: tuple[TrialRecord, ...]
    confirmation: Confirmation | None
    interrupted: bool
    wall_s: float
    unconfirmed: TrialRecord | None = None
    not_confirmed: str = ""
    arming: Mapping[str, Any] | None = None


def folder_name(number: int, digest: str) -> str:
    """Return a trial folder's name."""
    return f"{number:04d}-{digest}"


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing: temporary file, fsync, rename, fsync of the folder.

    Raises:
        InfrastructureError: The disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InfrastructureError(
            f"cannot write {path}: {error.strerror or error}; free some space or make the folder "
            "writable and run the same command again: nothing recorded so far is lost"
        ) from error


def write_record(folder: Path, record: TrialRecord) -> Path:
    """Write ``record.json`` into a trial folder and return its path."""
    path = folder / RECORD_NAME
    write_atomically(path, record.to_json())
    (folder / DRAFT_NAME).unlink(missing_ok=True)
    return path


def write_draft(folder: Path, record: TrialRecord) -> None:
    """Write down a record that is not finished, so that a kill loses nothing of it."""
    write_atomically(folder / DRAFT_NAME, record.to_json())


def read_record(path: Path) -> TrialRecord:
    """Read one ``record.json``.

    Raises:
        InfrastructureError: The file is damaged.
    """
    try:
        return TrialRecord.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InfrastructureError(
            f"cannot read the record {path}: {error}; move its folder away to run the trial again"
        ) from error


def read_records(study_dir: Path) -> list[TrialRecord]:
    """Read all records of a study, in order of number."""
    found = [read_record(path) for path in record_paths(study_dir)]
    return sorted(found, key=lambda record: record.number)


def record_paths(study_dir: Path) -> Iterator[Path]:
    """Yield the paths of all records of a study."""
    yield from sorted((study_dir / "trials").glob(f"*/{RECORD_NAME}"))
