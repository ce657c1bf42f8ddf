"""What real configurations and broken ones look like at the token level.

    python -m benchmarks.fidelity.measure --out benchmarks/fidelity/cpu.json

The baseline (fp32, CPU) speaks; every other configuration is fed its tokens and compared. Each
runs in a process of its own, because some damages are put into modules. What is in the file
already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fidelity.damages import DAMAGES
from benchmarks.provenance import provenance
from evaluation.drift import Sketch, compare, sketch
from evaluation.fidelity import summarise
from evaluation.prompts import load_prompts
from search.fidelity import FIDELITY, choose, keep
from search.fidelity import measure as screen_trial
from search.runner import N_RENDER
from tts.build import build
from tts.options import Options
from tts.types import GivenSentence, Utterance

PROMPTS = Path(__file__).parents[2] / "configs" / "prompts" / "english.tsv"
BASELINE: dict[str, Any] = {"batch_size": 8}
INT8 = {"precision": "bf16", "quantization": "int8_weight_only"}
# (options on top of the baseline's, damage, its size)
Case = tuple[dict[str, Any], str, float]
REAL: tuple[Case, ...] = (
    ({}, "", 0),
    ({"kv_cache": "none"}, "", 0),
    ({"kv_cache": "static"}, "", 0),
    ({"attention": "flash"}, "", 0),
    ({"kv_cache": "static", "compile": "default"}, "", 0),
    ({"precision": "fp16"}, "", 0),
    ({"precision": "bf16"}, "", 0),
    ({"kv_cache": "static_int8"}, "", 0),
    ({"quantization": "int8_weight_only"}, "", 0),
    ({"quantization": "int8_dynamic"}, "", 0),
    (INT8, "", 0),
    ({"precision": "bf16", "quantization": "int8_dynamic", "kv_cache": "static_int8"}, "", 0),
    ({}, "few_bits", 8),
    ({}, "few_bits", 6),
    ({}, "few_bits", 5),
    ({}, "few_bits", 4),
)
BROKEN: tuple[Case, ...] = (
    ({}, "few_bits", 3),
    ({}, "few_bits", 2),
    *(({}, "noise", share) for share in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)),
    *(({}, "zero_layer", layer) for layer in (0, 3, 5, 7)),
    *(({}, "shifted_positions", by) for by in (1, 2, 8)),
    *(({"kv_cache": "static_int8"}, "cache_scale", f) for f in (0.5, 0.9, 1.1, 1.5, 2.0, 4.0)),
    *(({"kv_cache": "static"}, "stale_cache", n) for n in (2, 8)),
    *(({}, "end_bias", nats) for nats in (-6, -2, -1, 1, 2, 4)),
    *(({}, "sharper", f) for f in (0.7, 0.9, 1.1, 1.4)),
    ({}, "deaf", 0),
)
COSTS: tuple[dict[str, Any], ...] = (
    {},
    {"kv_cache": "static"},
    {"kv_cache": "static_int8", "precision": "bf16", "quantization": "int8_weight_only"},
    {"batch_size": 8},
)


def speak(n: int, seed: int, max_characters: int) -> list[GivenSentence]:
    """Have the baseline speak and return its sentences."""
    prompts = load_prompts(PROMPTS, split="search", n=n, max_characters=max_characters)
    utterances = [Utterance(id=p.id, text=p.text, seed=seed + i) for i, p in enumerate(prompts)]
    voice = build("embedded", Options(**BASELINE), "cpu").synthesizer
    found = []
    for start in range(0, n, 8):
        batch = utterances[start : start + 8]
        for utterance, audio in zip(batch, voice.synthesize(batch), strict=True):
            found += [
                GivenSentence(utterance=utterance, sentence=i, tokens=tokens)
                for i, tokens in enumerate(audio.tokens)
            ]
    return sorted(found, key=lambda s: len(s.tokens))


def sketches(given: list[GivenSentence]) -> tuple[list[Sketch], list[Any]]:
    """Return the baseline's distributions, small and whole."""
    voice: Any = build("embedded", Options(**BASELINE), "cpu").synthesizer
    whole = list(voice.log_probabilities(given))
    names = [f"{s.utterance.id}/{s.sentence}" for s in given]
    small = [
        sketch(name, found, s.tokens, voice.end_token)
        for name, found, s in zip(names, whole, given, strict=True)
    ]
    return small, whole


