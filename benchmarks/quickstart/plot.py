"""Draw the committed sweeps: how fast each trial was, and what the gate could show of it.

python -m benchmarks.quickstart.plot -o docs/quickstart.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from search.record import ASIDE

HERE = Path(__file__).parent
BUDGET_PCT = -5.0
STYLES = {
    "PASS": ("#1a7f37", "o", "accepted"),
    "FAIL": ("#cf222e", "x", "rejected (MOS, words or guards)"),
    "UNDECIDED": ("#bf8700", "x", "undecided: never ships"),
    "surpassed": ("#8c959f", ".", "stopped: cannot win"),
    "not heard": ("#8c959f", "|", "not heard: cannot win"),
}


def worst(trial: dict[str, Any]) -> tuple[float, float]:
    """Return the change and its lower bound of the MOS that did worse, in percent."""
    bounds = [b for b in trial["bounds"] if b["metric"].startswith("dnsmos")]
    found = min(bounds, key=lambda b: b["lower_pct"])
    return found["delta_pct"], found["lower_pct"]


def draw(axes: Axes, result: dict[str, Any]) -> None:
    """Draw one machine."""
    seen = set()
    for trial in result["trials"]:
        if trial["role"] in ASIDE or "latency_p50_s" not in trial["metrics"]:
            continue
        latency_ms = 1e3 * trial["metrics"]["latency_p50_s"]
        if trial["role"] == "baseline":
            axes.plot(latency_ms, 0, "*", color="black", markersize=13, label="baseline")
            continue
        status, is_judged = trial["label"], bool(trial["bounds"])
        if status == "surpassed" and not is_judged:
            status = "not heard"
        if status not in STYLES or not (is_judged or status == "not heard"):
            continue
        color, marker, name = STYLES[status]
        label = None if status in seen else name
        seen.add(status)
        if not is_judged:  # its speed is all there is of it: a mark at the lower edge
            rug = axes.get_xaxis_transform()
            axes.plot(latency_ms, 0.02, marker, color=color, label=label, transform=rug)
            continue
        delta, lower = worst(trial)
        axes.plot([latency_ms] * 2, [lower, delta], color=color, linewidth=1, alpha=0.6)
        axes.plot(latency_ms, delta, marker, color=color, label=label)
    axes.axhline(BUDGET_PCT, color="#cf222e", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(ScalarFormatter())
    low, high = axes.get_xlim()
    if high > 10 * low:  # or the labels would run into one another
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="both", labelsize=7)
    axes.set_xlabel("latency p50 of one sentence (ms)")
    name = result["environment"]["device_name"]
    axes.set_title(f"{name}: {result['n_trials']} trials in {result['sweep_s'] / 60:.1f} min")
    axes.grid(alpha=0.2, which="both")


def main() -> None:
    """Draw every committed result side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    paths = [p for p in (HERE / "cpu.json", HERE / "h200.json") if p.exists()]
    results = [json.loads(path.read_text()) for path in paths]
    figure, row = plt.subplots(1, len(results), figsize=(6.2 * len(results), 4.2), squeeze=False)
    for axes, result in zip(row[0], results, strict=True):
        draw(axes, result)
    row[0][0].set_ylabel("change of the worse DNSMOS, to its\n95 % lower bound (% of baseline)")
    legend = {
        label: handle
        for axes in reversed(row[0])
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        legend.values(), legend.keys(), loc="lower center", ncol=6, frameon=False, fontsize=8
    )
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(args.output, dpi=110)


if __name__ == "__main__":
    main()
