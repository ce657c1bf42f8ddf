"""A sweep's summary laid out for a terminal, for a README and for a browser."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from search.labels import Column, column, seconds, short_options, verdict_label
from search.record import ASIDE, SweepResult, TrialRecord
from search.summary import Summary, summarise

_STYLES = {"baseline": "dim", "winner": "bold green", "unconfirmed": "yellow"}


class TerminalReport:
    """The report for a terminal: the table stands upright where it is too wide to lie.

    Args:
        summary: What to show.
    """

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, the sentences and the notes."""
        table = self._lying()
        fits = console.measure(table, options=options.update(width=10_000)).maximum
        yield table if fits <= options.max_width else self._standing()
        yield from (Text(sentence) for sentence in self._summary.sentences)
        if self._summary.phases:
            yield Text(f"Wall time by phase: {_phases(self._summary)}.", style="dim")
        yield from (Text(note, style="dim") for note in self._summary.notes)

    def _table(self) -> Table:
        return Table(title=self._summary.title, title_justify="left", header_style="bold")

    def _lying(self) -> Table:
        table = self._table()
        for name in self._summary.columns:
            is_text = name in ("", "configuration", "verdict")
            table.add_column(name, justify="left" if is_text else "right")
        for row in self._summary.rows:
            table.add_row(*(Text(cell) for cell in row), style=_STYLES.get(row[0], ""))
        return table

    def _standing(self) -> Table:
        table = self._table()
        table.add_column("")
        for row in self._summary.rows:
            table.add_column(row[0], style=_STYLES.get(row[0], ""), overflow="fold")
        for i, name in enumerate(self._summary.columns[1:], start=1):
            table.add_row(name, *(Text(row[i]) for row in self._summary.rows))
        return table


def _phases(summary: Summary) -> str:
    return ", ".join(f"{name} {seconds(spent)}" for name, spent in summary.phases)


def render_markdown(result: SweepResult) -> str:
    """Return the whole report as Markdown, for a README or a run's description."""
    summary = summarise(result)
    lines = [f"### {summary.title}", "", _md_row(summary.columns)]
    lines.append(_md_row(["---"] * len(summary.columns)))
    lines += [_md_row(row) for row in summary.rows]
    lines += ["", *(sentence + "\n" for sentence in summary.sentences)]
    turned_down = [*summary.rejections, *((f"stopped: {r}", n) for r, n in summary.surpassed)]
    if turned_down:
        lines += ["| not accepted | trials |", "| --- | --- |"]
        lines += [_md_row((reason, str(n))) for reason, n in turned_down] + [""]
    if summary.phases:
        lines += ["| phase | wall time |", "| --- | --- |"]
        lines += [_md_row((name, seconds(s))) for name, s in summary.phases] + [""]
    return "\n".join([*lines, *(f"_{note}_" for note in summary.notes)]).rstrip() + "\n"


def _md_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def render_html(result: SweepResult, clips: Mapping[str, bytes] | None = None) -> str:
    """Return the report as one page that needs nothing from a network.

    Args:
        result: The sweep's end.
        clips: Wav files by title, put into the page so that they can be heard.
    """
    summary = summarise(result)
    head = "".join(f"<th>{escape(name)}</th>" for name in summary.columns)
    rows = "".join(
        f'<tr class="{row[0]}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in summary.rows
    )
    players = "".join(_player(title, wav) for title, wav in (clips or {}).items())
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in summary.sentences)
    notes = "".join(f"<p class=note>{escape(note)}</p>" for note in summary.notes)
    return (
        f"<!doctype html><meta charset=utf-8><title>{escape(summary.title)}</title>"
        f"<style>{_CSS}</style><h1>{escape(summary.title)}</h1>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{said}"
        f"{_scatter(result)}{players}"
        f"<p class=note>Wall time by phase: {escape(_phases(summary))}.</p>{notes}"
    )


_CSS = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    "h1{font-size:1.3em}table{border-collapse:collapse;font-size:.9em}"
    "td,th{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:left}"
    ".winner{font-weight:600;background:#e6f4ea}.note{color:#666;font-size:.85em}"
    "svg{max-width:100%}figure{display:inline-block;margin:0 2em 1em 0}"
)


def _player(title: str, wav: bytes) -> str:
    data = base64.b64encode(wav).decode("ascii")
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<audio controls src="data:audio/wav;base64,{data}"></audio></figure>'
    )


_WIDTH, _HEIGHT, _MARGIN = 720, 360, 56
_COLOURS = {
    "PASS": "#188038", "FAIL": "#d93025", "UNDECIDED": "#f9ab00", "UNGATED": "#9334e6",
    "UNARMED": "#9334e6", "baseline": "#1a73e8",
}  # fmt: skip


def _scatter(result: SweepResult) -> str:
    """Draw speed against quality, one dot per trial that ran, or nothing where there is none."""
    across, up = column(result.objectives[0]), column("dnsmos_p808")
    dots = [
        r
        for r in result.records
        if r.role not in ASIDE and across.metric in r.metrics and up.metric in r.metrics
    ]
    if not dots:
        return ""
    xs, ys = ([r.metrics[c.metric] for r in dots] for c in (across, up))
    marks = "".join(_dot(r, across, up, _place(r, across, up, xs, ys)) for r in dots)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        f'aria-label="{escape(up.title)} against {escape(across.title)}">'
        f'<rect x="{_MARGIN}" y="10" width="{_WIDTH - _MARGIN - 10}" '
        f'height="{_HEIGHT - _MARGIN - 10}" fill="none" stroke="#ccc"/>'
        f"{_axis_labels(across, up, xs, ys)}{marks}</svg>"
    )


def _place(
    record: TrialRecord, across: Column, up: Column, xs: list[float], ys: list[float]
) -> tuple[float, float]:
    x = _share(record.metrics[across.metric], xs)
    y = _share(record.metrics[up.metric], ys)
    width, height = _WIDTH - _MARGIN - 50, _HEIGHT - _MARGIN - 50
    return _MARGIN + 20 + x * width, 30 + (1 - y) * height


def _share(value: float, values: list[float]) -> float:
    low, high = min(values), max(values)
    return 0.5 if high == low else (value - low) / (high - low)


def _dot(record: TrialRecord, across: Column, up: Column, place: tuple[float, float]) -> str:
    label = "baseline" if record.role == "baseline" else verdict_label(record)
    told = (
        f"{record.number} {short_options(record.options)}: {label}, "
        f"{across.write(record.metrics[across.metric])}, {up.write(record.metrics[up.metric])}"
    )
    colour = _COLOURS.get(label, "#80868b")
    return (
        f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="6" fill="{colour}" '
        f'fill-opacity=".8"><title>{escape(told)}</title></circle>'
    )


def _axis_labels(across: Column, up: Column, xs: list[float], ys: list[float]) -> str:
    floor = _HEIGHT - _MARGIN + 18
    texts = [
        (_MARGIN + 20, floor, "start", across.write(min(xs))),
        (_WIDTH - 30, floor, "end", across.write(max(xs))),
        (_WIDTH / 2, floor + 18, "middle", across.title),
        (_MARGIN - 6, 34, "end", up.write(max(ys))),
        (_MARGIN - 6, _HEIGHT - _MARGIN - 16, "end", up.write(min(ys))),
        (_MARGIN - 6, _HEIGHT / 2, "end", up.title),
    ]
    return "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="12" fill="#444">'
        f"{escape(text)}</text>"
        for x, y, anchor, text in texts
    )
