"""A profile as one page that needs nothing from a network: text, tables and plots."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from html import escape
from typing import TYPE_CHECKING

from search.profiling.record import Profile
from search.profiling.sheet import Sheet, headline, sheets, where

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CSS = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:64em;margin:2em auto;padding:0 1em;"
    "color:#1b1f24;background:#fff}h1{font-size:1.3em}h2{font-size:1.05em;margin-top:2em}"
    "table{border-collapse:collapse;font-size:.9em}td,th{padding:.25em .8em;"
    "border-bottom:1px solid #d8dee4;text-align:right;font-variant-numeric:tabular-nums}"
    "td:first-child,th:first-child{text-align:left;white-space:pre-wrap}"
    ".note{color:#57606a;font-size:.85em}img{max-width:100%;margin:.5em 0}"
    "li{margin:.4em 0}"
)
_COLOURS = ("#0969da", "#1a7f37", "#bf8700", "#8250df", "#cf222e", "#57606a", "#0550ae", "#953800")
_DPI = 110


def render(profile: Profile) -> str:
    """Return the page."""
    title = f"profile: {profile.title}"
    said = "".join(f"<li>{escape(text)}</li>" for text in profile.texts)
    notes = "".join(f"<p class=note>{escape(note)}</p>" for note in profile.notes)
    details = [*profile.applied.items(), *profile.observed.items()]
    passes = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in details)
    return (
        f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title><style>{_CSS}</style>"
        f"<h1>{escape(title)}</h1><p>{escape(where(profile))}</p><p>{escape(headline(profile))}</p>"
        f"<h2>Bottlenecks</h2>{_bottlenecks(profile)}"
        f"{''.join(_plots(profile))}{''.join(map(_table, sheets(profile)))}{notes}"
        f"<h2>What ran</h2><table>{passes}</table><h2>What was said</h2><ul>{said}</ul>"
    )


def _bottlenecks(profile: Profile) -> str:
    if not profile.bottlenecks:
        return "<p>unknown: the model does not tell its stages</p>"
    items = []
    for found in profile.bottlenecks:
        advice = [f"try {item}" for item in found.advice]
        lines = "".join(
            f"<br>{escape(line)}"
            for line in advice or ["nothing that was measured says what to try"]
        )
        items.append(f"<li>{escape(found.words)}{lines}</li>")
    return f"<ol>{''.join(items)}</ol>"


def _table(sheet: Sheet) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in sheet.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in sheet.rows
    )
    remark = f"<p class=note>{escape(sheet.remark)}</p>" if sheet.remark else ""
    return f"<h2>{escape(sheet.heading)}</h2><table><tr>{head}</tr>{rows}</table>{remark}"


def _plots(profile: Profile) -> Iterator[str]:
    if profile.stages:
        yield _image("where the time goes, by stage", (8.5, 1.6), lambda a: _bar(profile, a))
    if profile.value("step.roofline") is not None:
        yield _image("the decode step under the roofline", (6, 3.6), lambda a: _roof(profile, a))
    if sum(row.latency.value is not None for row in profile.batches) > 1:
        yield _image(
            "latency and throughput by batch size", (6, 3.6), lambda a: _growth(profile, a)
        )


def _image(title: str, inches: tuple[float, float], draw: Callable[[Axes], None]) -> str:
    """Draw into a PNG that lies in the page itself."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots())
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    data = base64.b64encode(png.getvalue()).decode("ascii")
    return f'<p><img alt="{escape(title)}" src="data:image/png;base64,{data}"></p>'


def _bar(profile: Profile, axes: Axes) -> None:
    """Draw the stages as one bar, in milliseconds of the mean call."""
    left, whole_ms = 0.0, 1e3 * profile.latency.mean
    for i, stage in enumerate(profile.stages):
        width = stage.share * whole_ms
        label = f"{stage.name} {stage.share:.0%}"
        axes.barh(0, width, left=left, color=_COLOURS[i % len(_COLOURS)], label=label)
        left += width
    axes.set_yticks([])
    axes.set_xlim(0, left)
    axes.set_xlabel("ms of a call")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=8, frameon=False, fontsize=8)


def _roof(profile: Profile, axes: Axes) -> None:
    """Draw both ceilings and where the step stands below them."""
    bandwidth, peak = (profile.value(f"ceiling.{n}") or 0.0 for n in ("bandwidth", "arithmetic"))
    x, y = (profile.value(f"step.{n}") or 0.0 for n in ("intensity", "arithmetic"))
    ridge = peak / bandwidth
    xs = [min(x, ridge) / 10, ridge, max(x, ridge) * 10]
    axes.plot(xs, [min(v * bandwidth, peak) / 1e9 for v in xs], color=_COLOURS[5])
    axes.plot([x], [y / 1e9], "o", color=_COLOURS[0])
    axes.annotate(
        f"decode step: {profile.value('step.roofline'):.0%}", (x, y / 1e9),
        textcoords="offset points", xytext=(8, -12), fontsize=8,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte")
    axes.set_ylabel("GFLOP/s")
    axes.grid(alpha=0.2, which="both")


def _growth(profile: Profile, axes: Axes) -> None:
    """Draw latency and throughput against the batch size."""
    rows = [row for row in profile.batches if row.latency.value is not None]
    sizes = [row.batch_size for row in rows]
    axes.plot(sizes, [1e3 * (r.latency.value or 0) for r in rows], "o-", color=_COLOURS[0])
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("sentences in a batch")
    axes.set_ylabel("latency (ms)", color=_COLOURS[0])
    other = axes.twinx()
    other.plot(sizes, [r.samples_per_s.value or 0 for r in rows], "s--", color=_COLOURS[1])
    other.set_ylim(bottom=0)
    other.set_ylabel("sentences per second", color=_COLOURS[1])
    axes.grid(alpha=0.2)
