"""Canaries: damaged copies of a baseline's own audio that a gate must reject, and harmless ones.

A gate is believed only after it has turned down damage that people hear: each canary names one way
in which speech inference goes wrong, at a depth that nobody would ship, applied to the user's own
voice. The harmless ones change nothing that a listener would hold against a voice, so a gate that
rejects them is broken the other way round. All are pure and depend on the utterance alone, so the
same baseline always sends the same birds down the same mine.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.audio import SAMPLE_RATE_HZ, Samples

CUTOFF_HZ = 3_600.0
MU_LAW_BITS = 5
OVERDRIVE = 3.0
SILENT_TAIL_S = 2.5
PHRASE_S = 0.8
PHRASE_TIMES = 4
TAIL_PERIOD = 8
"""One utterance in so many is ruined by the tail canary: far more than any gate should allow."""

Damage = Callable[[Samples, np.random.Generator], Samples]


@dataclass(frozen=True, kw_only=True)
class Canary:
    """One way to change audio, and what the gate must say to it.

    Args:
        name: Short, for configurations and results.
        what: What it does, to stand in a sentence.
        change: (samples, random generator) to samples; shape (n_samples,), float32, 16 kHz.
        harmless: Whether the gate must accept it; otherwise it must reject it.
        every: One utterance in so many is changed, the others are left as they are.
    """

    name: str
    what: str
    change: Damage
    harmless: bool = False
    every: int = 1

    def touches(self, position: int) -> bool:
        """Say whether the utterance at this position of the set is changed."""
        return position % self.every == 0

    def apply(self, samples: Samples, utterance_id: str) -> Samples:
        """Return the changed copy of one utterance, the same one for the same name each time."""
        seed = zlib.crc32(f"{self.name}/{utterance_id}".encode())
        changed = self.change(samples, np.random.default_rng(seed))
        return np.asarray(changed, dtype=np.float32)


def low_pass(samples: Samples, _: np.random.Generator) -> Samples:
    """Remove what lies above 3.6 kHz: a telephone's band, or a vocoder gone dull.

    DNSMOS OVRL hardly sees it (-0.6 % on flite rms, +1.6 % on espeak); P808 loses 14 and 7 %.
    """
    from scipy import signal  # only here: it is slow to load, and names are asked for more often

    sos = signal.butter(8, CUTOFF_HZ, fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(signal.sosfilt(sos, samples))


def mu_law(samples: Samples, _: np.random.Generator) -> Samples:
    """Quantise to 32 mu-law levels: what a codec or a cache of too few bits sounds like.

    A gate on OVRL alone ships this one: it loses 3.6 % there, and 18.5 % of P808 (flite rms).
    Source: ITU-T G.711's companding curve, with mu = 2^5 - 1.
    """
    mu = 2**MU_LAW_BITS - 1
    held = np.clip(samples, -1.0, 1.0)
    curve = np.sign(held) * np.log1p(mu * np.abs(held)) / np.log1p(mu)
    steps = np.floor((curve + 1) / 2 * mu + 0.5) / mu * 2 - 1
    return np.asarray(np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(mu)) / mu)


def clip(samples: Samples, _: np.random.Generator) -> Samples:
    """Overdrive three times beyond the peak, then scale back to the level it had.

    An overflow in half precision, rescaled afterwards: no sample is at full scale any more, so
    a guard that looks for full scale alone is blind to it.
    """
    peak, level = float(np.abs(samples).max(initial=0.0)), _rms(samples)
    if peak == 0:
        return samples
    flat = np.clip(samples, -peak / OVERDRIVE, peak / OVERDRIVE)
    return np.asarray(flat * (level / _rms(flat)))


def noise(snr_db: float) -> Damage:
    """Return a change that adds white noise at a signal-to-noise ratio over the whole clip."""

    def add(samples: Samples, random: np.random.Generator) -> Samples:
        added = random.standard_normal(len(samples)) * _rms(samples) * 10 ** (-snr_db / 20)
        return np.asarray(samples + added)

    return add


def truncate(samples: Samples, _: np.random.Generator) -> Samples:
    """Stop after two thirds: an end of speech sampled too early."""
    return samples[: 2 * len(samples) // 3]


def repeat(samples: Samples, random: np.random.Generator) -> Samples:
    """Say one phrase of 0.8 s four times in a row: a decoder in a loop.

    Doubled speech is no worse to DNSMOS, and scores 4.63 in PESQ.
    """
    return _looped(samples, random, PHRASE_TIMES)


def add_silent_tail(samples: Samples, _: np.random.Generator) -> Samples:
    """Append 2.5 s of digital silence: an end of speech that was never sampled."""
    return np.concatenate([samples, np.zeros(round(SILENT_TAIL_S * SAMPLE_RATE_HZ), np.float32)])


def reverse(samples: Samples, _: np.random.Generator) -> Samples:
    """Play it backwards: as long, as loud and as clean as before, and without a word.

    DNSMOS scores it no worse, so only a word error rate that works turns it down.
    """
    return samples[::-1].copy()


def ruin(samples: Samples, random: np.random.Generator) -> Samples:
    """Ruin an utterance as runaways do: lost after two fifths, or caught in a long loop."""
    if random.random() < 0.5:
        return samples[: 2 * len(samples) // 5]
    return _looped(samples, random, 3 * PHRASE_TIMES)


def gain(decibels: float) -> Damage:
    """Return a change of level, held below full scale: the same speech to any listener.

    Gain alone moves the official DNSMOS OVRL by 0.2, so a gate on raw scores fails this. A voice
    at full scale has no room for more: its copies are the clips themselves, and prove nothing.
    """

    def scale(samples: Samples, _: np.random.Generator) -> Samples:
        factor = float(10 ** (decibels / 20))
        peak = float(np.abs(samples).max(initial=0.0))
        if factor > 1 and peak > 0:
            factor = max(1.0, min(factor, 0.99 / peak))
        return np.asarray(samples * factor)

    return scale


def _looped(samples: Samples, random: np.random.Generator, times: int) -> Samples:
    """Say one phrase ``times`` times in a row, then go on."""
    length = min(len(samples), round(PHRASE_S * SAMPLE_RATE_HZ))
    start = int(random.integers(0, len(samples) - length + 1))
    end = start + length
    return np.concatenate([samples[:end], *[samples[start:end]] * (times - 1), samples[end:]])


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


CANARIES: tuple[Canary, ...] = (
    Canary(name="low_pass", what="a low-pass at 3.6 kHz", change=low_pass),
    Canary(name="mu_law", what="5-bit mu-law", change=mu_law),
    Canary(name="clipping", what="threefold clipping, rescaled", change=clip),
    Canary(name="noise_20db", what="white noise at an SNR of 20 dB", change=noise(20.0)),
    Canary(name="noise_30db", what="white noise at an SNR of 30 dB", change=noise(30.0)),
    Canary(name="truncation", what="the last third cut off", change=truncate),
    Canary(name="loop", what="a phrase said four times in a row", change=repeat),
    Canary(name="silent_tail", what="a silent tail of 2.5 s", change=add_silent_tail),
    Canary(name="reversed", what="speech played backwards", change=reverse),
    Canary(
        name="tail", what="one utterance in eight ruined", change=ruin, every=TAIL_PERIOD
    ),
    Canary(name="gain_down", what="a gain of -6 dB", change=gain(-6.0), harmless=True),
    Canary(name="gain_up", what="a gain of +3 dB", change=gain(3.0), harmless=True),
)  # fmt: skip
"""All of them, the damages first."""

ALL = "all"
NAMES = tuple(canary.name for canary in CANARIES)


def select(names: Sequence[str]) -> tuple[Canary, ...]:
    """Return the canaries of these names, in their usual order; ``all`` stands for every one.

    Raises:
        ValueError: A name is unknown, or nothing is left that must be rejected.
    """
    wanted = set(NAMES) if ALL in names else set(names)
    unknown = sorted(wanted - set(NAMES))
    if unknown:
        raise ValueError(f"there is no canary {unknown[0]!r}; choose from {', '.join(NAMES)}")
    chosen = tuple(canary for canary in CANARIES if canary.name in wanted)
    refuse_untested(chosen)
    return chosen


def refuse_untested(canaries: Sequence[Canary]) -> None:
    """Refuse a choice by which a gate would be believed without having turned anything down.

    Raises:
        ValueError: No canary is any damage.
    """
    if all(canary.harmless for canary in canaries):
        raise ValueError("without a damaging canary nothing is tested: name at least one")
