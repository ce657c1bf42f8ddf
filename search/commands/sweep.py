"""``mosgate sweep``: search, prove, report."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from search.commands.assignments import assignments
from search.config import load_config
from search.exits import Exit
from search.live import PlainView, open_view
from search.record import SweepResult
from search.report import TerminalReport, render_html, render_markdown
from search.study import run_sweep
from search.summary import summarise
from search.tracking import Tracking


def run(args: argparse.Namespace) -> int:
    """Run or resume a sweep."""
    config = load_config(Path(args.config), assignments(args.set))
    root, console = Path(args.root), Console()
    tracking = Tracking(root)
    with PlainView(console) if args.plain else open_view(console) as view:
        result = run_sweep(config, root=root, on_event=view.take, report=tracking.report)
    console.print(TerminalReport(summarise(result)))
    tracking.finish(result, _pages(root, result))
    if tracking.problem:
        Console(stderr=True).print(f"mosgate: {tracking.problem}", markup=False, soft_wrap=True)
    else:
        console.print(f"compare the runs: mosgate ui --root {root}", style="dim", markup=False)
    if result.interrupted:
        console.print("interrupted: the same command goes on where this one stopped", markup=False)
        return Exit.INTERRUPTED
    return Exit.WINNER if result.winner is not None else Exit.NOTHING_PASSED


def _pages(root: Path, result: SweepResult) -> dict[str, str]:
    pages = {
        "report.md": render_markdown(result),
        "report.html": render_html(result, _clips(root, result)),
    }
    if result.arming is not None:
        pages["arming.json"] = json.dumps(result.arming, indent=1)
    return pages


def _clips(root: Path, result: SweepResult) -> dict[str, bytes]:
    """Return one clip of the baseline and the best one's of the same text, to listen to."""
    best = result.winner or result.unconfirmed
    if best is None:
        return {}
    shown = {"baseline": result.baseline, "winner" if result.winner else "unconfirmed": best}
    folders = {
        title: root / record.study / "trials" / record.folder_name / "audio"
        for title, record in shown.items()
    }
    names = {title: {p.name for p in folder.glob("*.wav")} for title, folder in folders.items()}
    both = sorted(set.intersection(*names.values()))[:1]
    return {
        f"{title}: {name.removesuffix('.wav')}": (folder / name).read_bytes()
        for name in both
        for title, folder in folders.items()
    }
