"""Speech for the ear: shards taken onto the device while they appear, and windows made of them."""

from __future__ import annotations

import json
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.audio_store import is_held_out
from training.ear_text import Vocabulary, character_ids, spoken_words

SAMPLE_RATE_HZ = 16_000
TEACHER = "rms"
MAX_ROWS = 96
MAX_CHARACTERS = 300
POLL_S = 2.0

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """One window length, with the most utterances and vocabulary rows it takes."""

    name: str
    seconds: int
    n_pieces: int
    n_rows: int

    @property
    def n_samples(self) -> int:
        """Samples in a window."""
        return self.seconds * SAMPLE_RATE_HZ


SHORT = Bucket(name="short", seconds=5, n_pieces=1, n_rows=32)
MEDIUM = Bucket(name="medium", seconds=10, n_pieces=4, n_rows=64)
LONG = Bucket(name="long", seconds=30, n_pieces=12, n_rows=176)
BUCKETS = (SHORT, MEDIUM, LONG)


@dataclass(kw_only=True)
class Windows:
    """A batch of windows, on the host.

    Args:
        offset: Where pieces start in their window, (batch, n_pieces), samples, ascending.
        source: Where they start in the corpus, (batch, n_pieces), samples.
        length: Their source samples, (batch, n_pieces); 0 for a piece that is not there.
        speed: Source samples per window sample, (batch, 1).
        content: Samples up to the end of the content, (batch,).
        rows: Decoder input and target, (batch, n_rows + 1), -1 where there is none.
        characters: CTC targets, (batch, longest).
        n_characters: Their lengths, (batch,).
        is_teacher: Whether every piece is the teacher's, (batch,).
    """

    offset: Ints
    source: Ints
    length: Ints
    speed: npt.NDArray[np.float32]
    content: Ints
    rows: Ints
    characters: Ints
    n_characters: Ints
    is_teacher: npt.NDArray[np.bool_]


