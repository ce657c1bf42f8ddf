"""Continuous against static batching on requests of mixed lengths, interleaved in one run.

    python -m benchmarks.decoder.continuous --out benchmarks/decoder/continuous.json
    python -m benchmarks.decoder.continuous --device cpu --tiny --out /tmp/continuous.json

Random weights at the scale of Chatterbox's T3 (or the embedded voice's own, ``--scale embedded``).
Lengths in tokens are log-normal; a request ends at its length (as its cap) and never before: the
end's score is minus infinity. All requests are there at the start, in a random order, and the
latency of one is the time from then to its tokens on the host. ``static_sorted`` is what a static
batcher can do that knows all texts beforehand and sorts them by their characters; a server cannot.
The file is written after every arm; where the time did not suffice for all rounds of all arms the
exit code is 1, and ratios are of the rounds that both arms had.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import exp
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

import torch
from torch import Tensor

from benchmarks.decoder.timing import Report, Sample, Samples, column, interleave
from benchmarks.provenance import command_line
from tts import attention, compilation, precision
from tts.attention import only
from tts.build import build
from tts.decoder import DecoderConfig
from tts.embedded.generation import Batch, Generator, speech_table
from tts.embedded.lm import EOS, SpeechLM
from tts.embedded.open_batch import OpenBatch
from tts.embedded.state import Row
from tts.options import Options, Sampling
from tts.scheduler import ContinuousBatcher

T3 = DecoderConfig(n_layers=30, width=1024, n_heads=16, n_kv_heads=16, ffn_width=4096)
TINY = DecoderConfig(n_layers=2, width=64, n_heads=2, n_kv_heads=2, ffn_width=128)
CHARACTERS_PER_TOKEN = 0.6
MAX_CHARACTERS, MAX_TOKENS = 140, 800

Arm = Callable[[Generator, Sequence[Row], int, float], list[float]]


def requests(n: int, *, median_tokens: float, sigma: float, seed: int) -> list[Row]:
    """Draw requests whose lengths are log-normal and whose texts are about as long."""
    draw = random.Random(seed)
    rows = []
    for i in range(n):
        length = min(MAX_TOKENS, max(8, round(median_tokens * exp(draw.gauss(0, sigma)))))
        n_characters = round(length * CHARACTERS_PER_TOKEN * exp(draw.gauss(0, 0.15)))
        characters = [draw.randint(97, 122) for _ in range(min(MAX_CHARACTERS, n_characters))]
        rows.append(Row(characters=tuple(characters), seed=i, sentence=0, cap=length))
    return rows


@torch.inference_mode()
def static(generator: Generator, rows: Sequence[Row], n_rows: int, started: float) -> list[float]:
    """Speak batch after batch; the latency of every request, in seconds."""
    latencies = []
    for i in range(0, len(rows), n_rows):
        group = rows[i : i + n_rows]
        with only(generator.options.attention):
            batch = Batch(generator, group)
            while not batch.is_finished():
                batch.advance(generator.look_every)
            spoken = batch.spoken()
        _check([(row.cap, len(s.tokens)) for row, s in zip(group, spoken, strict=True)])
        latencies += [time.perf_counter() - started] * len(group)
    return latencies


def static_sorted(
    generator: Generator, rows: Sequence[Row], n_rows: int, started: float
) -> list[float]:
    """As ``static``, with those of like text length together."""
    ordered = sorted(rows, key=lambda row: -len(row.characters))
    return static(generator, ordered, n_rows, started)


class Continuous:
    """Lets requests come and go.

    Args:
        n_rows: Requests at a time.
        min_free: See ``ContinuousBatcher``.
    """

    def __init__(self, n_rows: int, min_free: int) -> None:
        self.n_rows, self.min_free = n_rows, min_free
        self.batch: OpenBatch | None = None  # made once, as a server would

    def __call__(
        self, generator: Generator, rows: Sequence[Row], n_rows: int, started: float
    ) -> list[float]:
        """Speak all; the latency of every request, in seconds."""
        self.batch = self.batch or OpenBatch(generator, n_rows)
        latencies = []
        for finished in ContinuousBatcher(self.batch, min_free=self.min_free).run(rows):
            _check([(finished.request.cap, len(finished.unwrap().tokens))])
            latencies.append(time.perf_counter() - started)
        return latencies


def _check(lengths: Sequence[tuple[int, int]]) -> None:
    if any(expected != found for expected, found in lengths):
        raise RuntimeError("a request did not end at its length")


def timed(arm: Arm, generator: Generator, rows: Sequence[Row], n_rows: int) -> dict[str, float]:
    """Run one arm once."""
    if generator.device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    latencies = arm(generator, rows, n_rows, started)
    total_s = time.perf_counter() - started
    n_tokens = sum(row.cap for row in rows)
    cuts = quantiles(latencies, n=100, method="inclusive")
    return {
        "total_s": total_s,
        "tokens_per_s": n_tokens / total_s,
        "requests_per_s": len(rows) / total_s,
        "latency_p50_s": cuts[49],
        "latency_p95_s": cuts[94],
        "latency_mean_s": mean(latencies),
    }


def summary(runs: Samples) -> dict[str, Any]:
    """Return the medians of every arm and what continuous batching gains."""
    medians = {
        arm: {key: median(column(found, key)) for key in found[0]}
        for arm, found in runs.items()
        if found
    }
    found: dict[str, Any] = {"medians": medians}
    for arm in ("static", "static_sorted"):
        for name, key in (("throughput", "tokens_per_s"), ("p95", "latency_p95_s")):
            rounds = zip(runs["continuous"], runs[arm], strict=False)  # it may be cut in a round
            found[f"{name}_over_{arm}"] = [ours[key] / theirs[key] for ours, theirs in rounds]
    return found


def generator_of(scale: str, options: Options, device: torch.device) -> Generator:
    """Build the model; random weights need no more than this of the adapter's passes."""
    if scale == "embedded":
        voice = build("embedded", options, str(device)).synthesizer
        generator = voice.generator  # type: ignore[attr-defined]
        assert isinstance(generator, Generator)
    else:
        torch.manual_seed(0)
        with device:
            lm = SpeechLM(T3 if scale == "t3" else TINY).eval().requires_grad_(requires_grad=False)
        precision.apply([lm], options.precision, device)
        lm.decoder.attend = attention.attend_by(options.attention)
        if options.attention == "split_k":
            import tts.kernels.decode_attention  # noqa: F401 - registers the operator
        fused = None
        if options.compile == "fused":
            fused, _ = compilation.fuse(lm.decoder, options.quantization)
        compilation.apply(lm.decoder, options.compile)
        generator = Generator(lm, speech_table(lm), options, device, fused)
    whole = generator.lm.logits

    def endless(hidden: Tensor) -> Tensor:
        scores = whole(hidden)
        scores[:, EOS] = float("-inf")
        return scores

    generator.lm.logits = endless  # type: ignore[method-assign]
    return generator


