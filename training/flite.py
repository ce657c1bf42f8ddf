"""Speak a corpus with flite's voices into shards of raw audio.

    python -m training.flite --corpus training/data/corpus.txt.gz --out /dev/shm/speech

A shard is ``shard-NNNN.pcm`` (int16, 16 kHz, mono, utterances end to end) and, written last,
``shard-NNNN.json`` (voice, text, start and length of each utterance, in samples). flite is called
through its C library, a process a core: about 60 times real time on each.
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
TEACHER = "rms"
OTHER_VOICES = ("slt", "awb", "kal16")
SENTENCES_PER_SHARD = 192
HEAD_S, TAIL_S = 0.04, 0.12
LONGEST_S = 13.0


class _Wave(ctypes.Structure):
    """flite's cst_wave."""

    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class Flite:
    """flite's voices in this process.

    Args:
        folder: Where the libraries lie; empty for the system's own search path.

    Raises:
        OSError: flite is not installed.
    """

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self._library = self._load("libflite.so.1")
        for name in ("usenglish", "cmulex"):
            self._load(f"libflite_{name}.so.1")
        self._library.flite_init()
        self._library.flite_text_to_wave.restype = ctypes.POINTER(_Wave)
        self._library.flite_text_to_wave.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
        self._library.delete_wave.argtypes = (ctypes.POINTER(_Wave),)
        self._voices: dict[str, int] = {}

    def _load(self, name: str) -> ctypes.CDLL:
        path = str(Path(self._folder) / name) if self._folder else name
        return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)

    def speak(self, text: str, voice: str = TEACHER) -> npt.NDArray[np.int16]:
        """Return int16 samples at 16 kHz, shape (n,), as the voice spoke them."""
        if voice not in self._voices:
            library = self._load(f"libflite_cmu_us_{voice}.so.1")
            register = getattr(library, f"register_cmu_us_{voice}")
            register.restype, register.argtypes = ctypes.c_void_p, (ctypes.c_char_p,)
            self._voices[voice] = register(None)
        wave = self._library.flite_text_to_wave(text.encode("ascii"), self._voices[voice])
        try:
            if wave.contents.sample_rate != SAMPLE_RATE_HZ:
                raise ValueError(f"{voice} speaks at {wave.contents.sample_rate} Hz, not 16 kHz")
            samples = np.ctypeslib.as_array(wave.contents.samples, (wave.contents.num_samples,))
            return samples.copy()
        finally:
            self._library.delete_wave(wave)


def trim(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Cut silence at both ends to 40 ms before and 120 ms after the speech."""
    frames = np.abs(samples[: len(samples) // 80 * 80].astype(np.float32)).reshape(-1, 80).max(1)
    loud = np.flatnonzero(frames > 0.01 * max(frames.max(initial=0.0), 1.0))
    if not len(loud):
        return samples
    first = max(0, int(loud[0] * 80 - HEAD_S * SAMPLE_RATE_HZ))
    return samples[first : int((loud[-1] + 1) * 80 + TAIL_S * SAMPLE_RATE_HZ)]


def _work(jobs: multiprocessing.Queue, out: Path, folder: str) -> None:  # type: ignore[type-arg]
    flite = Flite(folder)
    while (job := jobs.get()) is not None:
        number, voice, sentences = job
        pieces, start, rows = [], 0, {"voice": [], "text": [], "start": [], "length": []}
        for text in sentences:
            samples = trim(flite.speak(text, voice))
            if not 0.15 <= len(samples) / SAMPLE_RATE_HZ <= LONGEST_S:
                continue
            for key, value in zip(rows, (voice, text, start, len(samples)), strict=True):
                rows[key].append(value)
            pieces.append(samples)
            start += len(samples)
        _write(out / f"shard-{number:04d}", np.concatenate(pieces), rows)


def _write(stem: Path, samples: npt.NDArray[np.int16], rows: dict[str, list[object]]) -> None:
    samples.tofile(stem.with_suffix(".pcm"))
    partial = stem.with_suffix(".tmp")
    partial.write_text(json.dumps(rows))
    partial.rename(stem.with_suffix(".json"))


def plan(sentences: Sequence[str], seed: int, others: int) -> list[tuple[int, str, list[str]]]:
    """Cut a corpus into (number, voice, sentences): every ``others``-th shard is another voice."""
    order = list(sentences)
    random.Random(seed).shuffle(order)
    chunks = [order[i : i + SENTENCES_PER_SHARD] for i in range(0, len(order), SENTENCES_PER_SHARD)]
    borrowed = chunks[:]
    random.Random(seed + 1).shuffle(borrowed)
    jobs: list[tuple[int, str, list[str]]] = []
    for i, chunk in enumerate(chunks):
        jobs.append((len(jobs), TEACHER, chunk))
        if others and i % others == 0:
            voice = OTHER_VOICES[(i // others) % len(OTHER_VOICES)]
            jobs.append((len(jobs), voice, borrowed[i]))
    return jobs


def main() -> None:
    """Fill a folder with shards."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--library", default="", help="folder of flite's libraries")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--others", type=int, default=3, help="one other voice per N teacher shards"
    )
    parser.add_argument("--limit", type=int, help="sentences at the most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    sentences = gzip.decompress(args.corpus.read_bytes()).decode("ascii").splitlines()
    jobs = plan(sentences[: args.limit], args.seed, args.others)
    queue: multiprocessing.Queue = multiprocessing.Queue()  # type: ignore[type-arg]
    workers = [
        multiprocessing.Process(target=_work, args=(queue, args.out, args.library), daemon=True)
        for _ in range(args.processes)
    ]
    # Whoever ends this process ends its workers, whatever they have not read.
    queue.cancel_join_thread()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    for job in jobs:
        queue.put(job)
    for worker in workers:
        queue.put(None)
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a flite process failed; see its message above")
    print(f"{len(jobs)} shards in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
