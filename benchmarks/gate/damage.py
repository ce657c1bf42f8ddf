"""Ways to make real speech worse: a damage of any strength, and utterances ruined outright."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.ear.damages import low_pass, mu_law
from benchmarks.gate.voices import SAMPLE_RATE_HZ, Float

CUTOFF_HZ = 3400.0
BITS = 4.0
PAD = 1600
BURST_S = 1.0
LOOP_S = 0.7
LOOP_TIMES = 6


def blend(samples: Float, strength: float) -> Float:
    """Mix speech with a telephone's copy of it: 3.4 kHz low-pass, then 4-bit mu-law.

    Both keep time and phase and leave silence silent, so the mix has neither echo nor hiss and
    the loss grows with the strength; words survive even the full strength.

    Args:
        samples: Shape (n_samples,), 16 kHz.
        strength: Share of the damaged copy, 0 to 1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength} is outside [0, 1]")
    unused = np.random.default_rng(0)
    # The filter works on the whole spectrum: padded, the end does not ring at the beginning.
    filtered = low_pass(np.pad(samples, PAD), CUTOFF_HZ, unused)[PAD : PAD + len(samples)]
    damaged = mu_law(filtered, BITS, unused)
    return ((1 - strength) * samples + strength * damaged).astype(np.float32)


def silence(samples: Float, _: random.Random) -> Float:
    """Return digital silence of the same length."""
    return np.zeros_like(samples)


def loop(samples: Float, drawn: random.Random) -> Float:
    """Say one piece of 0.7 s over and over, and go on."""
    length = min(int(LOOP_S * SAMPLE_RATE_HZ), len(samples))
    start = drawn.randint(0, len(samples) - length)
    piece = samples[start : start + length]
    return np.concatenate([samples[: start + length], *[piece] * LOOP_TIMES])


def cut_in_half(samples: Float, _: random.Random) -> Float:
    """Stop in the middle."""
    return samples[: len(samples) // 2].copy()


def noise_burst(samples: Float, drawn: random.Random) -> Float:
    """Replace a second of speech by noise as loud as the speech's peaks."""
    length = min(int(BURST_S * SAMPLE_RATE_HZ), len(samples))
    start = drawn.randint(0, len(samples) - length)
    noise = np.random.default_rng(drawn.getrandbits(32)).standard_normal(length)
    ruined = samples.copy()
    ruined[start : start + length] = 0.25 * float(np.abs(samples).max()) * noise
    return np.clip(ruined, -1, 1)


RUINS: Mapping[str, Callable[[Float, random.Random], Float]] = {
    "silence": silence,
    "loop": loop,
    "cut_in_half": cut_in_half,
    "noise_burst": noise_burst,
}


def ruin(samples: Float, kind: str, prompt_id: str) -> Float:
    """Ruin one utterance; where it is hit depends on the prompt's name alone."""
    return RUINS[kind](samples, random.Random(f"{kind}/{prompt_id}"))
