"""How fast one built model is: the measuring half of a trial's process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from evaluation.telemetry import Telemetry, peak_rss_bytes
from evaluation.timing import Measurement, measure
from search.job import Job
from tts.types import Audio, Synthesizer, Utterance

# The seeds of timed utterances are the same in every trial, so all of them time the same work as
# far as the sampled lengths allow.
FIRST_SEED = 90_000
T = TypeVar("T")


class Benchmark:
    """Times batches of the options' size.

    Args:
        synthesizer: The model, not yet warm.
        job: Texts, repeats and warm-up.
        batch_size: Utterances per timed batch.
    """

    def __init__(self, synthesizer: Synthesizer, job: Job, batch_size: int) -> None:
        self.synthesizer, self.job, self.batch_size = synthesizer, job, batch_size
        self.cuda = job.device.startswith("cuda") or (
            job.device == "auto" and torch.cuda.is_available()
        )
        self.first_call_s = 0.0

    def warm_up(self) -> None:
        """Compile, capture and touch everything the timed calls touch."""
        # Every text once at least: a longer one may need another shape compiled.
        n_turns = max(self.job.warmup, -(-len(self.job.texts) // self.batch_size))
        for i in range(n_turns):
            start = time.perf_counter()
            self.synthesizer.synthesize(self.batch(i))
            self.synchronise()
            if i == 0:
                self.first_call_s = time.perf_counter() - start
        if self.job.measure_ttfa:
            self.first_chunk(self.batch(0)[0])

    def measure(self) -> tuple[dict[str, Any], dict[str, float]]:
        """Return raw samples per measurement, and the flat metrics."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        audios: list[Audio] = []
        with Telemetry(self.job.device) as telemetry:
            latency = self.time("latency_s", self.speak, audios.extend)
        found = [latency]
        if self.job.measure_ttfa:
            found.append(self.time("ttfa_s", lambda turn: self.first_chunk(self.batch(turn)[0])))
        metrics = {**telemetry.result(), **self.rates(latency, audios)}
        for m in found:
            stem = m.name.removesuffix("_s")
            metrics |= {f"{stem}_p50_s": m.p50, f"{stem}_p95_s": m.p95, f"{stem}_p99_s": m.p99}
        metrics["peak_memory_bytes"] = self.peak_memory_bytes()
        # A busy host explains a slow trial.
        metrics["host_load"] = os.getloadavg()[0]
        metrics["compile_s"] = max(0.0, self.first_call_s - latency.p50)
        return {m.name: m.to_mapping() for m in found}, metrics

    def time(
        self, name: str, run: Callable[[int], T], keep: Callable[[T], None] | None = None
    ) -> Measurement:
        """Time ``run(0)``, ``run(1)``, ...: each repeat has seeds of its own."""
        turns = iter(range(self.job.repeats))
        return measure(
            lambda: run(next(turns)),
            repeats=self.job.repeats,
            warmup=0,
            synchronise=self.synchronise,
            name=name,
            on_result=keep,
        )

    def rates(self, latency: Measurement, audios: list[Audio]) -> dict[str, float]:
        """Return what follows from the audio made in the time taken."""
        seconds = sum(latency.samples)
        audio_s = sum(audio.duration_s for audio in audios)
        rates = {
            "throughput_samples_per_s": len(audios) / seconds,
            "throughput_audio_s_per_s": audio_s / seconds,
            "tokens_per_s": sum(audio.n_tokens for audio in audios) / seconds,
            "measured_audio_s": audio_s,
        }
        return {**rates, "rtf": seconds / audio_s} if audio_s else rates

    def batch(self, turn: int) -> list[Utterance]:
        """Return the utterances of one repeat."""
        texts, first = self.job.texts, turn * self.batch_size
        return [
            Utterance(id=f"timed-{i}", text=texts[i % len(texts)], seed=FIRST_SEED + i)
            for i in range(first, first + self.batch_size)
        ]

    def speak(self, turn: int) -> list[Audio]:
        """Synthesize one repeat's batch."""
        return self.synthesizer.synthesize(self.batch(turn))

    def first_chunk(self, utterance: Utterance) -> None:
        """Stream until the first chunk is there, then hang up."""
        stream = self.synthesizer.stream(utterance)
        next(stream)
        close = getattr(stream, "close", None)
        if close is not None:
            close()

    def synchronise(self) -> None:
        """Wait until the device is idle."""
        if self.cuda:
            torch.cuda.synchronize()

    def peak_memory_bytes(self) -> float:
        """Peak device memory of the timed calls; on a CPU the process's peak resident set."""
        if self.cuda:
            return float(torch.cuda.max_memory_allocated())
        return peak_rss_bytes()
