"""How many words the codec alone costs: the teacher through a run's codec and back.

    python -m benchmarks.voice.resynthesis --codec RUN/codec.pt --out RUN/resynthesis.json

Needs a training run's own file, because the tokenizer does not ship.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from pathlib import Path

import torch

from benchmarks.provenance import provenance
from benchmarks.voice.measure import PROMPTS, judge, speak_teacher, summary
from evaluation.prompts import load_prompts
from training.codec import load_resynthesiser


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    prompts = load_prompts(PROMPTS)
    resynthesise = load_resynthesiser(args.codec, torch.device("cpu"))
    jobs = [
        (prompt.id, prompt.reference, resynthesise(torch.from_numpy(sound)[None])[0].numpy())
        for prompt, sound in zip(prompts, speak_teacher(list(prompts)), strict=True)
    ]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        rows = pool.map(judge, jobs, chunksize=4)
    result = {**provenance(), "prompts": str(PROMPTS), "resynthesis": summary(rows)}
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["resynthesis"], indent=1))


if __name__ == "__main__":
    main()
