"""A record and a sweep as flat parameters, metrics and tags, for an experiment tracker."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search.labels import flat_options, reasons, verdict_label
from search.record import ASIDE, SweepResult, TrialRecord
from search.rejections import OPEN, open_counts, rejection_counts, surpassed_counts

TABLE_NAME = "utterances.json"
_MAX_TAG = 8000
_MAX_PARAM = 6000


def params(record: TrialRecord) -> dict[str, str]:
    """Return the options that ran, one level deep, as text."""
    return {k: _cut(str(v), _MAX_PARAM) for k, v in flat_options(record.options).items()}


def metrics(record: TrialRecord) -> list[tuple[str, float, int]]:
    """Return (key, value, step): the figures, phases and bounds once, the raw samples as steps."""
    found = [(key, value, 0) for key, value in record.metrics.items()]
    found += [(f"phase/{name}_s", value, 0) for name, value in record.phases.items()]
    found += [(f"gate/{key}", value, 0) for key, value in _gate(record.verdict or {})]
    for name, measured in record.measurements.items():
        key = f"samples/{name}_{_safe(str(measured.get('unit', '')))}".rstrip("_")
        found += [(key, value, step) for step, value in enumerate(measured.get("samples", ()))]
    return [(k, float(v), step) for k, v, step in found if _is_number(v)]


def _gate(verdict: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if "n" in verdict:
        yield "n", verdict["n"]
    yield from ((name, verdict.get(name)) for name in ("sigma_pct", "power"))
    for bound in verdict.get("bounds", ()):
        for part in ("delta_pct", "lower_pct", "upper_pct", "sigma_pct", "power"):
            yield f"{_safe(bound['metric'])}_{part}", bound.get(part)


def tags(record: TrialRecord) -> dict[str, str]:
    """Return what a person filters runs by, and what each pass did."""
    said = {
        "verdict": verdict_label(record),
        "accepted": str(record.accepted).lower(),
        "role": record.role,
        "reasons": "\n".join([*reasons(record), *record.slo_violations]),
        "failure": record.failure.kind if record.failure else "",
        "recipe": record.recipe,
        "summary": "" if record.surpassed else str((record.verdict or {}).get("summary", "")),
        "attempts": str(record.attempts),
        "judged": record.early,
    }
    said |= {f"mosgate.{name}": value for name, value in gate_tags(record).items()}
    said |= {f"observed.{_safe(name)}": str(value) for name, value in record.observed.items()}
    for step in record.applied:
        text = f"{step.get('value')} ({step.get('n_modules')} modules): {step.get('detail')}"
        said[f"applied.{_safe(str(step.get('name')))}"] = text
    return {key: _cut(value, _MAX_TAG) for key, value in said.items() if value} | _table_tag(record)


def gate_tags(record: TrialRecord) -> dict[str, str]:
    """Return the verdict with what it rests on, for a tracker's filters; missing is left out."""
    verdict = record.verdict or {}
    found = {"verdict": verdict_label(record), "provenance": provenance(record)}
    for name, form in (("n", "d"), ("sigma_pct", ".2f"), ("power", ".3f")):
        value = verdict.get(name)
        if value is not None:
            found[name] = format(value, form)
    return found


def provenance(record: TrialRecord) -> str:
    """Return the hash of what the record's scores depend on; several are joined."""
    hashes = {str(row.get("provenance") or "") for row in record.utterances} - {""}
    return ", ".join(sorted(hashes))


def _table_tag(record: TrialRecord) -> dict[str, str]:
    if not record.utterances:
        return {}
    return {"mlflow.loggedArtifacts": json.dumps([{"path": TABLE_NAME, "type": "table"}])}


def utterance_table(record: TrialRecord) -> dict[str, list[Any]]:
    """Return the per-utterance scores as ``{"columns": [...], "data": [[...], ...]}``."""
    names = list(dict.fromkeys(name for row in record.utterances for name in row))
    rows = [[_cell(row.get(name)) for name in names] for row in record.utterances]
    return {"columns": names, "data": rows}


def _cell(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def sweep_metrics(result: SweepResult) -> list[tuple[str, float, int]]:
    """Return the sweep's summary: the winner's figures, how many passed, and its wall time."""
    found: list[tuple[str, Any, int]] = [
        ("trials", sum(r.role not in ASIDE for r in result.records), 0),
        ("accepted", sum(r.accepted for r in result.records if r.role != "baseline"), 0),
        ("rejected", _n_rejected(result.records), 0),
        ("surpassed", surpassed_counts(result.records).total(), 0),
        *((k.lower(), open_counts(result.records)[k], 0) for k in OPEN),
        ("wall_s", result.wall_s, 0),
    ]
    for role, record in (("baseline", result.baseline), ("winner", result.winner)):
        if record is not None:
            found += [(f"{role}/{key}", value, 0) for key, value in record.metrics.items()]
    if result.confirmation is not None:
        found.append(("confirmed_speedup", result.confirmation.speedup, 0))
    if result.arming is not None:
        sigmas = result.arming["sigma_pct"].items()
        found += [(f"arming/{metric}_sigma_pct", value, 0) for metric, value in sigmas]
        found += [(f"arming/{key}", result.arming[key], 0) for key in ("n_small_loss", "seconds")]
    return [(k, float(v), step) for k, v, step in found if _is_number(v)]


def _n_rejected(records: Sequence[TrialRecord]) -> int:
    """Count what was shown to be bad, or did not run."""
    return rejection_counts(records).total() - open_counts(records).total()


def sweep_tags(result: SweepResult) -> dict[str, str]:
    """Return who won."""
    won, best = result.winner, result.unconfirmed
    none = f"none: trial {best.number} is not confirmed" if best else "none: nothing passed"
    return {
        "winner": f"trial {won.number}" if won else none,
        "objectives": ", ".join(result.objectives),
        **_armed(result),
    }


def _armed(result: SweepResult) -> dict[str, str]:
    """Return whether the gate told good from bad on this baseline, and what it missed."""
    if result.arming is None:
        return {"armed": "not tried"}
    missed = "\n".join(result.arming["missed"])
    tags = {"armed": str(result.arming["armed"]).lower()}
    return tags | ({"unarmed": _cut(missed, _MAX_TAG)} if missed else {})


def _is_number(value: Any) -> bool:  # noqa: ANN401 - what a record carries
    return isinstance(value, int | float) and math.isfinite(value)


def _safe(name: str) -> str:
    """Keep what a tracker takes in a key: letters, digits, ``_ - .`` and blanks."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. ") else "_" for c in name)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
