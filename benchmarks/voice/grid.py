"""Which sampling parameters lose the fewest words: a grid on a GPU, heard by the embedded ear.

    python -m benchmarks.voice.grid --device cuda:0 --out benchmarks/voice/grid.json

Every setting speaks the search half of our prompts with several seeds, all of them the same for
every setting. The default is chosen here; its own figures are taken by another recogniser
(``benchmarks.voice.measure``), and on the half that was not chosen on as well.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.gate.hearing import BatchedEar
from benchmarks.provenance import provenance
from benchmarks.voice.measure import PROMPTS
from evaluation.metrics.wer import count_word_errors
from evaluation.prompts import Prompt, load_prompts
from tts.build import build
from tts.options import Options
from tts.types import Utterance

DEFAULT = {"cfg_weight": 2.0, "temperature": 0.7, "top_p": 0.9}
GRID = [
    DEFAULT,
    *(
        {"cfg_weight": w, "temperature": t, "top_p": p}
        for w, t, p in product((1.5, 2.0, 2.5, 3.0), (0.5, 0.7, 0.9), (0.8, 0.9, 1.0))
        if (w, t, p) != (2.0, 0.7, 0.9)
    ),
    *({**DEFAULT, "top_p": 1.0, "min_p": p} for p in (0.05, 0.1, 0.2)),
    {**DEFAULT, "cfg_weight": 1.0},
]
BATCH = 37


@cache
def _ear(device: str) -> BatchedEar:
    return BatchedEar(device)


def errors_of(job: tuple[dict[str, float], tuple[Prompt, ...], int, str]) -> list[tuple[int, int]]:
    """Speak with one setting and return (errors, words) of every utterance, seed by seed."""
    sampling, prompts, n_seeds, device = job
    torch.set_num_threads(1)
    options = Options.from_mapping({"batch_size": BATCH, "sampling": sampling})
    built = build("embedded", options, device)
    found = []
    for seed in range(n_seeds):
        utterances = [Utterance(id=p.id, text=p.text, seed=seed) for p in prompts]
        batches = (utterances[i : i + BATCH] for i in range(0, len(utterances), BATCH))
        clips = [a.samples for batch in batches for a in built.synthesizer.synthesize(batch)]
        heard = _ear(device).transcribe(clips)
        found += [count_word_errors(p.reference, h) for p, h in zip(prompts, heard, strict=True)]
    return found


def row(
    sampling: dict[str, float],
    found: Sequence[tuple[int, int]],
    default: Sequence[tuple[int, int]],
) -> dict[str, Any]:
    """Return a setting's WER and its paired difference from the default, in points with its SE."""
    words = sum(w for _, w in found)
    gaps = [a - b for (a, _), (b, _) in zip(found, default, strict=True)]
    mean = sum(gaps) / len(gaps)
    spread = math.sqrt(sum((g - mean) ** 2 for g in gaps) * len(gaps) / (len(gaps) - 1))
    return {
        **sampling,
        "n": len(found),
        "ear_wer": sum(e for e, _ in found) / words,
        "minus_default_points": 100 * sum(gaps) / words,
        "standard_error_points": 100 * spread / words,
    }


def main() -> None:
    """Measure the grid as far as the time goes, and write one JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--n", type=int, default=148)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--settings", type=int, default=len(GRID), help="the first so many")
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--processes", type=int, default=6)
    args = parser.parse_args()
    prompts = load_prompts(PROMPTS, split="search", n=args.n)
    deadline = time.monotonic() + args.seconds
    rows: list[dict[str, Any]] = []
    default: list[tuple[int, int]] = []
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        jobs = [(s, tuple(prompts), args.seeds, args.device) for s in GRID[: args.settings]]
        for sampling, found in zip(GRID, pool.imap(errors_of, jobs), strict=False):
            default = default or found
            rows.append(row(sampling, found, default))
            print(json.dumps(rows[-1]), flush=True)
            args.out.write_text(json.dumps({**provenance(), "settings": rows}, indent=1) + "\n")
            if time.monotonic() > deadline:
                break


if __name__ == "__main__":
    main()
