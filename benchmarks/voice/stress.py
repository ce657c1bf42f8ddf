"""Texts that small voices stumble over, spoken by the embedded voice, heard by the embedded ear.

python -m benchmarks.voice.stress --out benchmarks/voice/stress.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jiwer

from benchmarks.provenance import provenance
from benchmarks.voice.measure import speak_voice
from evaluation.asr import load
from evaluation.prompts import load_prompts

PROMPTS = Path("configs/prompts/stress.tsv")


def main() -> None:
    """Speak, hear and write what differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    ear, prompts = load("embedded"), list(load_prompts(PROMPTS))
    rows: list[dict[str, Any]] = []
    for prompt, audio in zip(prompts, speak_voice(prompts, {}, args.seed), strict=True):
        heard = ear.transcribe(audio.samples)
        words = jiwer.process_words(prompt.reference, heard or "-")
        errors = words.substitutions + words.deletions + words.insertions
        rows.append({
            "id": prompt.id, "reference": prompt.reference, "heard": heard, "errors": errors,
            "words": len(prompt.reference.split()), "duration_s": audio.duration_s,
            "n_truncated": audio.n_truncated,
        })  # fmt: skip
    result = {
        **provenance(),
        "errors": sum(r["errors"] for r in rows),
        "words": sum(r["words"] for r in rows),
        "n_truncated": sum(r["n_truncated"] for r in rows),
        "texts": rows,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print({k: result[k] for k in ("errors", "words", "n_truncated")})


if __name__ == "__main__":
    main()
