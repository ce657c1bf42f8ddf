"""``mosgate doctor``: what this machine can do and what it lacks."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.doctor import as_json, examine
from search.exits import Exit

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red")}


def run(args: argparse.Namespace) -> int:
    """Examine and say; any failure ends in exit code 3."""
    checks = examine(Path(args.root), args.device)
    failures = [check for check in checks if check.status == "failure"]
    if args.json:
        print(as_json(checks))
    else:
        table = Table.grid(padding=(0, 2))
        table.add_column()
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for check in checks:
            mark, colour = _MARKS[check.status]
            table.add_row(Text(mark, style=colour), check.name, Text(check.detail))
        Console().print(table)
        said = "everything a sweep needs is here" if not failures else (
            f"{len(failures)} of {len(checks)} checks failed; a sweep would not run"
        )  # fmt: skip
        print(said)
    return Exit.ENVIRONMENT if failures else Exit.WINNER
