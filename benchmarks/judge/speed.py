"""How long does it take to judge 64 utterances of 4 s by all metrics, warm?

    python -m benchmarks.judge.speed --out benchmarks/judge/speed.json

The embedded voice speaks prompts of about that length; each clip carries a pair of renderings for
PESQ (the clip itself and an 8-bit mu-law copy). The judge's children are loaded and have scored
other clips before the clock starts. Then the packages that people would call instead are timed on
a few of the clips in the same run. All of it runs on the CPU, whichever GPU is there: one core
needs 0.4 s for an utterance's words, so that a GPU would have nothing to win from 16 cores on.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.ear.damages import mu_law
from benchmarks.gate.voices import SAMPLE_RATE_HZ, speaker
from benchmarks.judge.peers import compare
from benchmarks.judge.speech import write_clip
from benchmarks.provenance import provenance
from evaluation.judge import Judge
from evaluation.prompts import load_prompts
from evaluation.scores import Clip

PROMPTS = Path("configs/prompts/english.tsv")
SHORTEST, LONGEST = 38, 66
"""Letters of prompts that take about 4 s."""

TARGETS_S = {2: 60.0, 16: 10.0}
ROUNDS = 3


def main() -> None:
    """Speak, judge, time and write one JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=64, help="utterances")
    parser.add_argument("--n-peers", type=int, default=8, help="utterances of them for the others")
    parser.add_argument("--workers", type=int, default=0, help="children; 0 is one per core")
    parser.add_argument("--note", default="", help="such as: other work on the machine")
    args = parser.parse_args()
    workers = args.workers or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        clips = speak(args.n + 2 * workers, Path(folder))
        warm_up, timed = clips[args.n :], clips[: args.n]
        mean_s = float(np.mean([soundfile.info(clip.wav_path).duration for clip in timed]))
        ours = judge_all(warm_up, timed, workers)
        chosen = timed[: args.n_peers]
        peers = compare(
            [_read(clip.wav_path) for clip in chosen],
            [_read(clip.render_path) for clip in chosen if clip.render_path],
        )
    result = {
        **provenance(), "note": args.note, "load_average": os.getloadavg()[0], "n": args.n,
        "mean_duration_s": mean_s,
        "workers": workers, "target_s": TARGETS_S.get(workers), "judge": ours, "peers": peers,
    }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"judge": ours, "peers": peers["seconds_per_clip_median"]}, indent=1))


def speak(n: int, folder: Path) -> list[Clip]:
    """Return so many clips of about 4 s, nearest first, each with a pair of renderings."""
    prompts = [p for p in load_prompts(PROMPTS) if SHORTEST <= len(p.reference) <= LONGEST]
    if n > len(prompts):
        raise SystemExit(f"{PROMPTS} holds {len(prompts)} prompts of about 4 s: ask for fewer")
    said = speaker("embedded")(prompts[:n], 1)
    clips = []
    for prompt, spoken in zip(prompts, said, strict=False):
        clip = write_clip(folder, prompt, spoken)
        render = folder / f"{prompt.id}-render.wav"
        damaged = mu_law(spoken.samples, 8, np.random.default_rng(0))
        soundfile.write(render, damaged, SAMPLE_RATE_HZ, subtype="FLOAT")
        clips.append(replace(clip, render_path=render, baseline_render_path=clip.wav_path))
    return clips


def judge_all(warm_up: Sequence[Clip], timed: Sequence[Clip], workers: int) -> dict[str, Any]:
    """Return seconds of each round and the share of each metric."""
    walls: list[float] = []
    with Judge("embedded", workers) as judge:
        began = time.perf_counter()
        judge.score(warm_up)
        cold_s = time.perf_counter() - began
        before = dict(judge.metric_seconds)
        for _ in range(ROUNDS):
            began = time.perf_counter()
            scores = judge.score(timed)
            walls.append(time.perf_counter() - began)
        spent = {name: s - before.get(name, 0.0) for name, s in judge.metric_seconds.items()}
    failures = [f"{item.utterance_id}: {item.failures}" for item in scores if item.failures]
    if failures:
        raise SystemExit(f"a metric failed, so nothing was timed: {failures[0]}")
    return {
        "wall_s": walls,
        "wall_s_median": float(np.median(walls)),
        "load_and_warm_up_s": cold_s,
        "share_of_metric_seconds": {n: s / sum(spent.values()) for n, s in spent.items()},
        "core_seconds_per_utterance": {n: s / ROUNDS / len(timed) for n, s in spent.items()},
    }


def _read(path: Path) -> Any:  # noqa: ANN401 - float32, shape (n_samples,)
    return soundfile.read(path, dtype="float32")[0]


if __name__ == "__main__":
    main()
