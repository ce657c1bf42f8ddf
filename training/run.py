"""Make the embedded voice and the embedded ear: one command, some 20 minutes on four GPUs.

    python -m training.run --out training/data/run --seconds 780

The corpus is gathered if it is not there. flite speaks it on the CPU while everything trains: the
codec, the language model (from the moment the tokenizer is frozen, so it ends last) and the ear,
each on a GPU of its own where there are several, or sharing one; the language model takes the GPUs
that are left over too. Then the weight files are written to OUT/voice and OUT/ear; ``--install``
puts them where mosgate ships them. ``--start DIR`` goes on from codec.pt and lm.pt of an earlier
run, at lower learning rates.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from training.lm import PEAK_LR, START_LR

TOKENIZER_SHARE = 0.2
RESERVE_S = 25.0
PARTS = ("codec", "lm", "ear")
SPEAKING = "flite"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training process."""

    name: str
    module: str
    gpu: int
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def jobs(args: argparse.Namespace, n_gpus: int) -> list[Job]:
    """Say what runs where: with one GPU everything shares it and keeps less audio."""
    total = args.seconds
    codec_s = total if args.codec_seconds is None else args.codec_seconds
    tokenizer_s = args.tokenizer_seconds
    if tokenizer_s is None:
        tokenizer_s = TOKENIZER_SHARE * codec_s
    tokenizer = str(args.out / "tokenizer.pt")
    clock = ("--seconds", f"{total:.0f}")
    result = []
    if "codec" in args.only:
        times = ("--seconds", f"{codec_s:.0f}", "--tokenizer-seconds", f"{tokenizer_s:.0f}")
        start = ("--start", str(args.start / "codec.pt")) if args.start else ()
        result.append(Job(name="codec", module="training.codec", gpu=0, arguments=(*times, *start)))
    if "ear" in args.only:
        resynthesising = ("--codec", tokenizer)
        result.append(
            Job(name="ear", module="training.ear", gpu=1 % n_gpus,
                arguments=(*clock, *resynthesising))
        )  # fmt: skip
    if "lm" in args.only:
        gpus = list(range(len(result), n_gpus)) or [n_gpus - 1]
        lm_s = total - tokenizer_s - RESERVE_S
        rate = START_LR if args.start else PEAK_LR
        hours = args.hours if args.hours is not None else 480 if n_gpus > 1 else 120
        common = ("--seconds", f"{lm_s:.0f}", "--tokenizer", tokenizer, "--hours", f"{hours:g}")
        start = ("--start", str(args.start / "lm.pt")) if args.start else ()
        result += lm_jobs(gpus, rate, (*common, *start))
    return result


def lm_jobs(gpus: list[int], rate: float, arguments: tuple[str, ...]) -> list[Job]:
    """Give the language model one process a GPU; the learning rate grows a little with them."""
    arguments += ("--lr", f"{rate * len(gpus) ** 0.25:.2g}")
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    return [
        Job(
            name=f"lm-{rank}" if rank else "lm", module="training.lm", gpu=gpu,
            arguments=arguments,
            environment={"RANK": str(rank), "WORLD_SIZE": str(len(gpus)), **address},
        )
        for rank, gpu in enumerate(gpus)
    ]  # fmt: skip


def start(job: Job, args: argparse.Namespace) -> subprocess.Popen[bytes]:
    """Start one job with its output in a log file."""
    command = [
        sys.executable, "-u", "-m", job.module, "--audio", str(args.audio), "--out", str(args.out),
        "--device", args.device or f"cuda:{job.gpu}", "--seed", str(args.seed), *job.arguments,
    ]  # fmt: skip
    log = (args.out / f"{job.name}.log").open("ab")
    environment = {**os.environ, **job.environment}
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def main() -> None:
    """Run everything and wait for it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, default=Path("training/data/corpus.txt.gz"))
    parser.add_argument("--audio", type=Path, default=Path("training/data/speech"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=780)
    parser.add_argument("--start", type=Path, help="folder of an earlier run to go on from")
    parser.add_argument("--codec-seconds", type=float, help="--seconds by default")
    parser.add_argument("--tokenizer-seconds", type=float, help="a fifth of the codec's by default")
    parser.add_argument("--hours", type=float, help="audio that the language model keeps")
    parser.add_argument("--library", default="", help="folder of flite's libraries")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="", help="one device for all, such as cpu, to rehearse")
    parser.add_argument("--install", action="store_true", help="replace the shipped weights")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    check(parser, args)
    args.out.mkdir(parents=True, exist_ok=True)
    if "codec" in args.only:  # the language model waits for this run's own
        (args.out / "tokenizer.pt").unlink(missing_ok=True)
    spare = max(2, (os.cpu_count() or 4) - 14)
    # Speaking gives way to compiling and feeding the GPUs.
    speak = [
        "nice", "-n", "15", sys.executable, "-m", "training.flite", "--corpus", str(args.corpus),
        "--out", str(args.audio), "--library", args.library, "--processes", str(spare),
        "--others", "3" if "ear" in args.only else "0",
    ]  # fmt: skip
    if not args.corpus.exists():
        args.corpus.parent.mkdir(parents=True, exist_ok=True)
        module("training.corpus", "-o", str(args.corpus))
    with (args.out / "flite.log").open("ab") as log:
        running = {SPEAKING: subprocess.Popen(speak, stdout=log, stderr=subprocess.STDOUT)}
    for job in jobs(args, max(1, torch.cuda.device_count())):
        running[job.name] = start(job, args)
    wait(running, args.out)
    export(args)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with an error where arguments contradict one another."""
    for name in ("seconds", "codec_seconds", "tokenizer_seconds", "hours"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            parser.error(f"--{name.replace('_', '-')} {value:g}: must be positive")
    codec_s = args.seconds if args.codec_seconds is None else args.codec_seconds
    if args.tokenizer_seconds is not None and args.tokenizer_seconds >= codec_s:
        parser.error(f"--tokenizer-seconds must be less than the codec's {codec_s:g} seconds")
    if args.start is None:
        return
    if args.start.resolve() == args.out.resolve():
        parser.error("--start: an earlier run, in another folder than --out")
    needed = {"codec": "codec.pt", "lm": "lm.pt"}
    if not needed.keys() & set(args.only):
        parser.error("--start: the ear always starts afresh")
    for part, name in needed.items():
        if part in args.only and not (args.start / name).exists():
            parser.error(f"--start: {args.start / name} is missing")


def module(name: str, *arguments: str) -> None:
    """Run one of our modules to its end."""
    subprocess.run([sys.executable, "-m", name, *arguments], check=True)


def wait(running: dict[str, subprocess.Popen[bytes]], out: Path) -> None:
    """Wait for all that train; speaking ends with them, whatever is left of the corpus.

    Raises:
        SystemExit: One of them failed.
    """
    failed = []
    while set(running) - {SPEAKING}:
        time.sleep(1)
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                print(f"{name} ended with {process.returncode}", flush=True)
                failed += [name] if process.returncode else []
    if SPEAKING in running:
        running[SPEAKING].terminate()
        running[SPEAKING].wait()
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; see the logs in {out}")


def export(args: argparse.Namespace) -> None:
    """Write the weight files of what was trained."""
    if {"codec", "lm"} <= set(args.only):
        where = [] if args.install else ["--out", str(args.out / "voice")]
        module("training.export", "--run", str(args.out), *where)
    if "ear" in args.only:
        where = [] if args.install else ["--out", str(args.out / "ear")]
        module("training.ear_export", "--snapshot", str(args.out / "ear.pt"), *where)


if __name__ == "__main__":
    main()