def options_of(args: argparse.Namespace) -> Options:
    """Return what the command line asks for."""
    sampling = Sampling(cfg_weight=args.cfg_weight)
    if args.device == "cpu":
        return Options(kv_cache=args.kv_cache, batch_size=args.rows, sampling=sampling)
    return Options(
        precision="bf16",
        compile=args.compile,
        attention=args.attention,
        kv_cache=args.kv_cache,
        batch_size=args.rows,
        sampling=sampling,
    )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--scale", default="t3", choices=("t3", "embedded", "tiny"))
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: few short requests")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=140.0, help="begin nothing after this")
    parser.add_argument("--compile", default="fused")
    parser.add_argument("--attention", default="split_k")
    parser.add_argument("--kv-cache", default="static", choices=("static", "static_int8", "paged"))
    parser.add_argument("--cfg-weight", type=float, default=2.0)
    parser.add_argument("--median-tokens", type=float, default=120.0)
    parser.add_argument("--sigma", type=float, default=0.7)
    parser.add_argument("--min-free", type=int, default=1)
    args = parser.parse_args()
    if args.tiny:
        args.scale = "tiny" if args.scale == "t3" else args.scale
        args.rows, args.requests, args.repeats, args.median_tokens = 4, 24, 2, 12.0
    return args


class Bench:
    """One run of the benchmark."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.rows = requests(
            args.requests, median_tokens=args.median_tokens, sigma=args.sigma, seed=0
        )
        options, lengths = options_of(args), [row.cap for row in self.rows]
        self.report = Report(args.out, args.seconds, {
            "scale": args.scale, "options": options.to_mapping(), "n_rows": args.rows,
            "n_requests": len(self.rows), "min_free": args.min_free, "arguments": command_line(),
            "lengths": {
                "median": median(lengths), "mean": mean(lengths), "max": max(lengths),
                "sigma": args.sigma,
            },
        })  # fmt: skip
        self.generator = generator_of(args.scale, options, self.device)
        self.arms: dict[str, Arm] = {
            "static": static,
            "static_sorted": static_sorted,
            "continuous": Continuous(args.rows, args.min_free),
        }
        self.runs: Samples = {name: [] for name in self.arms}

    def run(self) -> bool:
        """Run all arms in turn, several times; return whether the time sufficed."""
        for arm in self.arms.values():  # compiles, captures
            timed(arm, self.generator, self.rows[: 3 * self.args.rows], self.args.rows)
        self.report.say("warmed up")
        _, errors = interleave(
            {name: partial(self.arm, name) for name in self.arms}, self.args.repeats,
            may_begin=lambda: self.report.left_s() > 0,
        )  # fmt: skip
        self.report.found["errors"] = errors
        self.report.write()
        return all(len(found) == self.args.repeats for found in self.runs.values())

    def arm(self, name: str, turn: int) -> Sample:
        """Run one arm once; the file is whole after it."""
        found = timed(self.arms[name], self.generator, self.rows, self.args.rows)
        self.runs[name].append(found)
        self.report.found |= {**summary(self.runs), "runs": self.runs}
        self.report.say(f"round {turn + 1}: {name} {json.dumps(found)}")
        self.report.write()
        return found


def main() -> int:
    """Measure, print and write."""
    args = arguments()
    if args.device == "cpu":
        torch.set_num_threads(1)
    bench = Bench(args)
    is_whole = bench.run()
    found = bench.report.found
    print(json.dumps({k: v for k, v in found.items() if k.startswith(("throughput", "p95"))}))
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
