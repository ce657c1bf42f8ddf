"""Training by the clock: how far along a run is, when to log and when to save."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Clock:
    """Progress of a run that must end after ``seconds`` or ``steps``, whichever comes first."""

    def __init__(self, seconds: float, steps: int | None = None) -> None:
        self.began = time.monotonic()
        self.seconds, self.steps, self.step = seconds, steps, 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    @property
    def progress(self) -> float:
        """How much of the run is done, in [0, 1]."""
        by_steps = self.step / self.steps if self.steps else 0.0
        return min(1.0, max(self.elapsed_s / self.seconds, by_steps))


def cosine(progress: float, *, peak: float, floor: float, warm_up: float = 0.0) -> float:
    """Learning rate: linear warm-up over the first share of the run, then a cosine to ``floor``."""
    if progress < warm_up:
        return peak * progress / warm_up
    along = (progress - warm_up) / (1 - warm_up)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * along))


class Average:
    """Exponential moving average of a module's parameters, updated in place on the device."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.source = list(module.parameters())
        self.names = [name for name, _ in module.named_parameters()]
        self.values = [p.detach().clone() for p in self.source]

    def update(self) -> None:
        """Move towards the present parameters."""
        torch._foreach_lerp_(self.values, [p.detach() for p in self.source], 1 - self.decay)

    def state(self) -> dict[str, Tensor]:
        """Return averaged parameters by name."""
        return dict(zip(self.names, self.values, strict=True))


class Ranks:
    """The processes that train one model together, by torch.distributed's variables; else alone.

    Args:
        device: This process's own.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.size, self.rank = int(os.environ.get("WORLD_SIZE", "1")), 0
        if self.size > 1:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            self.rank = dist.get_rank()

    def average(self, values: list[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.size == 1:
            return
        flat = torch._utils._flatten_dense_tensors(values)
        dist.all_reduce(flat)
        flat /= self.size
        torch._foreach_copy_(values, list(torch._utils._unflatten_dense_tensors(flat, values)))

    def agree(self, progress: float) -> float:
        """Return the mean of a number over the processes."""
        if self.size == 1:
            return progress
        value = torch.tensor([progress], dtype=torch.float64, device=self.device)
        dist.all_reduce(value)
        return value.item() / self.size


class Log:
    """A JSON-lines log beside a printed line."""

    def __init__(self, path: Path, name: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._name = path, name

    def __call__(self, **values: object) -> None:
        """Write one entry; tensors are read back, so call it rarely."""
        plain = {k: (v.item() if isinstance(v, Tensor) else v) for k, v in values.items()}
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in plain.items()}
        with self._path.open("a") as file:
            file.write(json.dumps(rounded) + "\n")
        print(self._name, *(f"{k}={v}" for k, v in rounded.items()), flush=True)


def save(path: Path, value: object) -> None:
    """Write a torch file whole or not at all."""
    partial = path.with_suffix(".tmp")
    torch.save(value, partial)
    partial.replace(path)