class Corpus:
    """All utterances: samples on the device as int16, texts on the host.

    Args:
        folder: Where ``shard-*.json`` and ``shard-*.pcm`` appear.
        device: Where the samples are kept.
        hours: Capacity; later shards are left out.
        vocabulary: How words are spelled.
    """

    def __init__(
        self, folder: Path, device: torch.device, hours: float, vocabulary: Vocabulary
    ) -> None:
        self.folder, self.device, self.vocabulary = folder, device, vocabulary
        size = int(hours * 3600 * SAMPLE_RATE_HZ)
        self.samples = torch.zeros(size + 1, dtype=torch.int16, device=device)
        self.used, self.n_skipped, self.is_full = 0, 0, False
        self.words: list[str] = []
        self.start = np.zeros(0, dtype=np.int64)
        self.length, self.n_rows = self.start.copy(), self.start.copy()
        self.is_teacher, self.is_validation = np.zeros(0, bool), np.zeros(0, bool)
        self._ready: queue.Queue[tuple[Tensor, dict[str, list[object]]]] = queue.Queue(maxsize=8)
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def hours(self) -> float:
        """Hours of audio taken in."""
        return self.used / SAMPLE_RATE_HZ / 3600

    def poll(self, most: int = 2) -> int:
        """Take in shards that the reading thread has prepared; return how many."""
        taken = []
        while len(taken) < most and not self.is_full:
            try:
                samples, columns = self._ready.get_nowait()
            except queue.Empty:
                break
            if self.used + len(samples) >= len(self.samples):
                self.is_full = True
                break
            self.samples[self.used : self.used + len(samples)].copy_(samples, non_blocking=True)
            columns["start"] = [int(s) + self.used for s in columns["start"]]  # type: ignore[call-overload]
            self.used += len(samples)
            taken.append(columns)
        for columns in taken:
            self.words += columns["words"]  # type: ignore[arg-type]
            for name in ("start", "length", "n_rows", "is_teacher", "is_validation"):
                old = getattr(self, name)
                new = np.array(columns[name], dtype=old.dtype)
                setattr(self, name, np.concatenate([old, new]))
        return len(taken)

    def wait(self, hours: float, patience_s: float) -> None:
        """Poll until at least ``hours`` of audio are there.

        Raises:
            TimeoutError: Nothing at all came in time; less than ``hours`` is made do with.
        """
        began = time.monotonic()
        while self.hours < hours and not self.is_full:
            if not self.poll():
                time.sleep(0.1)
            if time.monotonic() - began > patience_s:
                if not len(self.words):
                    raise TimeoutError(f"{self.folder}: no complete shard after {patience_s:.0f} s")
                return

    def _read(self) -> None:
        seen: set[str] = set()
        while True:
            fresh = [p for p in sorted(self.folder.glob("shard-*.json")) if p.name not in seen]
            for path in fresh:
                seen.add(path.name)
                try:
                    self._ready.put(self._parse(path))
                except (OSError, ValueError, KeyError) as error:
                    print(f"ear: {path}: left out: {error!r}", flush=True)
            time.sleep(POLL_S)

    def _parse(self, path: Path) -> tuple[Tensor, dict[str, list[object]]]:
        shard = json.loads(path.read_text())
        pcm = torch.from_numpy(np.fromfile(path.with_suffix(".pcm"), dtype=np.int16))
        names = ("words", "start", "length", "n_rows", "is_teacher", "is_validation")
        columns: dict[str, list[object]] = {name: [] for name in names}
        for voice, text, start, length in zip(
            shard["voice"], shard["text"], shard["start"], shard["length"], strict=True
        ):
            words = spoken_words(text)
            rows = len(self.vocabulary.encode(words)) if words else 0
            too_long = rows > MAX_ROWS or len(words or "") > MAX_CHARACTERS
            if not words or too_long or start + length > len(pcm):
                self.n_skipped += 1
                continue
            values = (words, start, length, rows, voice == TEACHER, is_held_out(text))
            for name, value in zip(names, values, strict=True):
                columns[name].append(value)
        if self.device.type == "cuda":
            pcm = pcm.pin_memory()
        return pcm, columns

    def audio(self, windows: Windows, bucket: Bucket) -> Tensor:
        """Cut windows out of the corpus, shape (batch, n_samples), float32 in [-1, 1]."""
        offset, source, length, speed = (
            on_device(a, self.device)
            for a in (windows.offset, windows.source, windows.length, windows.speed)
        )
        time_ = torch.arange(bucket.n_samples, device=self.device).expand(len(offset), -1)
        piece = torch.searchsorted(offset, time_.contiguous(), right=True) - 1
        inside = piece >= 0
        piece = piece.clamp(min=0)
        position = (time_ - offset.gather(1, piece)).float() * speed
        inside &= position < length.gather(1, piece) - 1
        whole = position.floor()
        index = (source.gather(1, piece) + whole.long()).clamp(0, len(self.samples) - 2)
        audio = self.samples[index].float()
        if (windows.speed != 1.0).any():
            audio = torch.lerp(audio, self.samples[index + 1].float(), position - whole)
        return torch.where(inside, audio / 32768, 0.0)


def on_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Copy a small array to the device without waiting for what the device is doing."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


