"""Whether two recordings say the same thing at the same time, which PESQ takes for granted."""

from __future__ import annotations

import numpy as np

from evaluation.audio import SAMPLE_RATE_HZ, Samples
from evaluation.loops import BANDS_HOP_S, Bands, log_bands

_WINDOW = round(1.0 / BANDS_HOP_S)
_MAX_SHIFT = round(0.24 / BANDS_HOP_S)
_LEAST_LIVELINESS = 0.3
"""Of the mean variance: a steadier stretch, such as a pause, fits everywhere."""

_LEAST_GAIN = 0.05
"""Of the correlation: what a shift must win over none to be believed."""


def largest_shift_s(reference: Samples, degraded: Samples) -> float:
    """Return how far the two run apart at the most, in any second of them.

    Each second of the reference's log-mel frames is looked for in the other, up to 0.24 s to
    either side. Damage leaves it where it was (noise at 0 dB SNR, five bits, a low-pass: 0 s, on
    ten clips of the embedded voice); another tempo by 2 % or another sampling moves it.

    Args:
        reference: Shape (n_samples,), float in [-1, 1], 16 kHz.
        degraded: The same; what is longer than the other is not looked at.

    Returns:
        Seconds in steps of 20 ms; 0 for clips too short to tell (below 0.8 s).
    """
    n_samples = min(len(reference), len(degraded))
    ours, theirs = log_bands(reference[:n_samples]), log_bands(degraded[:n_samples])
    window = min(_WINDOW, len(ours) - 2 * _MAX_SHIFT)
    if n_samples < 0.8 * SAMPLE_RATE_HZ:
        return 0.0
    least = _LEAST_LIVELINESS * window * float(ours.var(axis=0).sum())
    shifts = [
        _best_shift(ours[start : start + window], theirs, start, least)
        for start in range(0, len(ours) - window + 1, window // 2)
    ]
    return max(map(abs, shifts), default=0) * BANDS_HOP_S


def _best_shift(piece: Bands, other: Bands, start: int, least: float) -> int:
    """Return where a piece that starts at ``start`` is found in the other, less ``start``."""
    first = max(0, start - _MAX_SHIFT)
    last = min(len(other) - len(piece), start + _MAX_SHIFT)
    centred = piece - piece.mean(axis=0)
    energy = float(np.square(centred).sum())
    if energy <= max(least, 1e-9):
        return 0
    found = []
    for at in range(first, last + 1):
        there = other[at : at + len(piece)]
        there = there - there.mean(axis=0)
        scale = np.sqrt(energy * max(float(np.square(there).sum()), 1e-9))
        found.append(float((centred * there).sum()) / scale)
    best = int(np.argmax(found))
    return first + best - start if found[best] > found[start - first] + _LEAST_GAIN else 0
