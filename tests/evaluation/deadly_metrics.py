"""Metrics that misbehave on purpose, each on clips whose reference says so."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NoReturn

import numpy as np

from evaluation import judge_child
from evaluation.errors import MetricError
from evaluation.metrics.base import MetricSettings, Subject, Value


def _segfault() -> NoReturn:
    ctypes.string_at(0)
    raise AssertionError("unreachable")


def _hang_with_the_lock() -> None:
    ctypes.PyDLL(None).sleep(3600)


def _hoard() -> NoReturn:
    while True:
        HOARD.append(bytearray(2**28))


def _leak() -> None:
    LEAK.append(bytearray(7 * 2**28))


def _leak_in_c() -> NoReturn:
    """Allocate without end and, as C programs do, use what comes without looking at it."""
    c = ctypes.CDLL(None)
    c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    while True:
        ctypes.memset(c.malloc(2**28) or 0, 0, 1)


def _die_afterwards() -> None:
    """End the process when all is measured and the child is about to say so."""
    vars(judge_child).update(Finished=lambda: os._exit(7))


HOARD: list[bytearray] = []
LEAK: list[bytearray] = []
DEEDS: dict[str, Callable[[], object]] = {
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": _segfault,
    "hang": lambda: time.sleep(3600),
    "hang with the lock": _hang_with_the_lock,
    "hoard": _hoard,
    "leak": _leak,
    "leak in c": _leak_in_c,
    "die afterwards": _die_afterwards,
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


class Hungry(Deadly):
    """Needs 2 GiB for a moment, as a large recogniser may."""

    def __call__(self, subject: Subject) -> Mapping[str, Value]:
        return {"hungry": float(len(bytearray(2**31)))}


class UnguardedPesq(Deadly):
    """The library itself, on whatever it is given, as somebody's own metric may call it."""

    def __init__(self, settings: MetricSettings) -> None:
        import pesq

        self.pesq = pesq.pesq

    def __call__(self, subject: Subject) -> Mapping[str, Value]:
        return {"unguarded_pesq": float(self.pesq(16_000, subject.samples, subject.samples, "wb"))}

    def provenance(self) -> Mapping[str, str]:
        return {}


class UnguardedDnsmos(Deadly):
    """speechmos itself, on empty clips only; its networks are loaded at once."""

    def __init__(self, settings: MetricSettings) -> None:
        from speechmos import dnsmos

        self.run = dnsmos.run
        with suppress(ValueError):  # after loading, for a sample beyond full scale
            self.run(np.full(1, 2.0), 16_000)

    def __call__(self, subject: Subject) -> Mapping[str, Value]:
        if len(subject.samples):
            return {}
        return {"unguarded_ovrl": float(self.run(subject.samples, 16_000)["ovrl_mos"])}

    def provenance(self) -> Mapping[str, str]:
        return {}


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
