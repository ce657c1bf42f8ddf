"""Ship a winner: its configuration, the evidence, the environment and checksums, whole or not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evaluation.provenance import file_sha256
from search.errors import InfrastructureError
from search.record import SweepResult, TrialRecord
from search.report import render_html, render_markdown
from search.standing import few, stands
from search.summary import summarise
from search.whole_folder import fresh_folder, refuse_occupied

CHECKSUMS = "SHA256SUMS"
SCHEMA = 1


class NothingPassedError(Exception):
    """There is no confirmed winner to export."""


def export(
    result: SweepResult, target: Path, *, config: Mapping[str, Any], force: bool = False
) -> list[Path]:
    """Write the winner of a sweep into a folder.

    Args:
        result: The sweep's end.
        target: A folder that does not exist or is empty.
        config: The sweep's resolved configuration, for the model and the gate.
        force: Replace an earlier export.

    Returns:
        The files written.

    Raises:
        NothingPassedError: No configuration was accepted and confirmed.
        InputError: The folder holds something.
        InfrastructureError: What was written is not what is read back.
    """
    _refuse_unconfirmed(result)
    assert result.winner is not None
    refuse_occupied(target, marker=CHECKSUMS, what="export", force=force)
    files = _files(result, result.winner, config)
    files[CHECKSUMS] = "".join(
        f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in files.items()
    )
    with fresh_folder(target) as fresh:
        _write(fresh, files)
        problems = verify(fresh)
        if problems:
            raise InfrastructureError(
                f"cannot write {target}: {problems[0]} on its way to the disk; name a folder on "
                "another disk or run it again"
            )
    return [target / name for name in files]


def _refuse_unconfirmed(result: SweepResult) -> None:
    """Raise unless a confirmation upholds the winner: what is exported is what was confirmed."""
    arming = result.arming
    if arming is not None and not arming["armed"]:
        missed = " ".join(arming["missed"])
        reason = result.not_confirmed or f"the gate is not armed on this baseline: {missed}"
        raise NothingPassedError(f"study {result.study} has no winner to export: {reason}")
    best = result.unconfirmed
    if best is not None:
        raise NothingPassedError(
            f"study {result.study} has no confirmed winner to export. Trial {best.number} is the "
            f"best so far, but {result.not_confirmed}"
        )
    if result.winner is None:
        reason = result.not_confirmed or summarise(result).sentences[1]
        raise NothingPassedError(f"study {result.study} has no winner to export. {reason}")
    if result.confirmation is None or not stands(result.confirmation):
        raise NothingPassedError(
            f"study {result.study} has no confirmed winner to export: run its sweep again"
        )


def _files(result: SweepResult, won: TrialRecord, config: Mapping[str, Any]) -> dict[str, str]:
    winner: dict[str, Any] = {
        "schema": SCHEMA,
        "study": result.study,
        "trial": won.number,
        "digest": won.digest,
        "model": config.get("model", "embedded"),
        "options": dict(won.options),
        "objectives": list(result.objectives),
        "metrics": dict(won.metrics),
        "verdict": (won.verdict or {}).get("summary", ""),
        "confirmed": _confirmed(result),
    }
    said = warnings(result)
    if said:
        winner["warning"] = "; ".join(said)
    evidence = [("baseline", result.baseline), ("winner", won)]
    evidence += [
        (f"confirm-{r.number:04d}", r) for r in result.records if r.role == "confirm"
    ]  # fmt: skip
    heading = f"# {summarise(result).sentences[0]}\n"
    return {
        "winner.yaml": heading + yaml.safe_dump(winner, sort_keys=False, allow_unicode=True),
        "winner.json": _json(winner),
        "environment.json": _json(dict(won.environment)),
        "config.json": _json(dict(config)),
        "report.md": render_markdown(result),
        "report.html": render_html(result),
        "evidence/verdict.json": _json(won.verdict),
        "evidence/arming.json": _json(result.arming),
        **{f"evidence/{name}.json": record.to_json() + "\n" for name, record in evidence},
    }


def warnings(result: SweepResult) -> list[str]:
    """Say what the export of a winner cannot vouch for as it should."""
    untried = "the gate was not armed on this baseline" if result.arming is None else ""
    said = [few(result.confirmation), untried]
    return [text for text in said if text]


def _confirmed(result: SweepResult) -> dict[str, Any] | None:
    done = result.confirmation
    if done is None:
        return None
    judged = done.verdict or {}
    return {
        "n": judged.get("n"),
        "sigma_pct": judged.get("sigma_pct"),
        "power": judged.get("power"),
        "pairs": len(done.winner_samples),
        "speedup": done.speedup,
        "speedup_low": done.speedup_low,
        "speedup_high": done.speedup_high,
        "verdict": judged.get("summary"),
    }


def _json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def verify(folder: Path) -> list[str]:
    """Return what is wrong with an exported folder, by file; empty is good."""
    problems = []
    for line in (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif file_sha256(path) != expected:
            problems.append(f"{name} was changed")
    return problems