def row(job: tuple[Case, list[GivenSentence], list[Sketch], list[Any]]) -> dict[str, Any]:
    """Measure one case."""
    (options, damage, size), given, small, whole = job
    voice: Any = build("embedded", Options(**{**BASELINE, **options}), "cpu").synthesizer
    if damage:
        DAMAGES[damage](voice, size)
    started = time.perf_counter()
    drifts, exact = [], []
    for known, theirs, ours in zip(small, whole, voice.log_probabilities(given), strict=True):
        drifts.append(compare(known, ours))
        is_possible = np.isfinite(theirs)
        terms = np.exp(theirs, where=is_possible, out=np.zeros_like(theirs)) * (theirs - ours)
        exact.append(terms.sum(axis=1, where=is_possible, dtype=np.float64))
    seconds = time.perf_counter() - started
    n, parts = len(drifts), np.random.default_rng(0)
    resampled = [
        summarise([drifts[i] for i in parts.choice(n, min(n, 4), replace=False)]).kl_mean
        for _ in range(200)
    ]
    return {
        "options": options, "damage": damage, "size": size, **summarise(drifts).to_mapping(),
        "kl_mean_exact": float(np.concatenate(exact).mean()), "seconds": seconds,
        "kl_mean_of_4_sentences": [float(q) for q in np.percentile(resampled, (1, 50, 99))],
    }  # fmt: skip


def cost(options: dict[str, Any]) -> dict[str, Any]:
    """Measure what the screen of a trial costs, in seconds of one core.

    The sentences are chosen as in a sweep. Processor time rather than time on the wall: this
    machine had other work.
    """
    prompts = load_prompts(PROMPTS, split="search", n=N_RENDER, max_characters=120)
    utterances = [Utterance(id=p.id, text=p.text, seed=i) for i, p in enumerate(prompts)]
    baseline: Any = build("embedded", Options(), "cpu").synthesizer
    tokens = {u.id: baseline.synthesize([u])[0].tokens for u in utterances}
    given = choose(utterances, tokens)
    voice: Any = build("embedded", Options(**options), "cpu").synthesizer
    voice.synthesize(utterances[:1])
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / FIDELITY
        started = time.process_time()
        keep(baseline, given, path)
        kept = time.process_time()
        stats = screen_trial(voice, path, utterances)
        return {
            "options": options, "n_sentences": stats.n_sentences,
            "n_positions": stats.n_positions, "file_bytes": path.stat().st_size,
            "kl_mean": stats.kl_mean, "baseline_cpu_s": kept - started,
            "candidate_cpu_s": time.process_time() - kept,
        }  # fmt: skip


def main() -> None:
    """Measure every case and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--max-characters", type=int, default=45)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    known = json.loads(args.out.read_text()) if args.out.exists() else {"cases": []}
    rows: list[dict[str, Any]] = known["cases"]
    missing = [case for case in (*REAL, *BROKEN) if not is_among(case, rows)]
    given = speak(args.n, args.seed, args.max_characters)
    small, whole = sketches(given)
    settings = {"n_utterances": args.n, "seed": args.seed, "max_characters": args.max_characters}
    context = multiprocessing.get_context("fork")
    with context.Pool(args.processes, maxtasksperchild=1) as pool:
        for found in pool.imap(row, ((case, given, small, whole) for case in missing)):
            print(json.dumps(found), flush=True)
            rows.append(found)
            write(args.out, {**provenance(), **settings, "cases": rows})
    with context.Pool(1, maxtasksperchild=1) as pool:
        costs = pool.map(cost, COSTS, chunksize=1)
    write(args.out, {**provenance(), **settings, "cases": rows, "costs": costs})


def is_among(case: Case, rows: list[dict[str, Any]]) -> bool:
    """Whether a case was measured already."""
    options, damage, size = case
    wanted = {"options": options, "damage": damage, "size": size}
    return any(wanted == {key: r[key] for key in wanted} for r in rows)


def write(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
