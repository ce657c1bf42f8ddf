"""All training audio on the GPU as int16, filled while ``training.flite`` still speaks."""

from __future__ import annotations

import json
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HELD_OUT_MODULUS = 200


def is_held_out(text: str) -> bool:
    """Tell whether a sentence is kept for validation: about one in 200, by its checksum."""
    return zlib.crc32(text.encode()) % HELD_OUT_MODULUS == 0


class AudioStore:
    """Utterances of chosen voices in one device tensor.

    Args:
        folder: Where shards appear.
        device: Where the samples are kept.
        hours: Capacity; shards beyond it are left out.
        voices: Which voices to keep.
        held_out: Keep validation sentences instead of training ones.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        *,
        hours: float,
        voices: tuple[str, ...],
        held_out: bool = False,
    ) -> None:
        self.folder, self.device = folder, device
        self.voices, self.held_out = voices, held_out
        self.samples = torch.zeros(int(hours * 3600 * 16_000), dtype=torch.int16, device=device)
        self.used = 0
        self.texts: list[str] = []
        self._starts: list[int] = []
        self._lengths: list[int] = []
        self._seen: set[str] = set()
        self.starts = self.lengths = torch.zeros(0, dtype=torch.long, device=device)

    def poll(self, *, most: int = 40) -> int:
        """Take in up to ``most`` new shards; return how many."""
        fresh = [p for p in sorted(self.folder.glob("shard-*.json")) if p.name not in self._seen]
        for path in fresh[:most]:
            self._seen.add(path.name)
            self._take(path)
        if fresh:
            self.starts = torch.tensor(self._starts, dtype=torch.long, device=self.device)
            self.lengths = torch.tensor(self._lengths, dtype=torch.long, device=self.device)
        return min(len(fresh), most)

    def wait(self, hours: float, *, patience_s: float = 300.0) -> None:
        """Poll until at least ``hours`` are there.

        Raises:
            TimeoutError: Too little came in time.
        """
        began = time.monotonic()
        while self.poll() or self.used < hours * 3600 * 16_000:
            if time.monotonic() - began > patience_s:
                raise TimeoutError(
                    f"{self.folder}: {self.used / 57.6e6:.2f} h after {patience_s} s"
                )
            time.sleep(0.2)

    def _take(self, path: Path) -> None:
        rows = json.loads(path.read_text())
        pcm = np.fromfile(path.with_suffix(".pcm"), dtype=np.int16)
        pieces = []
        for voice, text, start, length in zip(
            rows["voice"], rows["text"], rows["start"], rows["length"], strict=True
        ):
            fits = self.used + length <= len(self.samples)
            if voice not in self.voices or is_held_out(text) != self.held_out or not fits:
                continue
            pieces.append(pcm[start : start + length])
            self._starts.append(self.used)
            self._lengths.append(length)
            self.texts.append(text)
            self.used += length
        if pieces:
            joined = torch.from_numpy(np.concatenate(pieces))
            self.samples[self.used - len(joined) : self.used].copy_(joined)

    def crops(self, n: int, size: int, generator: torch.Generator) -> Tensor:
        """Return random crops, shape (n, size), float32; short utterances are zero-padded."""
        rows = torch.randint(len(self.texts), (n,), generator=generator, device=self.device)
        room = (self.lengths[rows] - size).clamp(min=0) + 1
        draw = torch.rand(n, generator=generator, device=self.device)
        return self.gather(rows, (draw * room).long(), size)

    def gather(self, rows: Tensor, offsets: Tensor, size: int) -> Tensor:
        """Return ``size`` samples of each row from its offset (may be negative), zeros outside."""
        steps = offsets[:, None] + torch.arange(size, device=self.device)
        inside = (steps >= 0) & (steps < self.lengths[rows, None])
        index = (self.starts[rows, None] + steps).clamp(0, len(self.samples) - 1)
        return torch.where(inside, self.samples[index].float() / 32768, 0.0)
