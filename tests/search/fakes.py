"""A voice that needs no weights and fails on demand, and a scorer that needs no models.

The temperature says what the voice does wrong; everything else about it works.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from evaluation.canaries import CANARIES
from evaluation.features import measure_features
from evaluation.guards import Limits, clip_trips
from evaluation.scores import Clip, UtteranceScores
from tts.errors import InapplicableError
from tts.options import Options
from tts.types import (
    Applied,
    Audio,
    AudioChunk,
    Built,
    GivenSentence,
    LogProbs,
    Samples,
    Utterance,
)

RATE_HZ = 16_000
FINE, POOR = 0.7, 0.9
REFUSED, OUT_OF_MEMORY, LIMITED, ABORT, HANG, SILENT, RAISE = (
    0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.17,
)  # fmt: skip
HANG_AND_IGNORE, ONCE, FULL_DISK, KILLED, BABBLE, MUTINOUS = 0.18, 0.19, 0.21, 0.22, 0.23, 0.24
END = 7  # the end-of-speech token
SPEED = {"none": 0.03, "default": 0.01, "max-autotune": 0.02}


class FakeVoice:
    """An adapter: a tone per utterance, with a delay that depends on the compile mode."""

    def build(self, options: Options, device: str) -> Built:
        fault = options.sampling.temperature
        broken = os.environ.get("MOSGATE_TEST_BROKEN")
        if broken and Path(broken).exists():
            raise ImportError("libnowhere.so: cannot open shared object file")
        if fault == REFUSED:
            raise InapplicableError("temperature", fault, "this voice is too shy")
        if fault == LIMITED:
            _exceed_the_address_space()
        if fault == FULL_DISK:
            _fill_the_disk()
        applied = Applied(name="compile", value=options.compile, n_modules=1, detail="a tone")
        return Built(synthesizer=_Tone(options), applied=(applied,), load_s=0.01)


class MuteVoice(FakeVoice):
    """One that does not tell its probabilities."""

    def build(self, options: Options, device: str) -> Built:
        built = super().build(options, device)
        return replace(built, synthesizer=_Mute(options))


class _Tone:
    sample_rate_hz = RATE_HZ
    end_token = END

    def __init__(self, options: Options) -> None:
        self.options = options
        self.fault = options.sampling.temperature

    def synthesize(self, utterances: Sequence[Utterance]) -> list[Audio]:
        _fail(self.fault)
        if self.fault == MUTINOUS and not utterances[0].id.startswith("timed-"):
            os.abort()  # it lets itself be timed, and dies when it is to speak
        time.sleep(SPEED[self.options.compile])
        return [
            Audio(
                utterance_id=u.id,
                samples=self._tone(u.seed),
                sample_rate_hz=RATE_HZ,
                tokens=((u.seed % 7, 1, 2),),
            )
            for u in utterances
        ]

    def stream(self, utterance: Utterance) -> Iterator[AudioChunk]:
        yield AudioChunk(samples=self._tone(0), sample_rate_hz=RATE_HZ, is_last=True)

    def render(self, tokens: Sequence[Sequence[int]]) -> Samples:
        return self._tone(tokens[0][0])

    def log_probabilities(self, given: Sequence[GivenSentence]) -> Iterator[LogProbs]:
        """Sure of the given tokens, but for one fault, which is sure of others."""
        for sentence in given:
            targets = np.array([*sentence.tokens, END])
            if self.fault == BABBLE:
                targets = (targets + 1) % (END + 1)
            likely = np.eye(END + 1)[targets] * 0.92 + 0.01
            yield np.log(likely).astype(np.float32)

    def observed(self) -> dict[str, str]:
        return {"kernel": "none"}

    def _tone(self, seed: int) -> Samples:
        level = {SILENT: 0.0, POOR: 0.1}.get(self.fault, 0.5)
        phase = np.arange(RATE_HZ // 2) * (200 + seed % 50) * 2 * np.pi / RATE_HZ
        # The compile mode leaves a trace, so that not all audio is the same.
        trace = 0.001 * list(SPEED).index(self.options.compile)
        return ((level - trace if level else 0.0) * np.sin(phase)).astype(np.float32)


class _Mute(_Tone):
    log_probabilities = None  # type: ignore[assignment]


def _fail(fault: float) -> None:
    if fault == OUT_OF_MEMORY:
        raise torch.OutOfMemoryError("tried to allocate 80.00 GiB")
    if fault == ABORT:
        os.abort()
    if fault == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == HANG:
        time.sleep(3600)
    if fault == HANG_AND_IGNORE:
        _sleep_through_sigterm()
    if fault == RAISE:
        raise ValueError("the tone is flat")
    if fault == ONCE:
        flag = Path(os.environ["MOSGATE_TEST_FLAG"])
        if not flag.exists():
            flag.touch()
            raise RuntimeError("CUDA error: unspecified launch failure")


def _exceed_the_address_space() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))
    torch.empty(1 << 36, dtype=torch.uint8)


def _fill_the_disk() -> None:
    """Refuse files above 20 kB: a write beyond it fails as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def _sleep_through_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)


class FakeScorer:
    """Scores by level: loud is good, and the same each time.

    Args:
        deaf_to: Names of canaries whose damage it does not hear.
    """

    def __init__(self, deaf_to: Sequence[str] = ()) -> None:
        self.n_scored = 0
        self.bad = {c.name for c in CANARIES if not c.harmless} - set(deaf_to)

    def score(
        self,
        clips: Sequence[Clip],
        *,
        on_progress: Callable[[int, int], None] | None = None,
        metrics: Sequence[str] | None = None,
    ) -> list[UtteranceScores]:
        found = []
        for clip in clips:
            found.append(self._one(clip))
            self.n_scored += 1
            if on_progress is not None:
                on_progress(len(found), len(clips))
        return found

    def provenance(self) -> Mapping[str, str]:
        return {"fake": "1"}

    def _one(self, clip: Clip) -> UtteranceScores:
        samples, _ = soundfile.read(clip.wav_path, dtype="float32")
        level = float(np.abs(samples).max())
        mos = 3.0 if level > 0.2 else 2.0
        # A canary's copies lie in a folder of its name.
        mos = 1.5 if clip.wav_path.parent.name in self.bad else mos
        mos += (sum(clip.utterance_id.encode()) % 10) / 100
        guards = () if level else clip_trips(measure_features(samples), 0, Limits())
        return UtteranceScores(
            utterance_id=clip.utterance_id,
            duration_s=len(samples) / RATE_HZ,
            dnsmos_ovrl=mos,
            dnsmos_p808=mos + 0.2,
            dnsmos_sig=mos,
            dnsmos_bak=mos,
            wer_errors=0,
            wer_words=6,
            transcript=clip.reference,
            pesq_wb=4.5 if clip.render_path else None,
            noise_floor_dbfs=-60.0,
            guards=guards,
        )
