"""Ways to damage clean speech for the damage curve, each at several depths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
Float = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One way to damage speech.

    Args:
        name: As it stands in the result.
        axis: What the depth means, for the figure.
        depths: From harmless to severe.
        apply: (samples, depth, random generator) to samples of the same length.
    """

    name: str
    axis: str
    depths: tuple[float, ...]
    apply: Callable[[Float, float, np.random.Generator], Float]


def white_noise(samples: Float, snr_db: float, random: np.random.Generator) -> Float:
    """Add white noise at a signal-to-noise ratio."""
    return samples + _scaled(random.normal(size=len(samples)), samples, snr_db)


def pink_noise(samples: Float, snr_db: float, random: np.random.Generator) -> Float:
    """Add 1/f noise at a signal-to-noise ratio."""
    spectrum = np.fft.rfft(random.normal(size=len(samples)))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 8))
    return samples + _scaled(np.fft.irfft(spectrum, n=len(samples)), samples, snr_db)


def low_pass(samples: Float, cutoff_hz: float, random: np.random.Generator) -> Float:
    """Remove what lies above a cutoff, with an eighth-order slope."""
    del random
    spectrum = np.fft.rfft(samples)
    frequency = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ)
    spectrum /= np.sqrt(1 + (frequency / cutoff_hz) ** 16)
    return np.fft.irfft(spectrum, n=len(samples)).astype(np.float32)


def clipping(samples: Float, overdrive_db: float, random: np.random.Generator) -> Float:
    """Drive the peak that far above full scale and clip."""
    del random
    limit = np.abs(samples).max() * 10 ** (-overdrive_db / 20)
    return np.clip(samples, -limit, limit)


def mu_law(samples: Float, bits: float, random: np.random.Generator) -> Float:
    """Quantise on a mu-law scale of so many bits."""
    del random
    peak = max(float(np.abs(samples).max()), 1e-9)
    steps = 2 ** (bits - 1)
    compressed = np.sign(samples) * np.log1p(255 * np.abs(samples) / peak) / np.log(256)
    rounded = np.round(compressed * steps) / steps
    restored = np.sign(rounded) * np.expm1(np.abs(rounded) * np.log(256)) / 255 * peak
    return restored.astype(np.float32)


def _scaled(noise: npt.NDArray[np.float64], samples: Float, snr_db: float) -> Float:
    wanted = np.mean(np.square(samples, dtype=np.float64)) * 10 ** (-snr_db / 10)
    return (noise * np.sqrt(wanted / np.mean(np.square(noise)))).astype(np.float32)


WHITE_SNRS_DB = (40.0, 30.0, 20.0, 15.0, 10.0, 5.0, 0.0, -5.0)
PINK_SNRS_DB = (20.0, 10.0, 5.0, 0.0, -5.0)
CUTOFFS_HZ = (6000, 4000, 3000, 2000, 1000)
OVERDRIVES_DB = (3, 10, 20, 30, 40)
BITS = (8, 6, 5, 4, 3)
CURVES = (
    Damage(name="white noise", axis="SNR, dB", depths=WHITE_SNRS_DB, apply=white_noise),
    Damage(name="pink noise", axis="SNR, dB", depths=PINK_SNRS_DB, apply=pink_noise),
    Damage(name="low-pass", axis="cutoff, Hz", depths=CUTOFFS_HZ, apply=low_pass),
    Damage(name="clipping", axis="overdrive, dB", depths=OVERDRIVES_DB, apply=clipping),
    Damage(name="mu-law", axis="bits", depths=BITS, apply=mu_law),
)