class Composer:
    """Chooses what goes into a batch of windows.

    Args:
        corpus: Where utterances come from; looked at anew for every batch.
        seed: Of the choices.
        teacher_share: Share of utterances that are the teacher's.
    """

    def __init__(self, corpus: Corpus, seed: int, teacher_share: float = 0.6) -> None:
        self.corpus, self.teacher_share = corpus, teacher_share
        self.random = np.random.default_rng(seed)
        self._pools: dict[tuple[str, bool], Ints] = {}
        self._pooled = -1

    def draw(self, bucket: Bucket, batch: int, *, loose: float = 0.0) -> Windows:
        """Compose a batch.

        Args:
            bucket: The window.
            batch: How many windows.
            loose: Share of windows with another speed, silence around the speech, several
                utterances, or nothing said; 0 gives one utterance at the start of each window.
        """
        self._refresh()
        chosen = [self._window(bucket, loose) for _ in range(batch)]
        return self.windows(bucket, chosen)

    def windows(self, bucket: Bucket, chosen: list[tuple[list[int], float]]) -> Windows:
        """Lay out given utterances: (utterances of a window, speed) per window."""
        corpus, vocabulary, n = self.corpus, self.corpus.vocabulary, len(chosen)
        shape = (n, bucket.n_pieces)
        offset = np.full(shape, bucket.n_samples + 1, dtype=np.int64)
        source, length = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        content, rows = np.zeros(n, np.int64), np.full((n, bucket.n_rows + 1), -1, np.int64)
        speeds = np.ones((n, 1), np.float32)
        spelled: list[list[int]] = []
        for i, (utterances, speed) in enumerate(chosen):
            speeds[i] = speed
            end, room = 0, bucket.n_samples
            spoken = sum(int(corpus.length[u] / speed) + 1 for u in utterances)
            for j, u in enumerate(utterances):
                end += self._gap(room - spoken, len(utterances) > 1, j) if speed != 1.0 or j else 0
                offset[i, j], source[i, j], length[i, j] = end, corpus.start[u], corpus.length[u]
                end += int(corpus.length[u] / speed) + 1
                room, spoken = bucket.n_samples - end, spoken - int(corpus.length[u] / speed) - 1
            tail = self._gap(room, False, 0) if speed != 1.0 else 0
            content[i] = min(end + tail, bucket.n_samples)
            words = " ".join(corpus.words[u] for u in utterances)
            spelled.append(character_ids(words))
            if utterances:
                line = [vocabulary.sot, vocabulary.no_timestamps, *vocabulary.encode(words)]
            else:
                content[i] = self.random.integers(SAMPLE_RATE_HZ, bucket.n_samples)
                line = [vocabulary.sot, vocabulary.no_timestamps]
            line.append(vocabulary.eot)
            rows[i, : len(line)] = line
        characters = np.zeros((n, max(1, *map(len, spelled))), np.int64)
        for i, ids in enumerate(spelled):
            characters[i, : len(ids)] = ids
        teacher = np.array([all(corpus.is_teacher[u] for u in chosen[i][0]) for i in range(n)])
        return Windows(
            offset=offset, source=source, length=length, speed=speeds, content=content, rows=rows,
            characters=characters, n_characters=np.array([len(s) for s in spelled]),
            is_teacher=teacher,
        )  # fmt: skip

    def _refresh(self) -> None:
        corpus = self.corpus
        if self._pooled == len(corpus.words):
            return
        self._pooled = len(corpus.words)
        for bucket in BUCKETS:
            fits = corpus.length / 0.92 < bucket.n_samples - SAMPLE_RATE_HZ // 10
            fits &= (corpus.n_rows <= bucket.n_rows - 3) & ~corpus.is_validation
            for is_teacher in (True, False):
                pool = np.flatnonzero(fits & (corpus.is_teacher == is_teacher))
                self._pools[bucket.name, is_teacher] = pool

    def _one(self, bucket: Bucket) -> int:
        wanted = bool(self.random.random() < self.teacher_share)
        for is_teacher in (wanted, not wanted):
            pool = self._pools[bucket.name, is_teacher]
            if len(pool):
                return int(pool[self.random.integers(len(pool))])
        raise ValueError(f"no utterance fits a window of {bucket.seconds} s")

    def _window(self, bucket: Bucket, loose: float) -> tuple[list[int], float]:
        if self.random.random() < 0.02 * min(1.0, loose * 2):
            return [], 1.0
        # A speed that differs from 1 also marks a window that may have silence around its speech.
        speed = float(self.random.uniform(0.92, 1.08)) if self.random.random() < loose else 1.0
        utterances = [self._one(bucket)]
        if self.random.random() < max(loose, 0.5):
            self._fill(bucket, utterances, speed)
        return utterances, speed

    def _fill(self, bucket: Bucket, utterances: list[int], speed: float) -> None:
        corpus = self.corpus
        limit = self.random.uniform(0.4, 0.97) * bucket.n_samples
        while len(utterances) < bucket.n_pieces:
            more = self._one(bucket)
            pieces = [*utterances, more]
            gaps = 0.8 * SAMPLE_RATE_HZ * len(pieces)
            if sum(corpus.length[u] for u in pieces) / speed + gaps > limit:
                return
            if sum(corpus.n_rows[u] for u in pieces) + 3 > bucket.n_rows:
                return
            utterances.append(more)

    def _gap(self, room: int, several: bool, j: int) -> int:
        """Draw a silence before a piece, in samples."""
        longest = 0.7 if several and j else 0.4
        return int(min(max(0, room), self.random.uniform(0.0, longest) * SAMPLE_RATE_HZ))
