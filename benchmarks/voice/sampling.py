"""What sampling parameters and guidance do to the embedded voice: one row per setting.

    python -m benchmarks.voice.sampling --out benchmarks/voice/sampling.json

Same sentences (the search half of our prompts) and seeds for all settings. The default was chosen
from this table, so the voice's own figures are taken on the other half as well.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from pathlib import Path
from typing import Any

from benchmarks.provenance import provenance
from benchmarks.voice.measure import PROMPTS, judge, speak_voice, summary
from evaluation.prompts import load_prompts

SETTINGS: tuple[dict[str, float], ...] = (
    {"cfg_weight": 2.0, "temperature": 0.7},
    {"cfg_weight": 2.0, "temperature": 0.5},
    {"cfg_weight": 2.0, "temperature": 0.3},
    {"cfg_weight": 3.0, "temperature": 0.5},
    {"cfg_weight": 1.0, "temperature": 0.7},
    {"cfg_weight": 1.0, "temperature": 1.2},
)


def row(job: tuple[dict[str, float], int, int]) -> dict[str, Any]:
    """Speak and judge one setting."""
    sampling, n, seed = job
    prompts = list(load_prompts(PROMPTS, split="search", n=n))
    audio = list(speak_voice(prompts, {"batch_size": 8, "sampling": sampling}, seed))
    rows = [judge((p.id, p.reference, a.samples)) for p, a in zip(prompts, audio, strict=True)]
    return {
        **sampling,
        **summary(rows),
        "mean_duration_s": sum(a.duration_s for a in audio) / len(audio),
        "n_truncated": sum(a.n_truncated for a in audio),
    }


def main() -> None:
    """Measure every setting and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    rows = []
    with context.Pool(args.processes) as pool:
        for found in pool.imap(row, [(s, args.n, args.seed) for s in SETTINGS]):
            print(json.dumps(found), flush=True)
            rows.append(found)
    args.out.write_text(json.dumps({**provenance(), "settings": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
