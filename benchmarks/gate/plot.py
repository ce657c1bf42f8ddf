"""Draw how often the gate accepts a candidate of a known true loss, beside the old practice.

python -m benchmarks.gate.plot --operating benchmarks/gate/operating.json -o docs/gate.png
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

BUDGET_PCT = 5.0
COLORS = ("#4477aa", "#228833", "#aa3377", "#ccbb44")
NAMES = {
    "embedded": "embedded voice",
    "flite_rms": "flite rms",
    "flite_slt": "flite slt",
    "espeak_en_us": "espeak-ng en-us",
}


def draw_gate(axes: Axes, result: dict[str, Any]) -> None:
    """Draw acceptance against true loss, a line and its 95 % interval per voice."""
    for voice, color in zip(result["voices"], COLORS, strict=False):
        rows = _rows(result, voice["voice"])
        x = [row["loss_pct"] for row in rows]
        low, high = ([100 * row[f"accepted_{side}"] for row in rows] for side in ("low", "high"))
        sigma = max(voice["sigma_pct"].values())
        label = f"{NAMES[voice['voice']]} (n = {voice['n_full']}, sigma {sigma:.1f} %)"
        accepted = [100 * row["accepted"] for row in rows]
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(x, accepted, color=color, marker="o", markersize=3.5, label=label)
    axes.plot([BUDGET_PCT, 10.3], [5, 5], color="#cf222e", linewidth=1, linestyle=":")
    axes.annotate("promise: at most 5 %", (7.1, 7), fontsize=8, color="#cf222e")
    axes.set_title("the gate, all metrics, at most n utterances", fontsize=10)
    axes.legend(fontsize=8, frameon=False, loc="upper right")


def draw_old(axes: Axes, result: dict[str, Any]) -> None:
    """Draw what a point estimate on five prompts accepts."""
    for voice, color in zip(result["voices"], COLORS, strict=False):
        old = voice["point_estimate_on_five"]
        x = [row["loss_pct"] for row in old]
        axes.plot(x, [100 * row["both"] for row in old], color=color, marker="o", markersize=3.5)
        alone = [100 * row["ovrl_alone"] for row in old]
        axes.plot(x, alone, color=color, linewidth=1, linestyle="--")
    axes.plot([], [], color="#555555", marker="o", markersize=3.5, label="OVRL and P808")
    axes.plot([], [], color="#555555", linewidth=1, linestyle="--", label="OVRL alone")
    axes.set_title("a mean of five prompts, no bound", fontsize=10)
    axes.legend(fontsize=8, frameon=False, loc="center right")


def _rows(result: dict[str, Any], voice: str) -> list[dict[str, Any]]:
    rows = [r for r in result["points"] if r["voice"] == voice and r["loss_pct"] is not None]
    return sorted(rows, key=lambda row: row["loss_pct"])


def main() -> None:
    """Draw both panels into one picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--operating", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    result = json.loads(args.operating.read_text())
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    draw_gate(left, result)
    draw_old(right, result)
    for axes in (left, right):
        axes.axvline(BUDGET_PCT, color="#cf222e", linewidth=1, linestyle="--")
        axes.set_xlabel("true loss of the worse DNSMOS score (% of the baseline's mean)")
        axes.set_xlim(-0.3, 10.3)
        axes.set_ylim(-2, 102)
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("accepted (% of judgements, 95 % interval)")
    prompts = "/".join(str(n) for n in sorted({v["n_prompts"] for v in result["voices"]}))
    drawn = sorted({row["n_draws"] for row in result["points"] if row["loss_pct"] is not None})
    figure.text(
        0.01, 0.01,
        f"Real speech, low-pass and mu-law mixed in; {prompts} prompts a voice, drawn with "
        f"replacement, {drawn[0]} to {drawn[-1]} judgements a point; dashed red: the 5 % budget",
        fontsize=7.5, color="#555555",
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(args.output, dpi=120)


if __name__ == "__main__":
    main()
