r"""Streaming of the embedded voice: time to first audio, and what is left to hear at the borders.

    python -m benchmarks.decoder.streaming --out benchmarks/decoder/streaming.json
    python -m benchmarks.decoder.streaming --device cpu --repeats 2 --warm-ups 0 \
        --texts "one word" --out /tmp/streaming.json

For every way of decoding and every text: the time to the first piece of audio on the host and to
the last, and the stream against the one-shot waveform of the same build: the largest difference
anywhere, and the jump from sample to sample at each border beside the one-shot's at that place.
A text is spoken as often as ``--text-seconds`` allow. What there was no time for says so, and the
exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.decoder.timing import Report, attempt, free, summary
from benchmarks.provenance import command_line
from tts.build import build
from tts.options import Options
from tts.types import Samples, Synthesizer, Utterance

TEXTS = {
    "one word": "Yes.",
    "50 characters": "The quick brown fox sleeps beside the river today.",
    "many sentences": "One two three. Four five six! Is seven next? It is. " * 5,
}
FUSED = {"compile": "fused", "attention": "split_k"}
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "cpu": {
        "fp32 eager": {},
        "static cache": {"kv_cache": "static"},
        "paged cache": {"kv_cache": "paged"},
    },
    "cuda": {  # the most wanted first: the time may not suffice for all
        "bf16 fused": {"precision": "bf16", **FUSED, "kv_cache": "static"},
        "bf16 fused paged": {"precision": "bf16", **FUSED, "kv_cache": "paged"},
        "fp32 fused": {**FUSED, "kv_cache": "static"},
        "bf16 reduce-overhead": {
            "precision": "bf16",
            "compile": "reduce-overhead",
            "kv_cache": "static",
        },
        "fp32 eager": {},
    },
}
BUILD_S = 8.0  # what must be left to begin building a way


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


def row(
    voice: Synthesizer, text: str, repeats: int, warm_ups: int, may_repeat: Callable[[float], bool]
) -> dict[str, Any]:
    """Measure one text once, and again while ``may_repeat`` of the seconds spent so far."""
    for _ in range(warm_ups):  # compiles, captures, and meets the vocoder's shapes
        stream(voice, text)
    whole = voice.synthesize([Utterance(id="a", text=text, seed=3)])[0].samples
    first: list[float] = []
    last: list[float] = []
    for i in range(repeats):
        if i and not may_repeat(sum(last)):
            break
        pieces, times = stream(voice, text)
        first.append(times[0])
        last.append(times[-1])
    return {
        "audio_s": len(whole) / voice.sample_rate_hz,
        "n_pieces": len(pieces),
        "ttfa_s": summary(first),
        "last_s": summary(last),
        **borders(pieces, whole),
    }


class Bench:
    """One run of the benchmark."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.found = args, dict[str, dict[str, Any]]()
        self.report = Report(args.out, args.seconds, {
            "device": args.device, "arguments": command_line(), "ways": self.found,
        })  # fmt: skip

    def run(self) -> bool:
        """Measure everything that fits into the time; return whether that was all."""
        for way, values in WAYS[self.args.device].items():
            self.found[way] = {"options": Options(**values).to_mapping()}
            if self.report.left_s() < BUILD_S:
                self.found[way]["error"] = "no time was left"
                continue
            self.found[way] |= attempt(partial(self.way, way, values))
            free(torch.device(self.args.device))
        self.report.write()
        texts = [text for way in self.found.values() for text in way.get("texts", {}).values()]
        return not any("error" in found for found in (*self.found.values(), *texts))

    def way(self, way: str, values: dict[str, Any]) -> dict[str, Any]:
        """Build one way and measure all texts; the file is whole after each."""
        texts = self.found[way]["texts"] = {}
        began = self.report.clock()
        voice = build("embedded", Options(**values), self.args.device).synthesizer
        build_s = self.report.clock() - began
        for name in self.args.texts.split(","):
            texts[name] = attempt(partial(self.text, voice, TEXTS[name]))
            self.report.say(f"{way}, {name}: {line(texts[name])}")
            self.report.write()
        return {"build_s": build_s}

    def text(self, voice: Synthesizer, text: str) -> dict[str, Any]:
        """Measure one text, if there is time."""
        if self.report.left_s() < 0:
            return {"error": "no time was left"}
        return row(
            voice, text, self.args.repeats, self.args.warm_ups,
            lambda spent_s: spent_s < self.args.text_seconds and self.report.left_s() > 0,
        )  # fmt: skip


def line(found: dict[str, Any]) -> str:
    """Say what one text came to in a line."""
    if "error" in found:
        return str(found["error"])
    ttfa = found["ttfa_s"]
    return (
        f"first audio after {1e3 * ttfa['p50']:.1f} ms (p95 {1e3 * ttfa['p95']:.1f}, "
        f"n = {ttfa['n']}), all after {1e3 * found['last_s']['p50']:.0f} ms, "
        f"{found['n_pieces']} pieces, largest difference {found['max_difference']:.1e}"
    )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=50.0, help="begin nothing after this")
    parser.add_argument("--text-seconds", type=float, default=2.0, help="repeat no more after this")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--warm-ups", type=int, default=1)
    parser.add_argument("--texts", default=",".join(TEXTS))
    return parser.parse_args()


def main() -> int:
    """Measure, print and write."""
    args = arguments()
    if args.device == "cpu":
        torch.set_num_threads(1)
    return 0 if Bench(args).run() else 1


if __name__ == "__main__":
    sys.exit(main())
