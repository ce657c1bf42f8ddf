"""What several benchmarks of the decoder share: samples, ratios by round, a report that grows."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import provenance
from evaluation.timing import quantile

Sample = dict[str, float]
Samples = dict[str, list[Sample]]


class Report:
    """A JSON file that is rewritten after every finished part, and the time that is left.

    Args:
        path: Where to write; None prints only.
        seconds: After so many seconds nothing is begun any more.
        header: What the file says first, beside its provenance.
        clock: Seconds, from any origin.
    """

    def __init__(
        self,
        path: Path | None,
        seconds: float,
        header: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path, self.seconds, self.clock, self.began = path, seconds, clock, clock()
        self.found: dict[str, Any] = {**provenance(), **header}

    def left_s(self, share: float = 1.0) -> float:
        """Return how many seconds of a share of the time are left."""
        return share * self.seconds - (self.clock() - self.began)

    def write(self) -> None:
        """Write what there is so far."""
        self.found["seconds"] = self.clock() - self.began
        if self.path is not None:
            beside = self.path.with_name(self.path.name + ".part")
            beside.write_text(json.dumps(self.found, indent=1) + "\n")
            beside.replace(self.path)

    def say(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        print(f"[{self.clock() - self.began:6.1f} s] {text}", flush=True)


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return n, p50, p95, min and max of at least one sample, and the samples."""
    return {
        "n": len(values),
        "p50": quantile(values, 0.50),
        "p95": quantile(values, 0.95),
        "min": min(values),
        "max": max(values),
        "samples": list(values),
    }


def ratios(old: Sequence[float], new: Sequence[float]) -> dict[str, Any] | None:
    """Return ``old / new`` round by round: n, median, min, max; None without a common round."""
    found = [a / b for a, b in zip(old, new, strict=False)]  # one may have failed half way
    if not found:
        return None
    return {
        "n": len(found),
        "median": quantile(found, 0.5),
        "min": min(found),
        "max": max(found),
        "rounds": found,
    }


def describe(error: Exception) -> str:
    """Return an error's type and the beginning of what it says."""
    return f"{type(error).__name__}: {str(error)[:400]}"


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what some work returns, or its error under ``error``: the rest must go on."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - one broken way must not stop the others
        return {"error": describe(error)}


def interleave(
    ways: Mapping[str, Callable[[int], Sample]],
    n_rounds: int,
    *,
    may_begin: Callable[[], bool],
    after_round: Callable[[Samples, dict[str, str]], None] | None = None,
) -> tuple[Samples, dict[str, str]]:
    """Run all ways in turn, round after round.

    Args:
        ways: Each is given the round's number, from 0. One that fails is left out from then on, so
            that the samples at one index are of one round.
        n_rounds: At the most.
        may_begin: Asked before every sample whether there is time.
        after_round: Given what there is after every round that was not cut short.

    Returns:
        The samples by way, and the errors of those that failed.
    """
    samples: Samples = {name: [] for name in ways}
    errors: dict[str, str] = {}
    for i in range(n_rounds):
        for name, run in ways.items():
            if name in errors:
                continue
            if not may_begin():
                return samples, errors
            try:
                samples[name].append(run(i))
            except Exception as error:  # noqa: BLE001 - one broken way must not stop the others
                errors[name] = describe(error)
        if after_round is not None:
            after_round(samples, errors)
    return samples, errors


def column(samples: Sequence[Sample], name: str) -> list[float]:
    """Return one quantity of every sample."""
    return [sample[name] for sample in samples]


def synchronise(device: torch.device) -> None:
    """Wait until a device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free(device: torch.device) -> None:
    """Give back the memory of what nobody holds any more, captured graphs among it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def milliseconds(work: Callable[[], Any], n: int, device: torch.device) -> float:
    """Return the mean time of ``n`` calls; on a GPU by its own clock, after one more call."""
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(n):
            work()
        return (time.perf_counter() - began) / n * 1e3
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    work()
    start.record()
    for _ in range(n):
        work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / n
