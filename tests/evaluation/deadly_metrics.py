"""Metrics that misbehave on purpose, each on clips whose reference says so."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from evaluation.errors import MetricError
from evaluation.metrics.base import MetricSettings, Subject, Value


def _segfault() -> NoReturn:
    ctypes.string_at(0)
    raise AssertionError("unreachable")


def _hang_with_the_lock() -> None:
    ctypes.PyDLL(None).sleep(3600)


DEEDS: dict[str, Callable[[], object]] = {
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": _segfault,
    "hang": lambda: time.sleep(3600),
    "hang with the lock": _hang_with_the_lock,
    "exit": lambda: os._exit(7),
    "print": lambda: print("noise on standard output", flush=True),
}


class Deadly:
    """Does what the reference says; measures ``pid``, an extra value."""

    def __init__(self, settings: MetricSettings) -> None:
        self.asr = settings.asr

    def __call__(self, subject: Subject) -> Mapping[str, Value]:
        wish = subject.clip.reference
        if wish == "refuse":
            raise MetricError("no, thank you")
        if wish == "raise":
            raise ZeroDivisionError("oops")
        if wish == "memory":
            raise MemoryError
        if wish == "nan":
            return {"pid": math.nan}
        if wish == "words":
            return {"pid": "seven"}
        if wish in DEEDS:
            DEEDS[wish]()
        return {"pid": float(os.getpid()), "cuda": float(os.environ["CUDA_VISIBLE_DEVICES"] != "")}

    def provenance(self) -> Mapping[str, str]:
        return {"deadly": "1", "asr": self.asr}


class Harmless(Deadly):
    """A second metric that always works, to see that it still runs."""

    def __call__(self, subject: Subject) -> Mapping[str, Value]:
        return {"harmless": 1.0}


class Broken(Deadly):
    """Cannot be constructed."""

    def __init__(self, settings: MetricSettings) -> None:
        raise OSError("no weights")


class Stillborn(Deadly):
    """Ends its process while loading."""

    def __init__(self, settings: MetricSettings) -> None:
        print("a last word", file=sys.stderr, flush=True)
        os._exit(3)


class NoMetric:
    """Lacks all that makes a metric."""

    def __init__(self, settings: MetricSettings) -> None:
        pass
