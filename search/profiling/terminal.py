"""A profile on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from search.profiling.record import Profile
from search.profiling.sheet import Sheet, headline, sheets, where


def show(profile: Profile, console: Console) -> None:
    """Print everything: what ran, the bottlenecks, the tables."""
    console.print(Text(where(profile), style="bold"))
    console.print(Text(headline(profile)))
    _show_bottlenecks(profile, console)
    for sheet in sheets(profile):
        console.print()
        console.print(Text(sheet.heading, style="bold"))
        console.print(_table(sheet))
        if sheet.remark:
            console.print(Text(sheet.remark, style="dim"))
    for note in profile.notes:
        console.print(Text(note, style="dim"))


def _show_bottlenecks(profile: Profile, console: Console) -> None:
    console.print()
    console.print(Text("Bottlenecks", style="bold"))
    if not profile.bottlenecks:
        console.print(Text("unknown: the model does not tell its stages"))
    for i, found in enumerate(profile.bottlenecks, start=1):
        console.print(Text(f"{i}. {found.words}"))
        advice = [f"try {item}" for item in found.advice]
        for line in advice or ["nothing that was measured says what to try"]:
            console.print(Padding(Text(line), (0, 0, 0, 3)))


def _table(sheet: Sheet) -> Table:
    table = Table.grid(padding=(0, 2))
    for i, _ in enumerate(sheet.columns):
        table.add_column(justify="left" if i == 0 else "right", overflow="fold")
    if any(sheet.columns):
        table.add_row(*(Text(name, style="dim") for name in sheet.columns))
    for row in sheet.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
