"""``mosgate judge``: gate one folder of wavs against another, whoever made them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import TextIO

from evaluation.errors import InputsError
from evaluation.folder_verdict import FolderVerdict, judge_folders
from evaluation.folders import Inputs, check_folders
from evaluation.gate import GateConfig
from evaluation.judge import Judge
from evaluation.provenance import references_digest
from evaluation.recogniser import doubt
from evaluation.texts import read_texts
from search.errors import InfrastructureError
from search.exits import Exit, InputError
from search.folder_report import to_mapping, to_text
from search.record import write_atomically

METRICS = ("guards", "dnsmos", "wer")
TIMEOUT_S = 60.0


def run(args: argparse.Namespace) -> int:
    """Check all inputs, judge, tell; only a PASS ends in 0."""
    config = _gate(args)
    out = _target(args.out)
    inputs = _inputs(args)
    began = time.monotonic()
    progress = Progress(sys.stderr)
    heard = references_digest({spoken.name: spoken.reference for spoken in inputs.texts})
    metrics = (*METRICS, "pesq") if args.aligned else METRICS
    try:
        progress.say(f"judging {len(inputs.texts)} utterances; loading the metrics")
        with Judge(args.asr, timeout_s=TIMEOUT_S, metrics=metrics, references=heard) as judge:
            provenance = judge.provenance()
            found = judge_folders(
                inputs, config, judge, aligned=args.aligned, arming=not args.no_arming,
                on_progress=progress,
            )  # fmt: skip
    finally:
        progress.end()
    mapping = to_mapping(
        found, config, inputs, Path(args.texts), provenance, aligned=args.aligned,
        seconds=time.monotonic() - began,
    )  # fmt: skip
    text = json.dumps(mapping, indent=1, ensure_ascii=False, allow_nan=False)
    print(text if args.json else to_text(found, config, aligned=args.aligned), flush=True)
    _doubt_the_ear(found, args.asr)
    if out is not None:  # last, so that a full disk does not take the verdict along
        _write(out, text + "\n")
    return Exit.WINNER if found.verdict.status == "PASS" else Exit.NOTHING_PASSED


def _gate(args: argparse.Namespace) -> GateConfig:
    given = {f.name: getattr(args, f.name) for f in fields(GateConfig)}
    try:
        return GateConfig(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        name, _, what = str(error).partition(" ")
        raise InputError(f"--{name.replace('_', '-')} {what}") from error


def _target(given: str | None) -> Path | None:
    """Return the file to write; refuse now what would fail after minutes of work.

    A link stays one: the file that it leads to is written. What is no file, such as a device, is
    refused, since the report would take its place.
    """
    if given is None:
        return None
    try:
        path = Path(given).resolve()
    except (OSError, RuntimeError) as error:  # links that lead in a circle
        raise InputError(f"--out {given}: {error}; give the name of a file") from error
    if path.is_dir():
        raise InputError(f"--out {given}: is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise InputError(
            f"--out {given}: is no regular file; give the name of one, or leave it out"
        )
    if not path.parent.is_dir():
        folder = Path(given).parent if not Path(given).is_symlink() else path.parent
        raise InputError(f"--out {given}: the folder {folder} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"--out {given}: no right to write there; choose another folder")
    return path


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except InfrastructureError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.__cause__
        raise InfrastructureError(
            f"cannot write {path}: {reason}; the verdict that was printed stands, but --out holds "
            "nothing of it: make room or name another file and run the same command again"
        ) from error


def _inputs(args: argparse.Namespace) -> Inputs:
    texts = Path(args.texts)
    try:
        return check_folders(
            read_texts(texts),
            texts,
            baseline=Path(args.baseline),
            candidate=Path(args.candidate),
            again=Path(args.baseline_again) if args.baseline_again else None,
            n=args.n,
            aligned=args.aligned,
        )
    except InputsError as error:
        if len(error.problems) == 1:
            raise
        raise InputError(f"{len(error.problems)} problems, nothing was judged:\n{error}") from error


def _doubt_the_ear(found: FolderVerdict, asr: str) -> None:
    """Say so when the recogniser cannot follow the baseline: its word errors gate nothing then."""
    said = doubt(found.baseline)
    if said:
        other = " embedded knows few voices: try --asr base.en." if asr == "embedded" else ""
        print(f"mosgate: --asr {asr}: {said}{other}", file=sys.stderr)


class Progress:
    """Says how far it is: one line that moves on a terminal, plain lines elsewhere.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.moves = stream.isatty()
        self.told: tuple[str, int] = ("", -1)

    def say(self, text: str) -> None:
        """Say something once."""
        self._show(f"mosgate: {text}")

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say that so many clips of ``what`` are done."""
        quarter = 4 * done // total if total else 4
        if self.moves or (what, quarter) != self.told:
            self._show(f"mosgate: {what}: {done} of {total}")
        self.told = (what, quarter)

    def end(self) -> None:
        """Clear the line that moves."""
        if self.moves:
            print("\r\x1b[2K", end="", file=self.stream, flush=True)

    def _show(self, line: str) -> None:
        start, end = ("\r\x1b[2K", "") if self.moves else ("", "\n")
        print(f"{start}{line}", end=end, file=self.stream, flush=True)
