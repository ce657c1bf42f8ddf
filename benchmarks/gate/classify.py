"""Speak and score real configurations of the embedded voice, for the gate to tell apart.

    python -m benchmarks.gate.classify --device cuda:0 --out DIR --minutes 4

Every configuration speaks the same 252 prompts with two seeds, and is scored as in a sweep, except
that words (``hearing``) and DNSMOS (``opinion``) are taken in batches on the device. Ends in time
with what it has, and goes on from there when run again. Writes ``classify.jsonl.gz``;
``benchmarks.gate.confusion`` judges it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gate.batched import agreement, ear, opinions_of, with_opinion, with_words
from benchmarks.gate.collection import FILE, Collection
from benchmarks.gate.configurations import BASELINE, CONFIGURATIONS
from benchmarks.gate.deadline import OutOfTimeError
from benchmarks.gate.pool import PROMPTS
from benchmarks.gate.scorefile import ScoreFileError
from benchmarks.gate.scoring import write_clips
from benchmarks.gate.voices import Spoken, speak_options
from benchmarks.provenance import provenance
from evaluation.judge import Judge
from evaluation.prompts import Prompt, load_prompts, prompt_digest
from evaluation.scores import Clip

MAX_CHARACTERS = 199
"""The longest texts cost most of the time and say nothing that the others do not."""
N_PROMPTS, N_SEEDS = 252, 2
SEED = 10_000
RESERVE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a speaking process is given."""

    name: str
    prompts: tuple[Prompt, ...]
    device: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Said:
    """What it gives back: clips with what was heard in them, or why there are none."""

    name: str
    clips: tuple[Clip, ...] = ()
    transcripts: tuple[str, ...] = ()
    opinions: tuple[dict[str, float], ...] = ()
    refused: str = ""
    failed: str = ""
    spoke_s: float = 0.0
    heard_s: float = 0.0
    scored_s: float = 0.0


def utterances(n: int) -> tuple[Prompt, ...]:
    """Return prompts times seeds, those of like length together, so that batches end together."""
    prompts = load_prompts(PROMPTS, n=n, max_characters=MAX_CHARACTERS)
    doubled = [replace(p, id=f"{p.id}.{turn}") for turn in range(N_SEEDS) for p in prompts]
    return tuple(sorted(doubled, key=lambda p: (len(p.text), p.id)))


def speak(job: Job) -> Said:
    """Speak one configuration, hear and score it; runs in a process of its own."""
    from tts.errors import InapplicableError

    began = time.perf_counter()
    try:
        spoken = list(speak_options(job.prompts, SEED, CONFIGURATIONS[job.name], job.device))
        spoke_s = time.perf_counter() - began
        heard = ear(job.device).transcribe([s.samples for s in spoken])
        heard_s = time.perf_counter() - began - spoke_s
        opinions = opinions_of([s.samples for s in spoken], job.device)
    except InapplicableError as error:
        return Said(name=job.name, refused=str(error))
    except Exception as error:  # noqa: BLE001 - one broken configuration must not end the rest
        return Said(name=job.name, failed=f"{type(error).__name__}: {error}"[:500])
    return Said(
        name=job.name,
        clips=tuple(_write(job, spoken)),
        transcripts=tuple(heard),
        opinions=opinions,
        spoke_s=spoke_s,
        heard_s=heard_s,
        scored_s=time.perf_counter() - began - spoke_s - heard_s,
    )


def _write(job: Job, spoken: Sequence[Spoken]) -> list[Clip]:
    folder = job.folder / str(list(CONFIGURATIONS).index(job.name))
    folder.mkdir()
    return write_clips(folder, job.prompts, spoken)


def collect(collection: Collection, said: Iterator[Said], judge: Judge, deadline: float) -> None:
    """Score what comes until everything is there.

    Raises:
        OutOfTimeError: The deadline came first.
    """

    def watch(_done: int, _total: int) -> None:
        if time.monotonic() > deadline:
            raise OutOfTimeError

    for item in said:
        print(f"{item.name}: {item.refused or item.failed or 'spoken'}", flush=True)
        if item.refused or item.failed:
            kind = "refused" if item.refused else "failed"
            collection.header[kind][item.name] = item.refused or item.failed
            collection.save()
            continue
        began = time.perf_counter()
        found = judge.score(item.clips, on_progress=watch)
        scores = [
            with_words(with_opinion(s, opinion), clip.reference, heard)
            for s, clip, heard, opinion in zip(
                found, item.clips, item.transcripts, item.opinions, strict=True
            )
        ]
        if item.name == BASELINE:
            collection.header |= agreement(item.clips, item.transcripts, item.opinions)
        spent = {
            "speak": item.spoke_s, "hear": item.heard_s, "dnsmos": item.scored_s,
            "guards": time.perf_counter() - began,
        }  # fmt: skip
        collection.add(item.name, scores, spent)
        for clip in item.clips:
            clip.wav_path.unlink()
        watch(0, 0)


def _until(deadline: float, results: Any) -> Iterator[Said]:  # noqa: ANN401 - a pool's iterator
    """Yield results as they come.

    Raises:
        OutOfTimeError: None came before the deadline.
    """
    while True:
        try:
            yield results.next(timeout=max(0.1, deadline - time.monotonic()))
        except StopIteration:
            return
        except multiprocessing.TimeoutError:
            raise OutOfTimeError from None


def run(args: argparse.Namespace, judge: Judge) -> Collection:
    """Speak and score what is missing, until the minutes are up."""
    from tts.embedded import weights

    deadline = time.monotonic() + 60 * args.minutes - RESERVE_S
    prompts = utterances(args.n)
    judge.start()
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="gate-") as folder,
        context.Pool(args.speakers, initializer=torch.set_num_threads, initargs=(1,)) as speakers,
    ):
        identity = {
            "prompts": prompt_digest(prompts),
            "voice": weights.fingerprint(weights.DEFAULT_DIRECTORY),
            "device": args.device.partition(":")[0],
            "judge": judge.provenance(),
        }
        options = dict(CONFIGURATIONS)
        header = {
            **provenance(), "identity": identity, "options": options, "same_words": None,
            "same_dnsmos": None,
        }  # fmt: skip
        collection = Collection(args.out / FILE, header)
        jobs = [
            Job(name=name, prompts=prompts, device=args.device, folder=Path(folder))
            for name in collection.missing()
            if not args.only or name in args.only
        ]
        results = speakers.imap_unordered(speak, jobs, chunksize=1)
        try:
            collect(collection, _until(deadline, results), judge, deadline)
        except OutOfTimeError:
            print("the minutes are up; run the same command again to go on")
    return collection


def main() -> None:
    """Speak and score; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the file")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--n", type=int, default=N_PROMPTS, help="prompts")
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, help="configurations")
    parser.add_argument("--speakers", type=int, default=2, help="processes that speak")
    parser.add_argument("--workers", type=int, default=0, help="of the judge; 0 leaves some cores")
    args = parser.parse_args()
    workers = args.workers or max(1, len(os.sched_getaffinity(0)) - args.speakers)
    with Judge("embedded", workers, metrics=("guards",)) as judge:
        try:
            collection = run(args, judge)
        except ScoreFileError as error:
            parser.error(str(error))
    left = collection.missing()
    print(
        f"{len(collection.scores)} configurations scored, {len(left)} left; words as the judge's "
        f"own ear heard them: {collection.header['same_words']}; DNSMOS beside the judge's own: "
        f"{collection.header['same_dnsmos']}"
    )


if __name__ == "__main__":
    main()
