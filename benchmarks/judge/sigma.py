"""How steady is DNSMOS from one sampling of a sentence to the next, officially and ours?

    python -m benchmarks.judge.sigma --out benchmarks/judge/sigma.json

Each voice speaks the same prompts with two seeds (the small prosody jitter of
``benchmarks.gate.voices`` where a voice has none). Paired sigma is the standard deviation of the
differences in percent of the mean: what decides how many utterances the gate needs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gate.voices import VOICES, Float, speaker
from benchmarks.provenance import provenance
from evaluation.metrics.base import MetricSettings
from evaluation.metrics.dnsmos import Dnsmos
from evaluation.prompts import load_prompts
from evaluation.statistics import required_n

PROMPTS = Path("configs/prompts/english.tsv")
SEEDS = (1, 2)
SCALES = ("ovrl", "p808")
LOSS_PCT = 2.0

Row = dict[str, float]


def main() -> None:
    """Speak, score both ways and write one JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=60, help="prompts")
    parser.add_argument("--voices", nargs="+", default=list(VOICES), choices=VOICES)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    prompts = load_prompts(PROMPTS, n=args.n)
    voices: dict[str, Any] = {}
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for voice in args.voices:
            speak = speaker(voice)
            first, second = ([s.samples for s in speak(prompts, seed)] for seed in SEEDS)
            rows = pool.map(both, [*first, *second], chunksize=4)
            voices[voice] = compared(rows[: len(first)], rows[len(first) :])
            print(voice, json.dumps(voices[voice]))
    result = {**provenance(), "prompts": str(PROMPTS), "n": args.n, "seeds": SEEDS,
              "method": dnsmos().provenance()["dnsmos.method"], "voices": voices}  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")


@cache
def dnsmos() -> Dnsmos:
    """Return this process's networks."""
    return Dnsmos(MetricSettings(asr="embedded"))


def both(samples: Float) -> Row:
    """Score one clip officially and robustly."""
    sound = np.clip(samples, -1, 1)
    official, robust = dnsmos().official(sound), dnsmos().score(sound)
    return {
        **{f"official_{name}": official[name] for name in SCALES},
        **{f"robust_{name}": robust[name] for name in SCALES},
    }


def compared(first: Sequence[Row], second: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return mean, paired sigma and the utterances needed, of each score."""
    return {name: paired([r[name] for r in first], [r[name] for r in second]) for name in first[0]}


def paired(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    """Return the mean, sigma in percent of it, and n for 80 % power at a true loss of 2 %."""
    mean = float(np.mean(first))
    sigma = float(100 * np.std(np.subtract(second, first), ddof=1) / mean)
    return {
        "mean": mean, "sigma_pct": sigma, "shift_pct": 100 * (float(np.mean(second)) / mean - 1),
        "n_for_80_pct_power_at_2_pct_loss": float(required_n(sigma, LOSS_PCT)),
    }  # fmt: skip


if __name__ == "__main__":
    main()
