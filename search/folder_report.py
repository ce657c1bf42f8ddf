"""What ``mosgate judge`` tells: a sentence and two small tables, or one JSON object."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evaluation.comparisons import MOS_METRICS
from evaluation.folder_verdict import FolderVerdict
from evaluation.folders import Folder, Inputs
from evaluation.gate import Bound, GateConfig
from evaluation.provenance import file_sha256, score_hash
from evaluation.scores import UtteranceScores
from evaluation.wording import label
from evaluation.worst import Heard, pair

N_WORST = 5
UNALIGNED = "unaligned"
_HEAD = tuple("metric baseline candidate change bound allowed sigma n power verdict".split())
_NAMES = {"bad_utterances": "ruined", "noise_floor_dbfs": "noise floor"}
_WORST_HEAD = ("utterance", "OVRL", "P808", "WER", "what is wrong")
_WHY_UNALIGNED = (
    "PESQ: unaligned. Two samplings of one text differ in time, so it would mean nothing; "
    "--aligned is for renderings of the same tokens."
)


def to_text(found: FolderVerdict, config: GateConfig, *, aligned: bool) -> str:
    """Return the verdict for people."""
    lines = [found.verdict.summary, ""]
    if found.verdict.bounds:
        lines += [*_table([_HEAD, *(_row(b, config) for b in found.verdict.bounds)]), ""]
    heard = pair(found.baseline, found.candidate, config)
    worst = [one for one in heard if one.signs or one.loss > 0][:N_WORST]
    if worst:
        lines += ["listen to these first (baseline -> candidate):"]
        lines += [*_table([_WORST_HEAD, *map(_worst_row, worst)]), ""]
    if aligned:
        lines += [_pesq_sentence(found.candidate)]
    elif found.candidate:
        lines += [_WHY_UNALIGNED]
    if found.again is not None:
        lines += [f"The baseline against itself: {found.again.summary}"]
    if found.arming is not None and found.arming.armed:
        said = found.arming.summary
        lines += [f"{said[0].upper()}{said[1:]}."]
    return "\n".join(lines).rstrip()


def to_mapping(
    found: FolderVerdict,
    config: GateConfig,
    inputs: Inputs,
    texts: Path,
    provenance: Mapping[str, str],
    *,
    aligned: bool,
    seconds: float,
) -> dict[str, Any]:
    """Return the whole judgement as JSON types.

    Args:
        found: The judgement.
        config: The gate.
        inputs: What was judged.
        texts: The file of texts.
        provenance: What the scores depend on.
        aligned: Whether PESQ was measured.
        seconds: What it took.
    """
    return {
        "verdict": found.verdict.to_mapping(),
        "looks": [dataclasses.asdict(look) for look in found.looks],
        "baseline_against_itself": found.again and found.again.to_mapping(),
        "arming": found.arming and found.arming.to_mapping(),
        "gate": dataclasses.asdict(config),
        "inputs": {
            "baseline": _folder(inputs.baseline),
            "candidate": _folder(inputs.candidate),
            "baseline_again": inputs.again and _folder(inputs.again),
            "texts": {"path": str(texts), "sha256": file_sha256(texts)},
            "n": len(inputs.texts),
            "rate_hz": inputs.rate_hz,
            "resampling": inputs.resampling,
        },
        "pesq": _pesq(found.candidate) if aligned else UNALIGNED,
        "provenance": {"hash": score_hash(provenance), "parts": dict(provenance)},
        "environment": {
            "mosgate": _version(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "n_cores": os.cpu_count(),
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
        },
        "utterances": _utterances(found, config, inputs),
    }


def _utterances(found: FolderVerdict, config: GateConfig, inputs: Inputs) -> list[dict[str, Any]]:
    """Return every utterance of the baseline in the order of listening."""
    heard = {one.name: one for one in pair(found.baseline, found.candidate, config)}
    rows = []
    for spoken, base in zip(inputs.texts, found.baseline, strict=True):
        one = heard.get(spoken.name)
        rows.append(
            {
                "name": spoken.name,
                "text": spoken.text,
                "reference": spoken.reference,
                "baseline": base.to_mapping(),
                "candidate": one and one.candidate.to_mapping(),
                "signs": list(one.signs) if one else [],
            }
        )
    return rows


def _row(bound: Bound, config: GateConfig) -> tuple[str, ...]:
    """Return one compared quantity as cells; the bound is the one that decides."""
    mean, unit, shown, allowed = "{:.2f}", "%", f">= {bound.lower_pct:+.1f}", ""
    scale, upper = 1, f"<= {bound.upper_pct:+.1f}"
    if bound.metric == "wer":
        mean, unit, shown, scale = "{:.1f} %", "points", upper, 100
        allowed = f"{100 * config.wer_margin:+g}"
    elif bound.metric == "bad_utterances":
        mean, shown, scale, allowed = "{:.1f} %", upper, 100, f"{100 * config.max_bad_rate:+g}"
    elif bound.metric == "duration_s":
        mean, shown = "{:.2f} s", f"{bound.lower_pct:+.1f} to {bound.upper_pct:+.1f}"
        allowed = f"+-{config.duration_drift_pct:g}"
    elif bound.metric == "noise_floor_dbfs":
        mean, unit, shown = "{:.0f} dBFS", "dB", upper
        allowed = f"{config.noise_floor_rise_db:+g}"
    elif bound.metric in MOS_METRICS:
        allowed = f"-{config.mos_budget_pct:g}"
    means = [mean.format(scale * value) for value in (bound.baseline_mean, bound.candidate_mean)]
    change = f"{bound.delta_pct + 0.0:+.1f} {unit}"
    sigma = "" if bound.metric == "bad_utterances" else f"{bound.sigma_pct:.1f} {unit}"
    power = "" if bound.power is None else f"{bound.power:.2f}"
    name = _NAMES.get(bound.metric) or label(bound.metric)
    return (name, *means, change, shown, allowed, sigma, str(bound.n), power, bound.status)


def _worst_row(heard: Heard) -> tuple[str, ...]:
    before, after = heard.baseline, heard.candidate
    return (
        heard.name,
        _both(before.dnsmos_ovrl, after.dnsmos_ovrl, "{:.2f}"),
        _both(before.dnsmos_p808, after.dnsmos_p808, "{:.2f}"),
        _both(before.wer, after.wer, "{:.0%}"),
        "; ".join(heard.signs) or "-",
    )


def _both(before: float | None, after: float | None, form: str) -> str:
    return " -> ".join("?" if value is None else form.format(value) for value in (before, after))


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines of aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _folder(folder: Folder) -> dict[str, Any]:
    return {"path": str(folder.path), "digest": folder.digest, "n_files": len(folder.sounds)}


def _pesq(scores: Sequence[UtteranceScores]) -> dict[str, Any]:
    """Return the aligned PESQ, which informs and gates nothing."""
    values = {s.utterance_id: s.pesq_wb for s in scores if s.pesq_wb is not None}
    if not values:
        return {"n": 0, "mean": None, "lowest": None, "lowest_name": None}
    name = min(values, key=lambda key: values[key])
    mean = statistics.fmean(values.values())
    return {"n": len(values), "mean": mean, "lowest": values[name], "lowest_name": name}


def _pesq_sentence(scores: Sequence[UtteranceScores]) -> str:
    pesq = _pesq(scores)
    if not pesq["n"]:
        return "PESQ: measured on no utterance."
    return (
        f"PESQ against the baseline: {pesq['mean']:.2f} on average, {pesq['lowest']:.2f} at worst "
        f"({pesq['lowest_name']}), n={pesq['n']}; it informs and gates nothing."
    )


def _version() -> str:
    try:
        return version("mosgate")
    except PackageNotFoundError:
        return ""
