r"""Seconds from process start to first audio, by compile mode, without and with a compile cache.

    python -m benchmarks.decoder.cold_start --out benchmarks/decoder/cold_start.json \
        --seconds 100 --processes 4
    python -m benchmarks.decoder.cold_start --device cpu --seconds 300 --repeats 3 \
        --out benchmarks/decoder/cold_start-cpu.json

Every start is a fresh process that streams one sentence of the embedded voice. The first of a pair
finds an empty compile cache (inductor's and Triton's), the second what the first left. Clocks are
the system's, from just before the process is made:

- ``interpreter_s``: until Python runs the first line of ours;
- ``import_s``: torch and the voice's modules;
- ``load_s``: device and weights to a ready model, its passes included;
- ``first_piece_s``: the first piece of a stream, whatever is compiled and captured among it;
- ``compile_s``: what that took longer than the same piece later, once all is warm;
- ``first_audio_s``: the sum of all but ``compile_s``, which is a part of ``first_piece_s``.

Files of the libraries lie in the operating system's cache after one start that is not counted
(``first_of_all``). The modes of ``--alone`` then start one by one: theirs are the figures to quote.
The others start several at a time and share the cores and the device. What that costs is told by
the first mode of ``--alone``, which starts among them once more (``..., among others``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

BF16 = {"precision": "bf16", "kv_cache": "static"}
# Those that take longest first, so that none of them ends alone.
MODES: dict[str, dict[str, dict[str, Any]]] = {
    "cuda": {
        "max-autotune": {**BF16, "compile": "max-autotune"},
        "fused": {**BF16, "compile": "fused", "attention": "split_k"},
        "reduce-overhead": {**BF16, "compile": "reduce-overhead"},
        "default": {**BF16, "compile": "default"},
        "cuda-graph": {**BF16, "compile": "cuda-graph"},
        "none": BF16,
        "none, fp32": {},
    },
    "cpu": {
        "default": {"kv_cache": "static", "compile": "default"},
        "none, flex attention": {"kv_cache": "static", "attention": "flex"},
        "none": {},
    },
}
ALONE = {"cuda": "none;fused", "cpu": "none;none, flex attention;default"}
AMONG = ", among others"
STAGES = ("first_audio_s", "interpreter_s", "import_s", "load_s", "first_piece_s", "compile_s")
PATIENCE_S = 60.0  # a start that was begun in time may take so long after the time is up


def start(values: Mapping[str, Any], device: str, threads: int, began: float) -> dict[str, Any]:
    """Import, load and stream in this process; return the seconds of every stage.

    Args:
        values: Of ``Options``.
        device: ``cpu`` or ``cuda``.
        threads: That one CPU operation may use.
        began: When the process was made, by ``time.time``.
    """
    at = [began, time.time()]
    import torch

    from benchmarks.decoder.streaming import TEXTS
    from tts.build import build
    from tts.options import Options
    from tts.types import Utterance

    torch.set_num_threads(threads)
    at.append(time.time())
    voice = build("embedded", Options(**values), device).synthesizer
    at.append(time.time())

    def first_piece() -> None:
        stream = voice.stream(Utterance(id="a", text=TEXTS["50 characters"], seed=3))
        next(stream)
        stream.close()  # type: ignore[attr-defined]

    first_piece()
    at.append(time.time())
    first_piece()  # warms up
    warm_began = time.time()
    first_piece()
    warm_s = time.time() - warm_began
    stages = ("interpreter_s", "import_s", "load_s", "first_piece_s")
    found = {name: b - a for name, a, b in zip(stages, at[:-1], at[1:], strict=True)}
    return {
        "first_audio_s": at[-1] - at[0],
        **found,
        "compile_s": max(0.0, found["first_piece_s"] - warm_s),
        "warm_first_piece_s": warm_s,
    }


def in_a_process(
    values: Mapping[str, Any], args: argparse.Namespace, cache: Path, limit_s: float
) -> dict[str, Any]:
    """Start in a fresh process with this compile cache."""
    folders = {
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }
    command = [sys.executable, "-m", "benchmarks.decoder.cold_start", "--device", args.device]
    command += ["--threads", str(args.threads), "--start", json.dumps(values)]
    try:
        done = subprocess.run(
            [*command, "--began", repr(time.time())],
            env={**os.environ, **folders}, capture_output=True, text=True, timeout=limit_s,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": f"no audio after {limit_s:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": said[-1][:400]}
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    return {**found, "cache_bytes": size}


class Bench:
    """One run of the benchmark."""

    def __init__(self, args: argparse.Namespace) -> None:
        from benchmarks.decoder.timing import Report
        from benchmarks.provenance import command_line

        self.args, self.lock = args, Lock()
        wanted = args.only.split(";") if args.only else list(MODES[args.device])
        self.alone = [name for name in args.alone.split(";") if name in wanted]
        self.together = [name for name in wanted if name not in self.alone]
        self.modes = dict(MODES[args.device])
        if self.alone and self.together and args.processes > 1:
            control = self.alone[0] + AMONG
            self.modes[control] = self.modes[self.alone[0]]
            self.together.append(control)
        self.found: dict[str, dict[str, Any]] = {
            name: {
                "options": self.modes[name], "processes_at_a_time": n,
                "cold": {"runs": []}, "warm": {"runs": []},
            }
            for names, n in ((self.alone, 1), (self.together, args.processes)) for name in names
        }  # fmt: skip
        self.report = Report(args.out, args.seconds, {
            "device": args.device, "threads": args.threads, "arguments": command_line(),
            "first_of_all": None, "modes": self.found,
        })  # fmt: skip

    def run(self) -> None:
        """Run a pair of starts per mode and repeat, as far as the time suffices."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            first = in_a_process({}, self.args, Path(folder), self.report.left_s() + PATIENCE_S)
        self.report.found["first_of_all"] = first
        self.report.say(f"first of all: {line(first)}")
        for names, n_processes in ((self.alone, 1), (self.together, self.args.processes)):
            with ThreadPoolExecutor(n_processes) as pool:
                for future in [
                    pool.submit(self.pair, name) for _ in range(self.args.repeats) for name in names
                ]:
                    future.result()
        self.report.write()

    def pair(self, name: str) -> None:
        """Start twice over one compile cache, which is empty at first."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for kind in ("cold", "warm"):
                left_s = self.report.left_s()
                if left_s < 0:
                    found: dict[str, Any] = {"error": "no time was left"}
                else:
                    limit_s = left_s + PATIENCE_S
                    found = in_a_process(self.modes[name], self.args, Path(folder), limit_s)
                self.keep(name, kind, found)
                if "error" in found:
                    return

    def keep(self, name: str, kind: str, found: dict[str, Any]) -> None:
        """Note one start, and what all of its kind come to."""
        from benchmarks.decoder.timing import summary

        with self.lock:
            row = self.found[name][kind]
            row["runs"].append(found)
            good = [run for run in row["runs"] if "error" not in run]
            if good:
                row |= {stage: summary([run[stage] for run in good]) for stage in STAGES}
            self.report.say(f"{name}, {kind}: {line(found)}")
            self.report.write()


def line(found: Mapping[str, Any]) -> str:
    """Say one start in a line."""
    if "error" in found:
        return str(found["error"])
    stages = ", ".join(f"{stage.removesuffix('_s')} {found[stage]:.2f}" for stage in STAGES[1:])
    return f"first audio after {found['first_audio_s']:.2f} s ({stages})"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=100.0, help="begin nothing after this")
    parser.add_argument("--repeats", type=int, default=1, help="pairs of starts per mode")
    parser.add_argument("--processes", type=int, default=1, help="starts at a time")
    parser.add_argument("--threads", type=int, default=1, help="that one CPU operation may use")
    parser.add_argument("--only", help="names of modes, separated by semicolons")
    parser.add_argument("--alone", help="those that start one by one, likewise; the quickest first")
    parser.add_argument("--start", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.alone = ALONE[args.device] if args.alone is None else args.alone
    named = {*args.alone.split(";"), *(args.only or "").split(";")} - {""}
    unknown = named - MODES[args.device].keys()
    if unknown:
        parser.error(f"{sorted(unknown)} is none of {list(MODES[args.device])}")
    return args


def main() -> None:
    """Measure, print and write; or be one of the processes that are measured."""
    args = arguments()
    if args.start is not None:
        found = start(args.start, args.device, args.threads, args.began)
        print("RESULT " + json.dumps(found), flush=True)
        return
    Bench(args).run()


if __name__ == "__main__":
    main()
