"""How a decode step at T3's scale grows with batch and context, beside what the device allows.

    python -m benchmarks.decoder.growth --out benchmarks/decoder/growth.json --seconds 75
    TRITON_INTERPRET=1 python -m benchmarks.decoder.growth --device cpu --tiny --out /tmp/g.json

Random weights and cache contents, two rows a sequence (guidance), greedy tokens: as ``steps.py``.
As the generator does, the cache has slots in multiples of 1,024. Ways take turns at each point; the
steps timed lie around the stated context. The roofline is the larger of two times: bytes that a
step cannot but read over the bandwidth of a copy, operations over the rate of a matrix product,
both measured in the same run. Compiled steps, one compilation a shape, come last and at few points.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.decoder.timing import (
    Report,
    Sample,
    attempt,
    column,
    free,
    interleave,
    milliseconds,
    ratios,
    summary,
    synchronise,
)
from benchmarks.decoder.ways import (
    FUSED,
    N_SPEECH,
    T3,
    TINY,
    Step,
    Way,
    model,
    random_cache,
    read_bytes,
)
from benchmarks.provenance import command_line
from evaluation.roofline import Roofline, measure_copy, measure_product
from tts.costs import decoder_flops, linear_parameters
from tts.decoder import Decoder, DecoderConfig
from tts.kv_cache import StaticCache

GRAPH = Way(name="CUDA graph, SDPA", kind="graph")
COMPILED = Way(name="compile, split-K", kind="compile+split_k")
CONTEXT, CAPACITY = 300, 1024
# (batch, context), the most wanted first: the time may not suffice for all.
BATCHES = tuple((batch, CONTEXT) for batch in (1, 32, 128, 4, 16, 64, 256))
CONTEXTS = tuple((batch, n) for n in (4096, 1024, 64, 256) for batch in (1, 32))
COMPILED_AT = ((1, CONTEXT), (32, CONTEXT))
TINY_POINTS = ((1, 8), (2, 8), (1, 16))
TINY_CAPACITY = 32
N_STEPS = 16  # timed at once
COMPILE_S = 20.0  # what must be left to begin compiling


class Bench:
    """One run of the benchmark."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.config = TINY if args.tiny else T3
        self.n_speech = 256 if args.tiny else N_SPEECH
        self.dtype = torch.float32 if args.tiny else torch.bfloat16
        self.n_steps = 2 if args.tiny else N_STEPS
        self.capacity = TINY_CAPACITY if args.tiny else CAPACITY
        self.points: list[dict[str, Any]] = []
        self.report = Report(args.out, args.seconds, {
            "device": str(self.device), "config": str(self.config), "n_speech": self.n_speech,
            "dtype": str(self.dtype), "lanes_per_sequence": 2, "n_steps": self.n_steps,
            "arguments": command_line(), "ceilings": {}, "points": self.points,
        })  # fmt: skip

    @torch.inference_mode()
    def run(self) -> None:
        """Measure everything that fits into the time."""
        self.ceilings()
        self.model = model(self.config, self.n_speech, self.dtype, self.device)
        for batch, context in TINY_POINTS if self.args.tiny else (*BATCHES, *CONTEXTS):
            self.point(batch, context, (FUSED, GRAPH))
        for batch, context in TINY_POINTS[:1] if self.args.tiny else COMPILED_AT:
            if self.device.type == "cuda" and self.report.left_s() > COMPILE_S:
                self.point(batch, context, (FUSED, COMPILED))
        self.report.write()

    def ceilings(self) -> None:
        """Measure the copy and the matrix product that the points are held against."""
        wait = partial(synchronise, self.device)
        dtype = str(self.dtype).removeprefix("torch.")
        copy = measure_copy(str(self.device), synchronise=wait)
        product = measure_product(str(self.device), dtype, synchronise=wait)
        for name, ceiling in (("bytes_per_s", copy), ("flops_per_s", product)):
            found = {**summary(ceiling.rates.samples), "best": ceiling.best, "how": ceiling.how}
            self.report.found["ceilings"][name] = found
            self.report.say(f"{ceiling.best:.3g} {name}: {ceiling.how}")
        free(self.device)

    def point(self, batch: int, context: int, ways: Sequence[Way]) -> None:
        """Time some ways in turn at one batch and context."""
        if self.report.left_s() < 0:
            return
        n_slots = -(-(context + self.n_steps) // self.capacity) * self.capacity
        ceilings = self.report.found["ceilings"]
        floor = roofline(
            self.config, self.n_speech, batch, context,
            bytes_per_s=ceilings["bytes_per_s"]["best"],
            flops_per_s=ceilings["flops_per_s"]["best"],
        )  # fmt: skip
        rows: dict[str, dict[str, Any]] = {way.name: {} for way in ways}
        self.points.append({
            "batch": batch, "context": context, "n_slots": n_slots, "read_bytes": floor.n_bytes,
            "flops": floor.flops, "roofline_ms": 1e3 * floor.floor_s, "bound": floor.bound,
            "ways": rows,
        })  # fmt: skip
        self.time(batch, context, n_slots, ways, rows)
        free(self.device)  # the steps and the cache went with the call
        for name, row in rows.items():
            if "ms" in row:
                row["roofline_share"] = 1e3 * floor.floor_s / row["ms"]["p50"]
                row["tokens_per_s"] = 1e3 * batch / row["ms"]["p50"]
            self.report.say(self.line(batch, context, name, row))
        self.report.write()

    def time(
        self,
        batch: int,
        context: int,
        n_slots: int,
        ways: Sequence[Way],
        rows: dict[str, dict[str, Any]],
    ) -> None:
        """Build and time; what it makes is let go when it returns."""
        steps: dict[str, Step] = {}
        made = attempt(
            lambda: {
                "cache": random_cache(self.config, 2 * batch, n_slots, self.dtype, self.device)
            }
        )
        for way in ways:
            row = rows[way.name]
            if "error" in made:
                row["error"] = made["error"]
                continue
            began = self.report.clock()
            built = attempt(partial(self.build, way, made["cache"], batch, context))
            row["build_s"] = self.report.clock() - began
            if "error" in built:
                row["error"] = built["error"]
            else:
                steps[way.name] = built["step"]
        samples, errors = interleave(
            {name: partial(self.sample, step) for name, step in steps.items()},
            self.args.rounds + 1,
            may_begin=lambda: self.report.left_s() > -10,  # what is built may be timed
        )
        timed = {name: column(found[1:], "ms") for name, found in samples.items()}  # one to warm up
        base = timed.get(FUSED.name, [])
        for name, values in timed.items():
            if values:
                rows[name] |= {"ms": summary(values), "times_fused": ratios(values, base)}
        for name, error in errors.items():
            rows[name]["error"] = error

    def build(self, way: Way, cache: StaticCache, batch: int, context: int) -> dict[str, Any]:
        """Compile or capture one way's step."""
        return {"step": Step(self.model, way, cache, batch, context)}

    def sample(self, step: Step, turn: int) -> Sample:
        """Return milliseconds per step, around the context."""
        del turn
        step.reset(self.n_steps)
        with step.kernel_allowed():
            return {"ms": milliseconds(step.replay, self.n_steps, self.device)}

    def line(self, batch: int, context: int, name: str, row: dict[str, Any]) -> str:
        """Say one way's time at one point in a line."""
        head = f"batch {batch:4} context {context:5} {name:20}"
        if "ms" not in row:
            return f"{head} {row.get('error', 'no time was left')}"
        ms, gain = row["ms"], row["times_fused"]
        text = f"{head} {ms['p50']:8.4f} ms ({ms['min']:.4f} to {ms['max']:.4f}), n = {ms['n']}, "
        text += f"{row['roofline_share']:4.0%} of the roofline"
        return f"{text}, {gain['median']:.2f} x fused" if gain else text


def roofline(
    config: DecoderConfig,
    n_speech: int,
    batch: int,
    context: int,
    *,
    bytes_per_s: float,
    flops_per_s: float,
) -> Roofline:
    """Hold one step with guidance against two ceilings; ``seconds`` is the floor itself.

    Args:
        config: Of the decoder, in 16 bits.
        n_speech: Rows of the output head.
        batch: Sequences; each has two rows in the decoder and one in the head.
        context: Live slots of each row.
        bytes_per_s: The memory's ceiling.
        flops_per_s: The arithmetic's.
    """
    with torch.device("meta"):
        n_matrix = linear_parameters(Decoder(config))
    n_bytes = read_bytes(FUSED, config, n_speech, 2 * batch, context)
    flops = decoder_flops(config, n_matrix, 2 * batch, 1, context)
    flops += 2 * batch * n_speech * config.width
    floor_s = max(n_bytes / bytes_per_s, flops / flops_per_s)
    return Roofline(
        n_bytes=n_bytes, flops=flops, seconds=floor_s,
        bytes_per_s=bytes_per_s, flops_per_s=flops_per_s,
    )  # fmt: skip


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: small shapes, few steps")
    parser.add_argument("--seconds", type=float, default=75.0, help="begin nothing after this")
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args()


def main() -> None:
    """Measure, print and write."""
    args = arguments()
    warnings.simplefilter("ignore")
    torch.set_float32_matmul_precision("highest")
    Bench(args).run()


if __name__ == "__main__":
    main()
