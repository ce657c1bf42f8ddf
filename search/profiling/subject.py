"""The model under the profiler: built, warmed, called again and again."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from evaluation import resident
from evaluation.telemetry import Telemetry
from evaluation.timing import Measurement, measure
from search.benchmark import FIRST_SEED
from search.profiling.rates import rates
from search.profiling.record import NOT_ON_CPU, Figure, figure_of, unknown
from tts.build import build
from tts.device import DeviceCaps
from tts.options import Options
from tts.types import Audio, Built, Synthesizer, Utterance
from tts.validity import canonical

WARM_UP = 2
_OBSERVED_S = 2.0  # NVML averages over up to a second


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to profile.

    Args:
        model: As in ``tts.build.build``.
        options: What to run it with; each batch size has a canonical form of its own.
        device: As in ``tts.build.build``.
        texts: What the batches speak, in turn.
        seed: Of the first utterance.
        threads: CPU threads of one operation; 0 leaves it to torch.
        repeats: Timed calls, more where that leaves a text out.
        batch_sizes: Which to try; None doubles them while memory and time last.
        seconds: Time for the batch sizes.
    """

    model: str
    options: Options
    device: str
    texts: tuple[str, ...]
    seed: int = FIRST_SEED
    threads: int = 1
    repeats: int = 5
    batch_sizes: tuple[int, ...] | None = None
    seconds: float = 60.0

    def n_turns(self, batch_size: int) -> int:
        """Return after how many batches every text was spoken equally often."""
        return len(self.texts) // math.gcd(len(self.texts), batch_size)

    def utterances(self, batch_size: int, turn: int = 0) -> list[Utterance]:
        """Return the batch of one turn; after ``n_turns`` they come again, for the same work."""
        texts, first = self.texts, turn % self.n_turns(batch_size) * batch_size
        return [
            Utterance(id=f"profile-{i}", text=texts[i % len(texts)], seed=self.seed + i)
            for i in range(first, first + batch_size)
        ]


@dataclass(frozen=True, kw_only=True)
class Calls:
    """What a few calls of the warm model told.

    Args:
        latency: Seconds of each.
        told: Of each, seconds by stage.
        audios: What all of them said.
        figures: Rates, memory, and what the devices did meanwhile.
    """

    latency: Measurement
    told: Sequence[Mapping[str, float]]
    audios: Sequence[Audio]
    figures: Mapping[str, Figure] = field(default_factory=dict)


