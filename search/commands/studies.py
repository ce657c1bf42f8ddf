"""Studies as they lie on disk, for the commands that only read."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.errors import InfrastructureError
from search.exits import InputError
from search.folder import CLOCK, CONDITIONS
from search.record import SweepResult, TrialRecord, read_record, record_paths


def study_names(root: Path) -> list[str]:
    """Return the studies of a root folder, in order of name."""
    return sorted(path.parent.name for path in root.glob("*/trials") if path.is_dir())


def study_folder(root: Path, study: str) -> Path:
    """Return a study's folder.

    Raises:
        InputError: There is none; the message suggests the nearest name.
    """
    names = study_names(root)
    if study in names:
        return root / study
    near = difflib.get_close_matches(study, names, n=1)
    if near:
        raise InputError(f"there is no study {study!r} in {root}; did you mean {near[0]!r}?")
    known = f"; there are: {', '.join(names)}" if names else "; it holds none: run a sweep first"
    raise InputError(f"there is no study {study!r} in {root}{known}")


def load_study(root: Path, study: str) -> tuple[SweepResult, list[str]]:
    """Read a study without running anything.

    Returns:
        The result as the records on disk give it, and one sentence per damaged record.

    Raises:
        InputError: No such study, or none of its trials has finished.
        InfrastructureError: The baseline's record is damaged.
    """
    folder = study_folder(root, study)
    records, damaged = read_sound_records(folder)
    baseline = next((r for r in records if r.role == "baseline"), None)
    if baseline is None:
        if damaged:
            raise InfrastructureError(f"study {study} has no readable baseline: {damaged[0]}")
        raise InputError(f"study {study} has no finished baseline yet; run its sweep again")
    return _result(root, study, records), damaged


def read_sound_records(folder: Path) -> tuple[list[TrialRecord], list[str]]:
    """Read every record that can be read; name the others."""
    records: list[TrialRecord] = []
    damaged: list[str] = []
    for path in record_paths(folder):
        try:
            records.append(read_record(path))
        except InfrastructureError as error:
            damaged.append(str(error))
    return sorted(records, key=lambda record: record.number), damaged


def warn_damaged(damaged: Sequence[str]) -> None:
    """Name damaged records; they are left out of what is shown."""
    for sentence in damaged:
        print(f"mosgate: warning: left out: {sentence}", file=sys.stderr)


def load_config_of(root: Path, study: str) -> Mapping[str, Any]:
    """Return the resolved configuration that a study was last run with.

    Raises:
        InfrastructureError: It is missing or damaged.
    """
    path = study_folder(root, study) / CONDITIONS
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InfrastructureError(
            f"cannot read {path}: {error}; run the study's sweep again to write it anew"
        ) from error
    return dict(config)


def _result(root: Path, study: str, records: Sequence[TrialRecord]) -> SweepResult:
    from search import ranking
    from search.armed import planned, read_arming, why_nothing_passes
    from search.sections import ConfirmConfig
    from search.standing import best_standing

    config = load_config_of(root, study)
    objectives = tuple(config["objectives"])
    baseline = next(r for r in records if r.role == "baseline")
    try:
        confirm = ConfirmConfig(**config["confirm"])
    except (KeyError, TypeError, ValueError) as error:
        raise InfrastructureError(
            f"the configuration in {root / study / CONDITIONS} does not say how to confirm "
            f"({error}); run the study's sweep again to write it anew"
        ) from error
    kept = read_arming(root / study)
    arming = kept["arming"] if kept else None
    unarmed = why_nothing_passes(arming, config["prompts"]["n"])
    confirm = planned(confirm, root / study)
    standing = best_standing(objectives, records, baseline, confirm, unarmed)
    return SweepResult(
        study=study,
        objectives=objectives,
        records=tuple(records),
        baseline=baseline,
        winner=standing.winner,
        front=() if unarmed else tuple(ranking.front(objectives, records)),
        confirmation=standing.confirmation,
        interrupted=False,
        wall_s=_spent_s(root / study),
        unconfirmed=standing.unconfirmed,
        not_confirmed=standing.why,
        arming=arming,
    )


def _spent_s(folder: Path) -> float:
    try:
        told = json.loads((folder / CLOCK).read_text(encoding="utf-8"))
        return float(told["spent_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0  # a sweep killed before it first wrote its clock
