"""``mosgate show``: a study's report, one trial in full, or which studies there are."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.commands.studies import load_study, study_names, warn_damaged
from search.exits import Exit, InputError
from search.facts import provenance
from search.labels import column, reasons, run_name, seconds, size, verdict_label, why_not
from search.record import SweepResult, TrialRecord
from search.report import TerminalReport, render_markdown
from search.summary import summarise

_UNITS = {"wer": "points", "bad_utterances": "points", "noise_floor_dbfs": "dB"}


def run(args: argparse.Namespace) -> int:
    """Show what is on disk; nothing is run."""
    root, console = Path(args.root), Console()
    if args.study is None:
        return _list(root, as_json=args.json)
    result, damaged = load_study(root, args.study)
    warn_damaged(damaged)
    if args.trial is not None:
        record = _find(result, args.trial)
        if args.json:
            print(record.to_json())
        else:
            _show_trial(console, root, record)
    elif args.json:
        print(json.dumps(_plain(result), indent=1))
    elif args.markdown:
        print(render_markdown(result), end="")
    else:
        console.print(_trials(result))
        console.print(TerminalReport(summarise(result)))
    return Exit.WINNER


def _list(root: Path, *, as_json: bool) -> int:
    names = study_names(root)
    if as_json:
        print(json.dumps(names))
    elif names:
        print("\n".join(names))
    else:
        print(f"no studies in {root}; start one with: mosgate sweep CONFIG", file=sys.stderr)
    return Exit.WINNER


def _find(result: SweepResult, number: int) -> TrialRecord:
    for record in result.records:
        if record.number == number:
            return record
    known = f"0 to {max(r.number for r in result.records)}"
    raise InputError(f"study {result.study} has no trial {number}; it has {known}")


def _plain(result: SweepResult) -> dict[str, Any]:
    def number(record: TrialRecord | None) -> int | None:
        return None if record is None else record.number

    summary = summarise(result)
    return {
        "study": result.study,
        "objectives": result.objectives,
        "baseline": number(result.baseline),
        "winner": number(result.winner),
        "front": [r.number for r in result.front],
        "confirmation": result.confirmation and dataclasses.asdict(result.confirmation),
        "unconfirmed": number(result.unconfirmed),
        "not_confirmed": result.not_confirmed,
        "wall_s": result.wall_s,
        "interrupted": result.interrupted,
        "sentences": summary.sentences,
        "rejections": dict(summary.rejections),
        "surpassed": dict(summary.surpassed),
        "phases": dict(summary.phases),
        "trials": [json.loads(r.to_json()) for r in result.records],
    }


def _trials(result: SweepResult) -> Table:
    """List every trial in a line."""
    shown = column(result.objectives[0])
    table = Table(title="trials", title_justify="left", header_style="bold", box=None)
    for name in ("trial", shown.title, "verdict", "why not"):
        table.add_column(name, overflow="fold")
    for record in result.records:
        table.add_row(
            Text(f"{run_name(record)} ({record.role})"),
            Text(shown.write(record.metrics.get(shown.metric))),
            Text(verdict_label(record)),
            Text(why_not(record)),
        )
    return table


def _show_trial(console: Console, root: Path, record: TrialRecord) -> None:
    folder = root / record.study / "trials" / record.folder_name
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
    for name, value in _facts(record, folder):
        head.add_row(name, Text(value))
    console.print(head)
    for bound in (record.verdict or {}).get("bounds", ()):
        console.print(Text(f"  gate {_bound(bound)}"))


def _facts(record: TrialRecord, folder: Path) -> list[tuple[str, str]]:
    rows = [
        ("trial", f"{run_name(record)} ({record.role}) {record.recipe}".rstrip()),
        ("verdict", verdict_label(record)),
        *(("why", reason) for reason in [*reasons(record), *record.slo_violations]),
        ("gate", str((record.verdict or {}).get("summary", ""))),
        ("looks", _looks(record)),
        ("provenance", provenance(record)),
        *((f"pass {a['name']}", f"{a['value']}: {a['detail']}") for a in record.applied),
        *((f"seen {name}", str(value)) for name, value in record.observed.items()),
        *((name, _figure(name, value)) for name, value in record.metrics.items()),
        ("phases", ", ".join(f"{k} {seconds(v)}" for k, v in record.phases.items())),
        ("digest", record.digest),
        ("folder", str(folder)),
    ]
    return [(name, value) for name, value in rows if value]


def _looks(record: TrialRecord) -> str:
    """Say what each look said, such as ``8 UNDECIDED, 16 FAIL of 8, 16, 32; 19 spoken``."""
    judged = record.judged
    if not judged.get("looks"):
        return ""
    taken = ", ".join(f"{look['n']} {look['status']}" for look in judged["looks"])
    planned = ", ".join(str(n) for n in judged["planned"])
    return f"{taken} (planned {planned}); {judged['n_spoken']} spoken"


def _figure(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return size(value)
    return column(name).write(value)


def _bound(bound: dict[str, Any]) -> str:
    unit = _UNITS.get(bound["metric"], "%")
    parts = [
        f"{part.removesuffix('_pct')} {bound[part]:+.2f} {unit}"
        for part in ("delta_pct", "lower_pct", "upper_pct", "sigma_pct")
        if bound.get(part) is not None
    ]
    parts += [f"power {bound['power']:.2f}"] if bound.get("power") is not None else []
    return f"{bound['metric']}: {', '.join(parts)}, n={bound.get('n')}: {bound.get('status')}"