class Subject:
    """A built model.

    Args:
        plan: What to build and to speak.
        caps: Of the device.
        batch_size: Overrides the options'.
    """

    def __init__(self, plan: Plan, caps: DeviceCaps, batch_size: int | None = None) -> None:
        self.plan, self.caps = plan, caps
        self.batch_size = plan.options.batch_size if batch_size is None else batch_size
        self.n_turns = plan.n_turns(self.batch_size)
        self.options = canonical(replace(plan.options, batch_size=self.batch_size), caps)
        self.is_cuda = caps.type == "cuda"
        before = self._allocated()
        self.built: Built = build(plan.model, self.options, caps.torch_name)
        self.allocated_bytes = self._allocated() - before

    @property
    def synthesizer(self) -> Synthesizer:
        """The model."""
        return self.built.synthesizer

    def synchronise(self) -> None:
        """Wait until the device is idle."""
        if self.is_cuda:
            torch.cuda.synchronize(self.caps.torch_name)

    def utterances(self, turn: int = 0) -> list[Utterance]:
        """Return the batch of one turn."""
        return self.plan.utterances(self.batch_size, turn)

    def speak(self, turn: int = 0) -> list[Audio]:
        """Speak one turn's batch."""
        return self.synthesizer.synthesize(self.utterances(turn))

    def warm_up(self, turns: int = WARM_UP) -> None:
        """Compile, capture, and touch what the timed calls touch: every text."""
        for turn in range(max(turns, self.n_turns)):
            self.speak(turn)
        self.synchronise()

    def time_calls(self, repeats: int) -> Calls:
        """Time whole calls, of every text equally many, and keep what the model tells of each."""
        repeats = self.n_turns * math.ceil(repeats / self.n_turns)
        turns = itertools.count()
        told: list[Mapping[str, float]] = []
        audios: list[Audio] = []

        def keep(found: list[Audio]) -> None:
            audios.extend(found)
            told.append(self._stats())

        with self._peak() as peak:
            began, worked = time.perf_counter(), time.process_time()
            latency = measure(
                lambda: self.speak(next(turns)),
                repeats=repeats, warmup=0, synchronise=self.synchronise, on_result=keep,
            )  # fmt: skip
            cores = (time.process_time() - worked) / (time.perf_counter() - began)
        figures = {
            **rates(latency, audios), "memory.peak": peak[0], "cpu.cores_busy": Figure(value=cores)
        }  # fmt: skip
        return Calls(latency=latency, told=told, audios=tuple(audios), figures=figures)

    def observe_gpu(self) -> dict[str, Figure]:
        """Speak for a while under NVML's eyes."""
        names = {
            "gpu_utilization_pct": ("gpu.utilization", "%"),
            "gpu_power_w": ("gpu.power", "W"),
            "gpu_sm_clock_mhz": ("gpu.sm_clock", "MHz"),
        }
        if not self.is_cuda:
            return {name: unknown(NOT_ON_CPU, unit) for name, unit in names.values()}
        with Telemetry(self.caps.torch_name) as telemetry:
            until = time.perf_counter() + _OBSERVED_S
            for turn in itertools.count():
                self.speak(turn)
                if time.perf_counter() >= until:
                    break
            self.synchronise()
        seen, absent = telemetry.result(), telemetry.absent or "NVML does not tell it here"
        return {
            name: Figure(value=seen[key], unit=unit) if key in seen else unknown(absent, unit)
            for key, (name, unit) in names.items()
        }

    def time_first_audio(self, repeats: int) -> Figure:
        """Time the first chunk of one sentence's stream, after one that is not timed."""
        turns = itertools.count()

        def first() -> None:
            stream = self.synthesizer.stream(self.utterances(next(turns))[0])
            next(stream)
            close = getattr(stream, "close", None)
            if close is not None:
                close()

        try:
            found = measure(first, repeats=repeats, warmup=1, synchronise=self.synchronise)
        except (NotImplementedError, AttributeError) as error:
            return unknown(f"it does not stream: {type(error).__name__}: {error}", "s")
        except Exception as error:  # noqa: BLE001 - the rest of the profile does not need it
            return unknown(f"its stream failed: {type(error).__name__}: {error}", "s")
        return figure_of(found)

    def applied(self) -> dict[str, str]:
        """Return what each pass did, in words."""
        return {
            a.name: f"{a.value} ({a.n_modules} modules): {a.detail}" for a in self.built.applied
        }

    def observed(self) -> dict[str, str]:
        """Return what was seen after warm-up."""
        observe = getattr(self.synthesizer, "observed", None)
        seen = observe() if callable(observe) else {}
        return {**self.built.observed, **{str(k): str(v) for k, v in seen.items()}}

    def _stats(self) -> Mapping[str, float]:
        tell: Any = getattr(self.synthesizer, "stats", None)
        told = tell() if callable(tell) else {}
        return {name: float(value) for name, value in told.items() if name.endswith("_s")}

    def _allocated(self) -> int:
        return torch.cuda.memory_allocated(self.caps.torch_name) if self.is_cuda else 0

    @contextmanager
    def _peak(self) -> Iterator[list[Figure]]:
        """Give a list that holds, after the block, the most memory that was in use in it."""
        found: list[Figure] = []
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.caps.torch_name)
            yield found
            value: int | None = torch.cuda.max_memory_allocated(self.caps.torch_name)
        else:
            can_forget = resident.forget_peak()
            yield found
            value = resident.peak_bytes() if can_forget else None
        if value is None:
            found.append(unknown("this system does not tell a peak of its own for a call", "B"))
        else:
            found.append(Figure(value=float(value), unit="B"))
