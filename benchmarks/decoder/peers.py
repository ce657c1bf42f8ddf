r"""Our decode step beside transformers' `generate` at T3's scale, interleaved in one process.

    python -m benchmarks.decoder.peers --out benchmarks/decoder/peers.json --seconds 150
    TRITON_INTERPRET=1 python -m benchmarks.decoder.peers --device cpu --tiny --out /tmp/peers.json

Random weights, 300 tokens of context, 1,024 slots, greedy tokens, one sequence with guidance:

- ours: ``steps.py``'s, two lanes and the guided score of one; GPU time of replayed steps;
- ``generate``: two independent rows in one batch, which is guidance's work without its sum, the
  most favourable to it; once more with its own ``guidance_scale``, which runs the model twice. It
  compiles its forward itself over a static cache (torch.compile, reduce-overhead). Time on the
  host's clock, a call of more tokens less one of fewer: context and start cancel out. It has no
  end token to look for.

Steps of ours lie around the middle of what ``generate`` speaks. The roofline is the time of the
bytes that a step of two lanes cannot but read, at the rate of a copy measured in the same run.
The exit code is 1 where a way was not measured, such as without transformers; the file says why.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.decoder.generate import PEERS, Peer, Speaker, llama
from benchmarks.decoder.growth import roofline
from benchmarks.decoder.timing import (
    Report,
    Sample,
    Samples,
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
    FEW_ROWS,
    FUSED,
    N_SPEECH,
    T3,
    TINY,
    Model,
    Step,
    Way,
    model,
    random_cache,
)
from benchmarks.provenance import command_line
from evaluation.roofline import measure_copy, measure_product
from tts import compilation
from tts.kv_cache import StaticCache

CONTEXT, SLOTS, N_STEPS = 300, 1024, 64
TINY_CONTEXT, TINY_SLOTS, TINY_STEPS = 6, 32, 2
OURS = "eager;compile;fused"
COMPILE_S = {"ours": 15.0, "peer": 40.0}  # what must be left to begin building
PATIENCE_S = 20.0  # what is built by then may be timed
PACKAGES = ("transformers", "triton")


class Bench:
    """One run of the benchmark."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.config = TINY if args.tiny else T3
        self.n_speech = 256 if args.tiny else N_SPEECH
        self.dtype = torch.float32 if args.tiny else torch.bfloat16
        sizes = (TINY_CONTEXT, TINY_SLOTS, TINY_STEPS) if args.tiny else (CONTEXT, SLOTS, N_STEPS)
        self.context, self.n_slots, self.n_steps = sizes
        self.rows: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, Callable[[int], Sample]] = {}
        self.report = Report(args.out, args.seconds, {
            "device": str(self.device), "config": str(self.config), "n_speech": self.n_speech,
            "dtype": str(self.dtype), "n_context": self.context, "n_slots": self.n_slots,
            "n_steps": self.n_steps, "packages": {name: version(name) for name in PACKAGES},
            "arguments": command_line(), "ways": self.rows,
        })  # fmt: skip

    def run(self) -> bool:
        """Measure everything that fits into the time; return whether that was all."""
        self.ceilings()
        first, *_ = peers = [self.sized(peer) for peer in PEERS]
        self.ours(self.context + sum(first.lengths) // 2)
        self.rounds(2)  # should the peers take all the time, these are kept
        self.peers(peers)
        self.rounds(self.args.rounds)
        return all("ms" in row for row in self.rows.values())

    def sized(self, peer: Peer) -> Peer:
        """Shorten a peer's calls for a rehearsal."""
        return replace(peer, lengths=(2, 6)) if self.args.tiny else peer

    def ceilings(self) -> None:
        """Measure the copy and the product that all are held against."""
        wait = partial(synchronise, self.device)
        dtype = str(self.dtype).removeprefix("torch.")
        copy = measure_copy(str(self.device), synchronise=wait)
        product = measure_product(str(self.device), dtype, synchronise=wait)
        self.rates = {"bytes_per_s": copy.best, "flops_per_s": product.best}
        self.report.found["ceilings"] = {
            **self.rates, "how": [copy.how, product.how], "copies": list(copy.rates.samples)
        }  # fmt: skip
        self.report.say(f"{self.rates}")
        free(self.device)

    @torch.inference_mode()
    def ours(self, context: int) -> None:
        """Build our steps around a context."""
        made = model(self.config, self.n_speech, self.dtype, self.device)
        cache = random_cache(self.config, 2, self.n_slots, self.dtype, self.device)
        known = {way.name: way for way in (*FEW_ROWS, FUSED)}
        for name in self.args.only.split(";"):
            make = partial(self.step, made, known[name], cache, context)
            self.build(name, context, COMPILE_S["ours"], make)

    def step(
        self, made: Model, way: Way, cache: StaticCache, context: int
    ) -> Callable[[int], Sample]:
        """Compile or capture one of our ways."""
        return partial(self.sample, Step(made, way, cache, 1, context))

    @torch.inference_mode()
    def sample(self, step: Step, turn: int) -> Sample:
        """Return milliseconds a step."""
        del turn
        step.reset(self.n_steps)
        with step.kernel_allowed():
            return {"ms": milliseconds(step.replay, self.n_steps, self.device)}

    def peers(self, peers: list[Peer]) -> None:
        """Build the peers over one model."""
        generator = torch.Generator(self.device).manual_seed(2)
        prompt = torch.randint(
            self.n_speech, (2, self.context), generator=generator, device=self.device
        )
        made = attempt(lambda: {
            "model": llama(self.config, self.n_speech, self.n_slots, self.dtype, self.device)
        })  # fmt: skip
        for peer in peers:
            context = self.context + sum(peer.lengths) // 2
            if "error" in made:
                self.rows[peer.name] = {"n_context": context, "error": made["error"]}
                self.report.say(f"{peer.name}: {made['error']}")
                continue
            speaker = Speaker(peer=peer, model=made["model"], prompt=prompt, n_slots=self.n_slots)
            self.build(peer.name, context, COMPILE_S["peer"], partial(self.warm, speaker))
            self.rows[peer.name] |= {"lengths": peer.lengths, "n_rows": peer.n_rows, **speaker.seen}
        self.report.write()

    def warm(self, speaker: Speaker) -> Callable[[int], Sample]:
        """Let a peer compile, and record its graphs where the cache's memory may lie."""
        for n_new in (*reversed(speaker.peer.lengths), *speaker.peer.lengths):
            speaker.speak(n_new)
        return speaker.sample

    def build(
        self, name: str, context: int, needed_s: float, make: Callable[[], Callable[[int], Sample]]
    ) -> None:
        """Make one way ready, if there is time."""
        row = self.rows[name] = {"n_context": context}
        if self.report.left_s() < needed_s:
            row["error"] = "no time was left"
            return
        began, before = self.report.clock(), int(compilation.observe()["compiled_graphs"])
        made = attempt(lambda: {"run": make()})
        row["build_s"] = self.report.clock() - began
        row["compiled_graphs"] = int(compilation.observe()["compiled_graphs"]) - before
        if "error" in made:
            row["error"] = made["error"]
        else:
            self.runs[name] = made["run"]
        self.report.say(f"{name}: {row}")

    def rounds(self, n_rounds: int) -> None:
        """Time all that is built in turn; the file is whole after every round."""
        samples, errors = interleave(
            self.runs, n_rounds + 1,
            may_begin=lambda: self.report.left_s() > -PATIENCE_S,
            after_round=self.keep,
        )  # fmt: skip
        self.keep(samples, errors)
        for name, row in self.rows.items():
            self.report.say(line(name, row))

    def keep(self, samples: Samples, errors: Mapping[str, str]) -> None:
        """Note what all rounds but the first, which warms up, come to."""
        base = column(samples.get("eager", [])[1:], "ms")
        for name, found in samples.items():
            row, timed = self.rows[name], found[1:]
            if timed:
                row |= {key: summary(column(timed, key)) for key in timed[0]}
                floor = roofline(self.config, self.n_speech, 1, row["n_context"], **self.rates)
                floor_ms = 1e3 * floor.floor_s
                row |= {
                    "read_bytes": floor.n_bytes, "roofline_ms": floor_ms,
                    "roofline_share": floor_ms / row["ms"]["p50"],
                    "times_eager": ratios(base, column(timed, "ms")),
                }  # fmt: skip
            if name in errors:
                row["error"] = errors[name]
        self.report.write()


def line(name: str, row: Mapping[str, Any]) -> str:
    """Say one way's time in a line."""
    if "ms" not in row:
        return f"{name:40} {row.get('error', 'no time was left')}"
    ms, gain = row["ms"], row["times_eager"]
    text = f"{name:40} {ms['p50']:8.4f} ms ({ms['min']:.4f} to {ms['max']:.4f}), n = {ms['n']}, "
    text += f"{row['roofline_share']:.1%} of the roofline"
    return f"{text}, {gain['median']:.2f} x eager" if gain else text


def version(package: str) -> str | None:
    """Return a package's version; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: small shapes, few steps")
    parser.add_argument("--seconds", type=float, default=150.0, help="begin nothing after this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=OURS, help="our ways, separated by semicolons")
    args = parser.parse_args()
    names = [way.name for way in (*FEW_ROWS, FUSED)]
    unknown = set(args.only.split(";")) - set(names)
    if unknown:
        parser.error(f"--only: {sorted(unknown)} is none of {names}")
    return args


def main() -> int:
    """Measure, print and write."""
    args = arguments()
    warnings.simplefilter("ignore")
    torch.set_float32_matmul_precision("highest")
    return 0 if Bench(args).run() else 1


if __name__ == "__main__":
    sys.exit(main())
