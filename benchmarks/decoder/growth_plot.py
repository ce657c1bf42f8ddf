"""Draw how a decode step grows with batch and with context, beside the roofline.

python -m benchmarks.decoder.growth_plot -o docs/growth.png
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from benchmarks.decoder.ways import FUSED

HERE = Path(__file__).parent
COLORS = {
    FUSED.name: "#1a7f37",
    "CUDA graph, SDPA": "#0969da",
    "compile, split-K": "#bf8700",
}
STYLES = {1: ("-", "o"), 32: ("--", "s")}  # line and marker by batch
Points = list[dict[str, Any]]


def series(points: Points, way: str, axis: str) -> list[tuple[int, float, float, float]]:
    """Return a way's line: place on the axis, median and range in milliseconds, in order.

    Args:
        points: As ``growth.py`` writes them; the first one at a place counts.
        way: Its name; ``roofline`` is the floor.
        axis: ``batch`` or ``context``.
    """
    found: dict[int, tuple[float, float, float]] = {}
    for point in points:
        if way == "roofline":
            value = (point["roofline_ms"],) * 3
        else:
            ms = point["ways"].get(way, {}).get("ms")
            if ms is None:
                continue
            value = ms["p50"], ms["min"], ms["max"]
        found.setdefault(point[axis], value)
    return [(x, *found[x]) for x in sorted(found)]


def draw(
    axes: Axes, points: Points, axis: str, line: str, marker: str, name: Callable[[str], str]
) -> None:
    """Draw all ways over one axis."""
    for way, color in COLORS.items():
        rows = series(points, way, axis)
        if not rows:
            continue
        x, median, low, high = zip(*rows, strict=True)
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(
            x, median, line, color=color, marker=marker, markersize=3.5, linewidth=1.3,
            label=name(way),
        )  # fmt: skip
    rows = series(points, "roofline", axis)
    if rows:
        x, floor, _, _ = zip(*rows, strict=True)
        axes.plot(x, floor, line, color="black", linewidth=1, alpha=0.7, label=name("roofline"))


def finish(axes: Axes, title: str, label: str, ticks: list[int]) -> None:
    """Scale and name both axes."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(label)
    axes.set_ylabel("ms a decode step")
    axes.grid(alpha=0.2, which="both")
    axes.set_ylim(top=3 * axes.get_ylim()[1])  # room for the legend
    axes.legend(fontsize=7, frameon=False, loc="upper left", ncol=2)


def plot(result: dict[str, Any], output: Path) -> None:
    """Draw a result of ``growth.py``.

    Raises:
        ValueError: Our own way is nowhere in it.
    """
    points: Points = result["points"]
    if not any(FUSED.name in point["ways"] for point in points):
        raise ValueError(f"no point has the way {FUSED.name!r}: measure anew")
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.4, 4.4))
    contexts = [point["context"] for point in points]
    common = max(sorted(set(contexts)), key=contexts.count)  # that the batches were timed at
    batches = [point for point in points if point["context"] == common]
    draw(left, batches, "batch", "-", "o", str)
    ticks = sorted({point["batch"] for point in batches})
    finish(left, f"{common} positions of context", "sequences (two rows each)", ticks)
    others = [point for point in points if point["context"] != common]
    for batch in sorted({point["batch"] for point in others}):
        line, marker = STYLES.get(batch, (":", "^"))
        mine = [point for point in points if point["batch"] == batch]
        draw(right, mine, "context", line, marker, f"{{}}, batch {batch}".format)
    finish(right, "by context", "positions of context", sorted({p["context"] for p in others}))
    copy, product = (result["ceilings"][k]["best"] for k in ("bytes_per_s", "flops_per_s"))
    figure.suptitle(
        f"{result['gpu'] or result['cpu']}, T3's scale, bf16; roofline: a copy of "
        f"{copy / 1e12:.2f} TB/s and a product of {product / 1e12:.0f} TFLOP/s in the same run",
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(output, dpi=110)
    plt.close(figure)


def main() -> None:
    """Draw the committed result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--result", type=Path, default=HERE / "growth.json")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    plot(json.loads(args.result.read_text()), args.output)


if __name__ == "__main__":
    main()
