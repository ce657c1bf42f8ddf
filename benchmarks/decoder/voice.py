"""The embedded voice: latency, time to first audio and throughput, all ways in one run.

    python -m benchmarks.decoder.voice --out benchmarks/decoder/voice.json --seconds 150
    python -m benchmarks.decoder.voice --device cpu --seconds 1200 \
        --out benchmarks/decoder/voice-cpu.json

Latency is from the text to finished audio on the host, one input of 50 characters at a time; time
to first audio is that of the first piece of a stream. The ways take turns, round after round, and
all of them get a round's seed. Sampled lengths differ between ways all the same, so each ratio to
the baseline is given twice: of the latencies, and of the latencies per speech token.

Throughput: some batches' worth of utterances with different seeds. A static way speaks them batch
after batch; with continuous batching they are all handed over at once.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.decoder.streaming import TEXTS
from benchmarks.decoder.timing import (
    Report,
    Sample,
    Samples,
    attempt,
    column,
    free,
    interleave,
    ratios,
    summary,
    synchronise,
)
from benchmarks.decoder.voice_ways import BASELINE, combination, continuous, unguided, ways
from benchmarks.provenance import command_line
from tts.build import build
from tts.device import probe
from tts.options import Options
from tts.types import Built, Synthesizer, Utterance

TEXT = TEXTS["50 characters"]
FIRST_SEED, PILOT_SEED = 90_000, 80_000
# The most wanted first: the time may not suffice for all.
BATCHES = {"cuda": "128,64,256,32,8,1", "cpu": "4,8,2,1"}
# Shares of the time: to build the ways, then those that the pilot suggests, and to time all.
BUILDING, SUGGESTED, LATENCY = 0.40, 0.50, 0.20


class Bench:
    """One run of the benchmark."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.caps = args, probe(args.device)
        self.device = torch.device(self.caps.torch_name)
        self.found: dict[str, Any] = {"baseline": BASELINE, "ways": {}}
        self.rates: list[dict[str, Any]] = []
        self.report = Report(args.out, args.seconds, {
            "device": self.caps.name, "threads": torch.get_num_threads(), "text": TEXT,
            "n_characters": len(TEXT), "arguments": command_line(), "latency": self.found,
            "throughput": self.rates,
        })  # fmt: skip
        self.built: dict[str, Built] = {}
        self.options: dict[str, Options] = {}
        self.pilot: dict[str, float] = {}

    def run(self) -> None:
        """Measure everything that fits into the time."""
        self.build_all()
        self.latency()
        self.observe()
        guided = [n for n in self.quickest() if self.options[n].sampling == Options().sampling]
        best = {name: self.options[name] for name in guided[:2]}
        self.built.clear()
        free(self.device)
        for batch in map(int, self.args.batches.split(",")):
            if best and self.report.left_s() > 0:
                self.throughput(batch, best)
        self.report.write()

    def build_all(self) -> None:
        """Build and warm up what the device can do, then what the pilot shows to be best."""
        chosen = ways(self.caps)
        for name in self.args.only.split(";") if self.args.only else chosen:
            self.add(name, chosen[name])
        if self.caps.type == "cpu" and BASELINE in self.pilot:
            combined = combination(self.pilot, self.options, self.caps)
            if combined is not None:
                self.add("best of each axis", combined, SUGGESTED)
        best = min(self.pilot, key=lambda name: self.pilot[name], default=None)
        if best is not None and best != BASELINE:
            self.add(f"{best}, no guidance", unguided(self.options[best]), SUGGESTED)

    def add(self, name: str, options: Options, share: float = BUILDING) -> None:
        """Build one way and speak three times: to compile, to warm up, and as a pilot."""
        self.options[name] = options
        row: dict[str, Any] = {"options": options.to_mapping()}
        self.found["ways"][name] = row
        if self.report.left_s(share) < 0:
            row["error"] = "no time was left to build it"
            return
        row |= attempt(partial(self._build, name, options))
        self.report.say(f"{name}: {row.get('error') or f'{1e3 * self.pilot[name]:.2f} ms a token'}")
        self.report.write()

    def _build(self, name: str, options: Options) -> dict[str, Any]:
        built = build("embedded", options, self.args.device)
        began = time.perf_counter()
        speak(built.synthesizer, 0, self.device)
        first_call_s = time.perf_counter() - began
        first_piece(built.synthesizer, 0, self.device)
        pilot = [speak(built.synthesizer, PILOT_SEED + i, self.device) for i in range(2)]
        self.pilot[name] = min(per_token(pilot)) / 1e3
        self.built[name] = built
        return {
            "load_s": built.load_s,
            "first_call_s": first_call_s,
            "pilot_ms_per_token": per_token(pilot),
            "applied": {a.name: f"{a.value}: {a.detail}" for a in built.applied},
        }

    def latency(self) -> None:
        """Time all that was built, in turn."""

        def sample(synthesizer: Synthesizer, i: int) -> Sample:
            spoken = speak(synthesizer, FIRST_SEED + i, self.device)
            return {**spoken, "ttfa_s": first_piece(synthesizer, FIRST_SEED + i, self.device)}

        def keep(samples: Samples, errors: Mapping[str, str]) -> None:
            for name, values in latencies(samples).items():
                self.found["ways"][name] |= values
            for name, error in errors.items():
                self.found["ways"][name]["error"] = error
            self.report.write()

        left_s = self.report.left_s() - LATENCY * self.args.seconds
        samples, errors = interleave(
            {name: partial(sample, b.synthesizer) for name, b in self.built.items()},
            self.args.rounds,
            may_begin=lambda: self.report.left_s() > max(0.0, left_s),
            after_round=keep,
        )
        keep(samples, errors)
        for name, row in self.found["ways"].items():
            self.report.say(latency_line(name, row))

    def observe(self) -> None:
        """Note which kernels, graphs and recompiles there were."""
        for name, built in self.built.items():
            tell = getattr(built.synthesizer, "observed", dict)
            self.found["ways"][name]["observed"] = attempt(tell)
        self.report.write()

    def quickest(self) -> list[str]:
        """Return the ways that were timed, the lowest latency per token first."""
        timed = {
            name: row["ms_per_token"]["p50"]
            for name, row in self.found["ways"].items()
            if "ms_per_token" in row
        }
        return sorted(timed, key=lambda name: timed[name])

    def throughput(self, batch: int, best: Mapping[str, Options]) -> None:
        """Time the best ways at one batch size, and the best of all with continuous batching."""
        chosen = {name: replace(options, batch_size=batch) for name, options in best.items()}
        if batch > 1:
            first = next(iter(chosen))
            chosen[f"{first}, continuous"] = continuous(chosen[first])
        point: dict[str, Any] = {"batch_size": batch, "ways": {}}
        point["n_utterances"] = n_utterances(batch, self.caps.type)
        self.rates.append(point)
        runs: dict[str, Callable[[int], Sample]] = {}
        for name, options in chosen.items():
            row: dict[str, Any] = {"options": options.to_mapping()}
            point["ways"][name] = row
            if self.report.left_s() < 0:
                row["error"] = "no time was left"
                continue
            row |= attempt(partial(self._add, name, options, point, runs))
        samples, errors = interleave(
            runs, self.args.throughput_rounds, may_begin=lambda: self.report.left_s() > 0
        )
        base = column(samples.get(next(iter(chosen)), []), "seconds")
        for name, rows in samples.items():
            point["ways"][name] |= {k: summary(column(rows, k)) for k in (rows or [{}])[0]}
            point["ways"][name]["times_first_way"] = ratios(base, column(rows, "seconds"))
        for name, error in errors.items():
            point["ways"][name]["error"] = error
        for name, row in point["ways"].items():
            self.report.say(f"batch {batch}: {rate_line(name, row)}")
        self.report.write()
        runs.clear()
        free(self.device)

    def _add(
        self, name: str, options: Options, point: Mapping[str, Any], runs: dict[str, Any]
    ) -> dict[str, Any]:
        built = build("embedded", options, self.args.device)
        speak_all = partial(rate, built.synthesizer, options, point["n_utterances"], self.device)
        began = time.perf_counter()
        speak_all(0)
        runs[name] = speak_all
        return {"load_s": built.load_s, "warm_up_s": time.perf_counter() - began}


