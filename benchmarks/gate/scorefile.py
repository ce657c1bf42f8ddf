"""Scores without their audio, small enough to be committed: gzipped lines of JSON.

The first line says where the scores come from; each further line is one utterance under one
condition. What the gate does not look at (transcripts, extras) is left out, and numbers are kept
to four decimals.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.scores import UtteranceScores

DECIMALS = 4
LEFT_OUT = ("transcript", "extra", "dnsmos_sig", "dnsmos_bak", "pesq_wb")

Conditions = Mapping[str, Sequence[UtteranceScores]]


class ScoreFileError(RuntimeError):
    """A file of scores that does not read; the message names it."""


def write(path: Path, header: Mapping[str, Any], conditions: Conditions) -> None:
    """Write scores by condition; the same scores give the same bytes."""
    lines = [json.dumps(header)]
    for name, scores in conditions.items():
        lines += [json.dumps({"c": name, **_small(s)}) for s in scores]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", mtime=0))
    partial.replace(path)


def read(path: Path) -> tuple[dict[str, Any], dict[str, list[UtteranceScores]]]:
    """Read what ``write`` wrote: the header, and scores by condition.

    Raises:
        ScoreFileError: The file is missing or damaged.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        header = json.loads(lines[0])
        conditions: dict[str, list[UtteranceScores]] = {}
        for line in lines[1:]:
            row = json.loads(line)
            name = row.pop("c")
            conditions.setdefault(name, []).append(UtteranceScores.from_mapping(row))
    except (OSError, EOFError, ValueError, IndexError, KeyError) as error:
        raise ScoreFileError(f"{path} does not read ({error}); build it again") from error
    return header, conditions


def as_kept(scores: UtteranceScores) -> UtteranceScores:
    """Return the scores as they will be read back."""
    return UtteranceScores.from_mapping(_small(scores))


def _small(scores: UtteranceScores) -> dict[str, Any]:
    kept = {}
    for name, value in scores.to_mapping().items():
        if name in LEFT_OUT or value is None or value in ([], {}, ""):
            continue
        kept[name] = round(value, DECIMALS) if isinstance(value, float) else value
    return kept
