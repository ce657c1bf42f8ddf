"""Speech-like sound made of nothing: harmonics under moving formants, in syllables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

RATE = 16_000
Samples = npt.NDArray[np.float32]


def voice(duration_s: float = 4.0, seed: int = 0, peak: float = 0.5) -> Samples:
    """Return voiced syllables of random pitch and formants, with short pauses between."""
    rng = np.random.default_rng(seed)
    pieces: list[Samples] = [np.zeros(RATE // 20, np.float32)]
    while sum(map(len, pieces)) < duration_s * RATE:
        pieces += [_syllable(rng), np.zeros(int(rng.uniform(0.02, 0.08) * RATE), np.float32)]
    sound = np.concatenate(pieces)[: round(duration_s * RATE)]
    sound = sound + 1e-4 * rng.standard_normal(len(sound))
    return (peak * sound / np.abs(sound).max()).astype(np.float32)


def _syllable(rng: np.random.Generator) -> Samples:
    time = np.arange(int(rng.uniform(0.12, 0.30) * RATE)) / RATE
    pitch = rng.uniform(90, 180) * (1 + rng.uniform(-0.5, 0.5) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = rng.uniform([250, 800, 2000], [800, 2200, 3200])
    sound = np.zeros_like(time)
    for harmonic in range(1, 30):
        hertz = harmonic * pitch.mean()
        gain = sum(np.exp(-(((hertz - peak) / 150) ** 2)) for peak in formants) + 0.02
        sound += gain * np.sin(harmonic * phase)
    level = rng.uniform(0.4, 1.0) / np.abs(sound).max()
    return (level * sound * np.hanning(len(sound))).astype(np.float32)


def write(path: Path, samples: npt.ArrayLike, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    """Write a wav file and return its path."""
    soundfile.write(path, np.asarray(samples), rate, subtype=subtype)
    return path