def n_utterances(batch: int, device: str) -> int:
    """Return how many utterances one sample of the throughput is: two to four batches."""
    return 2 * batch if device == "cpu" else max(2 * batch, min(4 * batch, 256))


def speak(synthesizer: Synthesizer, seed: int, device: torch.device) -> Sample:
    """Speak the text once: seconds from text to audio on the host, seconds of audio, tokens."""
    utterance = Utterance(id=f"seed-{seed}", text=TEXT, seed=seed)
    synchronise(device)
    began = time.perf_counter()
    audio = synthesizer.synthesize([utterance])[0]
    latency_s = time.perf_counter() - began
    if not audio.n_tokens:
        raise RuntimeError("it said nothing")
    return {"latency_s": latency_s, "audio_s": audio.duration_s, "n_tokens": audio.n_tokens}


def first_piece(synthesizer: Synthesizer, seed: int, device: torch.device) -> float:
    """Return the seconds until the first piece of a stream is on the host, then hang up."""
    synchronise(device)
    began = time.perf_counter()
    stream = synthesizer.stream(Utterance(id=f"seed-{seed}", text=TEXT, seed=seed))
    next(stream)
    elapsed_s = time.perf_counter() - began
    close = getattr(stream, "close", None)
    if close is not None:
        close()
    return elapsed_s


