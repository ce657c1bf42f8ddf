"""Voices to try the gate on: our own and, where they are installed, flite's and espeak's.

flite and espeak say a sentence the same way every time. Their "other seeds" are therefore small
prosody jitters, drawn by voice, prompt and seed: 2 % of the tempo, and for slt and espeak 2 % of
the pitch (rms ignores flite's pitch settings). That is less than what a sampled voice varies by,
so their paired sigma is smaller than such a voice's, and is reported with every figure.
"""

from __future__ import annotations

import io
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.prompts import Prompt

SAMPLE_RATE_HZ = 16_000
JITTER = 0.02
ESPEAK_WORDS_PER_MINUTE, ESPEAK_PITCH = 175, 50
CPU_BATCH = 8

Float = npt.NDArray[np.float32]


class VoiceMissingError(RuntimeError):
    """A voice's program is not installed; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One prompt as a voice said it.

    Args:
        samples: Shape (n_samples,), 16 kHz.
        n_truncated: Sentences cut at the token cap.
        tokens: Speech tokens, sentence by sentence; empty where the voice has none.
    """

    samples: Float
    n_truncated: int = 0
    tokens: tuple[tuple[int, ...], ...] = ()


Speaker = Callable[[Sequence[Prompt], int], Iterator[Spoken]]


def speaker(name: str) -> Speaker:
    """Return what speaks prompts with a seed.

    Args:
        name: One of ``VOICES``.

    Raises:
        VoiceMissingError: Its program is not installed.
    """
    program, speak = VOICES[name]
    if program and shutil.which(program) is None:
        raise VoiceMissingError(f"left out, install {program} to have this voice")
    return speak


def speak_embedded(prompts: Sequence[Prompt], seed: int) -> Iterator[Spoken]:
    """Speak with the voice that ships with mosgate, on the CPU in batches of 8."""
    yield from speak_options(prompts, seed, {"batch_size": CPU_BATCH}, "cpu")


def speak_options(
    prompts: Sequence[Prompt], seed: int, options: Mapping[str, Any], device: str
) -> Iterator[Spoken]:
    """Speak with the embedded voice in one configuration.

    Args:
        prompts: What to say.
        seed: Of the first utterance; the next ones count on, as in a sweep.
        options: As in a trial's record; ``batch_size`` utterances are spoken at a time.
        device: ``cpu`` or ``cuda:0``.

    Raises:
        InapplicableError: The device cannot take an option.
    """
    from tts.build import build
    from tts.options import Options
    from tts.types import Utterance

    wanted = Options.from_mapping(options)
    synthesizer = build("embedded", wanted, device).synthesizer
    said = [Utterance(id=p.id, text=p.text, seed=seed + i) for i, p in enumerate(prompts)]
    size = wanted.batch_size
    for start in range(0, len(said), size):
        batch = said[start : start + size]
        # As in a sweep, a short last batch is filled up: its size is part of the configuration.
        filled = [batch[i % len(batch)] for i in range(size)]
        for audio in synthesizer.synthesize(filled)[: len(batch)]:
            yield Spoken(samples=audio.samples, n_truncated=audio.n_truncated, tokens=audio.tokens)


def flite(voice: str, has_pitch: bool) -> Speaker:
    """Return one of flite's voices as a speaker."""

    def speak(prompts: Sequence[Prompt], seed: int) -> Iterator[Spoken]:
        for prompt in prompts:
            tempo, pitch = _jitter(voice, prompt, seed)
            settings = ["--setf", f"duration_stretch={tempo:.4f}"]
            if has_pitch:
                settings += ["--setf", f"f0_shift={pitch:.4f}"]
            yield _run(["flite", "-voice", voice, *settings, "-t", _text(prompt), "-o"])

    return speak


def _espeak(prompts: Sequence[Prompt], seed: int) -> Iterator[Spoken]:
    for prompt in prompts:
        tempo, pitch = _jitter("espeak", prompt, seed)
        speed = f"{ESPEAK_WORDS_PER_MINUTE / tempo:.0f}"
        height = f"{ESPEAK_PITCH * pitch:.0f}"
        command = ["espeak-ng", "-v", "en-us", "-s", speed, "-p", height, _text(prompt), "-w"]
        yield _run(command)


VOICES: Mapping[str, tuple[str, Speaker]] = {
    "embedded": ("", speak_embedded),
    "flite_rms": ("flite", flite("rms", has_pitch=False)),
    "espeak_en_us": ("espeak-ng", _espeak),
    "flite_slt": ("flite", flite("slt", has_pitch=True)),
}
"""Name to (program that must be installed, speaker)."""


def _jitter(voice: str, prompt: Prompt, seed: int) -> tuple[float, float]:
    """Return factors of duration and pitch, each within 2 % of 1."""
    drawn = random.Random(f"{voice}/{prompt.id}/{seed}")
    return drawn.uniform(1 - JITTER, 1 + JITTER), drawn.uniform(1 - JITTER, 1 + JITTER)


def _text(prompt: Prompt) -> str:
    """Return the words to speak, spelled out: each program's own reading of digits differs."""
    from tts.embedded.text import normalise

    return str(normalise(prompt.text))


def _run(command: list[str]) -> Spoken:
    """Run a synthesizer that writes a wav file to its last argument; bring it to 16 kHz."""
    import soundfile
    import soxr

    done = subprocess.run([*command, "/dev/stdout"], capture_output=True, check=True)
    samples, rate_hz = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    if rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ)
    return Spoken(samples=np.clip(samples, -1, 1).astype(np.float32))
