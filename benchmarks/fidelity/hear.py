"""What the gate says of the cases near the screen's limits: would it have rejected them too?

    python -m benchmarks.fidelity.hear --out benchmarks/fidelity/heard.json

Each case speaks the same prompts with the same seeds as the baseline and is judged on words,
guards and length. The cases nearest to the limits come first; what is there already is not
heard again, so it can be run bit by bit.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.fidelity.damages import DAMAGES
from benchmarks.fidelity.measure import BASELINE, PROMPTS, Case
from benchmarks.provenance import provenance
from evaluation.gate import decide
from evaluation.judge import Judge
from evaluation.prompts import Prompt, load_prompts
from evaluation.scores import Clip, UtteranceScores
from evaluation.verdict import GateConfig
from tts.build import build
from tts.options import Options
from tts.types import Utterance

RATE_HZ = 16_000
# The quickstart's, whose n is about what can be heard here.
GATE = GateConfig(mos_budget_pct=5.0, wer_margin=0.05, max_bad_rate=0.05)
# DNSMOS costs twenty times as much as all of these and hears the vocoder, which is whole here. A
# FAIL without it is one with it; a PASS cannot be had, and none is claimed.
METRICS = ("guards", "wer")
CASES: tuple[Case, ...] = (
    ({}, "", 0),
    ({}, "noise", 0.3),
    ({}, "few_bits", 3),
    ({"kv_cache": "static_int8"}, "cache_scale", 1.5),
    ({}, "zero_layer", 7),
    ({}, "noise", 0.2),
    ({}, "zero_layer", 5),
    ({}, "zero_layer", 3),
    ({"kv_cache": "static"}, "stale_cache", 2),
    ({}, "end_bias", -6),
    ({}, "sharper", 0.7),
    ({}, "few_bits", 4),
)


def speak(job: tuple[Case, list[Prompt], int, Path]) -> list[Clip]:
    """Speak every prompt; in a process of its own, because damages are put into modules."""
    (options, damage, size), prompts, seed, folder = job
    voice: Any = build("embedded", Options(**{**BASELINE, **options}), "cpu").synthesizer
    if damage:
        DAMAGES[damage](voice, size)
    clips = []
    for start in range(0, len(prompts), 8):
        batch = [
            Utterance(id=p.id, text=p.text, seed=seed + start + i)
            for i, p in enumerate(prompts[start : start + 8])
        ]
        for prompt, audio in zip(prompts[start:], voice.synthesize(batch), strict=False):
            path = folder / f"{prompt.id}.wav"
            soundfile.write(path, np.asarray(audio.samples), RATE_HZ, subtype="FLOAT")
            clips.append(
                Clip(
                    utterance_id=prompt.id, wav_path=path, reference=prompt.reference,
                    n_truncated=audio.n_truncated, n_tokens=audio.n_tokens,
                )
            )  # fmt: skip
    return clips


def main() -> None:
    """Hear what is missing from the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the audio")
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--most", type=int, default=len(CASES), help="new cases in this run")
    args = parser.parse_args()
    prompts = list(load_prompts(PROMPTS, split="search", n=args.n, max_characters=80))
    known = json.loads(args.out.read_text()) if args.out.exists() else {"cases": []}
    rows: list[dict[str, Any]] = known["cases"]
    heard = {(json.dumps(r["options"]), r["damage"], r["size"]) for r in rows}
    missing = [c for c in CASES if (json.dumps(c[0]), c[1], c[2]) not in heard]
    context = multiprocessing.get_context("spawn")
    with Judge("embedded", workers=1, metrics=METRICS) as judge:
        for case in missing[: args.most]:
            args.work.mkdir(parents=True, exist_ok=True)
            with context.Pool(1) as pool:
                (clips,) = pool.map(speak, [(case, prompts, args.seed, args.work)])
            scores = judge.score(clips)
            options, damage, size = case
            found = {"options": options, "damage": damage, "size": size}
            if damage:
                baseline = [UtteranceScores.from_mapping(s) for s in rows[0]["scores"]]
                found |= {"verdict": decide(baseline, scores, GATE).to_mapping()}
                print(damage, size, found["verdict"]["summary"], flush=True)  # type: ignore[index]
            rows.append({**found, "scores": [s.to_mapping() for s in scores]})
            result = {**provenance(), "gate": asdict(GATE), "n": args.n, "cases": rows}
            args.out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