def rate(
    synthesizer: Synthesizer, options: Options, n: int, device: torch.device, turn: int
) -> Sample:
    """Speak ``n`` utterances with seeds of their own: seconds, and rates per second."""
    seeds = range(FIRST_SEED + turn * n, FIRST_SEED + (turn + 1) * n)
    utterances = [Utterance(id=f"seed-{seed}", text=TEXT, seed=seed) for seed in seeds]
    size = n if options.batching == "continuous" else options.batch_size
    synchronise(device)
    began = time.perf_counter()
    audios = [
        audio
        for i in range(0, n, size)
        for audio in synthesizer.synthesize(utterances[i : i + size])
    ]
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "utterances_per_s": len(audios) / seconds,
        "audio_s_per_s": sum(audio.duration_s for audio in audios) / seconds,
        "tokens_per_s": sum(audio.n_tokens for audio in audios) / seconds,
    }


def latencies(samples: Samples) -> dict[str, dict[str, Any]]:
    """Return what is reported of each way: seconds, milliseconds a token, times the baseline."""
    tokens = {name: per_token(rows) for name, rows in samples.items()}
    base = samples.get(BASELINE, [])
    found = {}
    for name, rows in samples.items():
        if not rows:
            continue
        found[name] = {
            **{key: summary(column(rows, key)) for key in ("latency_s", "ttfa_s", "audio_s")},
            "ms_per_token": summary(tokens[name]),
            "times_baseline": ratios(column(base, "latency_s"), column(rows, "latency_s")),
            "times_baseline_per_token": ratios(tokens.get(BASELINE, []), tokens[name]),
            "times_baseline_ttfa": ratios(column(base, "ttfa_s"), column(rows, "ttfa_s")),
        }
    return found


def per_token(rows: Sequence[Sample]) -> list[float]:
    """Return milliseconds of latency per speech token."""
    return [1e3 * row["latency_s"] / row["n_tokens"] for row in rows]


def latency_line(name: str, row: Mapping[str, Any]) -> str:
    """Say a way's latency in a line."""
    if "latency_s" not in row:
        return f"{name:40} {row.get('error', 'no time was left')}"
    latency, first, gain = row["latency_s"], row["ttfa_s"], row["times_baseline"]
    line = f"{name:40} p50 {1e3 * latency['p50']:7.1f} p95 {1e3 * latency['p95']:7.1f} ms, "
    line += f"first audio p50 {1e3 * first['p50']:6.1f} p95 {1e3 * first['p95']:6.1f} ms"
    if gain is not None:
        line += f", {gain['median']:5.2f} x ({gain['min']:.2f} to {gain['max']:.2f})"
    return f"{line}, n = {latency['n']} {row.get('error', '')}"


def rate_line(name: str, row: Mapping[str, Any]) -> str:
    """Say a way's throughput in a line."""
    if "seconds" not in row:
        return f"{name:40} {row.get('error', 'no time was left')}"
    spoken, audio = row["utterances_per_s"], row["audio_s_per_s"]
    return (
        f"{name:40} {spoken['p50']:8.1f} utterances/s ({spoken['min']:.1f} to {spoken['max']:.1f})"
        f", {audio['p50']:8.1f} s of audio a second, n = {spoken['n']} {row.get('error', '')}"
    )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=150.0, help="begin nothing after this")
    parser.add_argument("--rounds", type=int, default=30, help="of the latencies")
    parser.add_argument("--throughput-rounds", type=int, default=5)
    parser.add_argument("--batches", help="for the throughput, such as 1,8,32")
    parser.add_argument("--threads", type=int, default=1, help="that one CPU operation may use")
    parser.add_argument("--only", help="names of ways, separated by semicolons")
    args = parser.parse_args()
    args.batches = args.batches or BATCHES[args.device]
    return args


def main() -> None:
    """Measure, print and write."""
    args = arguments()
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    Bench(args).run()


if __name__ == "__main__":
    main()
