"""The judge's child process: load the metrics once, then measure clip after clip.

It speaks over the one descriptor it is given and never over its standard output.
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import SupportsFloat

from evaluation.audio import SAMPLE_RATE_HZ, read_clip
from evaluation.errors import EvaluationError, MetricError
from evaluation.memory import KEPT_BYTES, bound_memory, data_bytes
from evaluation.metrics.base import Metric, MetricSettings, Subject, Value
from evaluation.metrics.registry import load
from evaluation.provenance import describe
from evaluation.scores import Clip

AUDIO = "audio"
"""The step before the metrics: reading the file."""

_LAST_RESORT_S = 30.0
"""The parent ends a hanging child at the deadline; the child ends itself this much later."""


@dataclass(frozen=True)
class Job:
    """What the parent sends: a clip and what to measure on it, each within a deadline."""

    clip: Clip
    metrics: tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True)
class Ready:
    """The metrics are loaded."""

    provenance: Mapping[str, str]


@dataclass(frozen=True)
class Unloadable:
    """A metric that was asked for does not load: no clip can be judged."""

    reason: str


@dataclass(frozen=True)
class Started:
    """A step has begun: its deadline runs from here."""

    step: str


@dataclass(frozen=True)
class Measured:
    """A step is over: values, or the reason why there are none."""

    step: str
    values: Mapping[str, Value]
    failure: str | None
    seconds: float


@dataclass(frozen=True)
class Finished:
    """The clip is done and the child is free."""


@dataclass(frozen=True)
class Retired:
    """The child ends: since a step it holds too much memory. What is left is another's to do."""

    step: str


Report = Ready | Unloadable | Started | Measured | Finished | Retired


def main(channel_fd: int, lifeline_fd: int, asr: str, metrics: Sequence[str]) -> None:
    """Serve jobs until the parent closes the channel, or memory has leaked away.

    Args:
        channel_fd: A socket to the parent: jobs come, reports go.
        lifeline_fd: A pipe that the parent holds open as long as it lives.
        asr: The recogniser's name.
        metrics: What to load.
    """
    # Ctrl-C reaches the whole process group; the parent decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    threading.Thread(target=_end_with_parent, args=(lifeline_fd,), daemon=True).start()
    channel: Connection[Report, Job] = Connection(channel_fd)
    try:
        loaded = {name: load(name, MetricSettings(asr=asr)) for name in metrics}
        provenance = _provenance(loaded)
    except EvaluationError as error:
        channel.send(Unloadable(str(error)))
        return
    most_bytes = bound_memory() + KEPT_BYTES
    channel.send(Ready(provenance))
    while True:
        try:
            job = channel.recv()
        except EOFError:
            return
        if not _serve(job, loaded, channel, most_bytes):
            return


def _serve(
    job: Job, loaded: Mapping[str, Metric], channel: Connection[Report, Job], most_bytes: int
) -> bool:
    """Read one clip and measure it, reporting each step as it begins and ends.

    Returns:
        False when the child has retired.
    """
    subject: list[Subject] = []

    def read() -> Mapping[str, Value]:
        samples = read_clip(job.clip.wav_path)
        subject.append(Subject(clip=job.clip, samples=samples))
        return {"duration_s": len(samples) / SAMPLE_RATE_HZ}

    _step(AUDIO, read, job.timeout_s, channel)
    if subject:
        for name in job.metrics:
            _step(name, partial(loaded[name], subject[0]), job.timeout_s, channel)
            if data_bytes() > most_bytes:
                channel.send(Retired(name))
                return False
    channel.send(Finished())
    return True


def _step(
    name: str,
    run: Callable[[], Mapping[str, Value]],
    timeout_s: float,
    channel: Connection[Report, Job],
) -> None:
    """Run one step and report it; whatever it raises is its failure and not the child's end."""
    channel.send(Started(name))
    # A library that holds the interpreter's lock would outlive a parent that was killed.
    faulthandler.dump_traceback_later(timeout_s + _LAST_RESORT_S, exit=True)
    began = time.perf_counter()
    values: Mapping[str, Value] = {}
    failure = None
    try:
        values = {key: _usable(key, value) for key, value in run().items()}
    except EvaluationError as error:
        failure = str(error)
    except Exception as error:  # noqa: BLE001 - a metric of anybody's may raise anything
        failure = f"{type(error).__name__}: {error}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    channel.send(Measured(name, values, failure, time.perf_counter() - began))


def _usable(name: str, value: Value) -> Value:
    """Return a value as a record can keep it.

    Raises:
        MetricError: It is not finite, or no number where a number is expected.
    """
    if name == "transcript" and isinstance(value, str):
        return value
    if name == "guards" and isinstance(value, tuple):
        return value
    if not isinstance(value, SupportsFloat):
        raise MetricError(f"{name} is {value!r}: expected a number")
    number = float(value)
    if not math.isfinite(number):
        raise MetricError(f"{name} is {number}: not finite")
    return value if isinstance(value, int) else number


def _provenance(loaded: Mapping[str, Metric]) -> dict[str, str]:
    """Return the digest of the code that scores, and what all the metrics say of themselves."""
    merged = describe(loaded.values())
    for metric in loaded.values():
        merged.update(metric.provenance())
    return merged


def _end_with_parent(lifeline_fd: int) -> None:
    """Wait for the parent's end of the pipe to close, then end at once, whatever is running."""
    os.read(lifeline_fd, 1)
    os._exit(0)
