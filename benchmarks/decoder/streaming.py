r"""Streaming of the embedded voice: time to first audio, and what is left to hear at the borders.

    python -m benchmarks.decoder.streaming --out benchmarks/decoder/streaming.json
    python -m benchmarks.decoder.streaming --device cpu --repeats 2 --warm-ups 0 \
        --texts "one word" --out /tmp/streaming.json

For every way of decoding and every text: the time to the first piece of audio on the host and to
the last, and the stream against the one-shot waveform of the same build: the largest difference
anywhere, and the jump from sample to sample at each border beside the one-shot's at that place.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch

from benchmarks.provenance import provenance
from tts.build import build
from tts.errors import InapplicableError
from tts.options import Options
from tts.types import Samples, Synthesizer, Utterance

TEXTS = {
    "one word": "Yes.",
    "50 characters": "The quick brown fox sleeps beside the river today.",
    "many sentences": "One two three. Four five six! Is seven next? It is. " * 5,
}
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "cpu": {
        "fp32 eager": {},
        "static cache": {"kv_cache": "static"},
        "paged cache": {"kv_cache": "paged"},
    },
    "cuda": {
        "fp32 eager": {},
        "bf16 reduce-overhead": {
            "precision": "bf16",
            "compile": "reduce-overhead",
            "kv_cache": "static",
        },
        "bf16 fused": {
            "precision": "bf16",
            "compile": "fused",
            "attention": "split_k",
            "kv_cache": "static",
        },
        "bf16 fused paged": {
            "precision": "bf16",
            "compile": "fused",
            "attention": "split_k",
            "kv_cache": "paged",
        },
    },
}


def stream(voice: Synthesizer, text: str) -> tuple[list[Samples], list[float]]:
    """Speak piece by piece; the pieces and when each was there, in seconds from the start."""
    pieces, times = [], []
    started = time.perf_counter()
    for chunk in voice.stream(Utterance(id="a", text=text, seed=3)):
        times.append(time.perf_counter() - started)
        pieces.append(chunk.samples)
    return pieces, times


def borders(pieces: list[Samples], whole: Samples) -> dict[str, float]:
    """Compare the joined pieces with the whole, everywhere and at the borders."""
    joined = np.concatenate(pieces)
    if len(joined) != len(whole):
        raise RuntimeError(f"the stream has {len(joined)} samples, the whole {len(whole)}")
    at = [b for b in np.cumsum([len(p) for p in pieces])[:-1] if 0 < b < len(whole)]
    steps = np.array([[x[b] - x[b - 1] for b in at] for x in (joined, whole)]).reshape(2, -1)
    return {
        "n_borders": len(at),
        "max_difference": float(np.abs(joined - whole).max()),
        "max_border_step": float(np.abs(steps[0]).max(initial=0.0)),
        "max_border_step_one_shot": float(np.abs(steps[1]).max(initial=0.0)),
        "max_border_step_difference": float(np.abs(steps[0] - steps[1]).max(initial=0.0)),
        "max_step_anywhere": float(np.abs(np.diff(whole)).max()),
    }


def row(voice: Synthesizer, text: str, repeats: int, warm_ups: int) -> dict[str, Any]:
    """Measure one text."""
    for _ in range(warm_ups):  # compiles, captures, and meets the vocoder's shapes
        stream(voice, text)
    whole = voice.synthesize([Utterance(id="a", text=text, seed=3)])[0].samples
    first, last = [], []
    for _ in range(repeats):
        pieces, times = stream(voice, text)
        first.append(times[0])
        last.append(times[-1])
    return {
        "audio_s": len(whole) / voice.sample_rate_hz,
        "n_pieces": len(pieces),
        "ttfa_p50_s": median(first),
        "ttfa_p95_s": quantiles(first, n=20, method="inclusive")[-1],
        "ttfa_s": first,
        "last_p50_s": median(last),
        **borders(pieces, whole),
    }


def main() -> None:
    """Measure all ways and texts; the JSON file is whole after every text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--warm-ups", type=int, default=2)
    parser.add_argument("--texts", default=",".join(TEXTS))
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for way, values in WAYS[args.device].items():
        try:
            voice = build("embedded", Options(**values), args.device).synthesizer
        except InapplicableError as error:
            found[way] = {"refused": str(error)}
            continue
        found[way] = {"options": Options(**values).to_mapping(), "texts": {}}
        for name in args.texts.split(","):
            measured = row(voice, TEXTS[name], args.repeats, args.warm_ups)
            found[way]["texts"][name] = measured
            print(way, "|", name, {k: v for k, v in measured.items() if k != "ttfa_s"}, flush=True)
            args.out.write_text(json.dumps({**provenance(), "ways": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
