"""Loops: phrases that a speech model says again and again, in the sound and in the words."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.audio import SAMPLE_RATE_HZ, Samples

_FRAME = 512
_HOP = 320
_N_BANDS = 24
BANDS_HOP_S = _HOP / SAMPLE_RATE_HZ
"""Time from one frame of ``log_bands`` to the next."""

_SHORTEST_LAG_S = 0.4
_LONGEST_LAG_S = 20.0
"""Nobody's loop is longer, and all lags of a runaway of minutes would take as long again."""

_WINDOW_S = 1.5
"""A loop must hold at least this long: shorter stretches of speech resemble each other."""

_LEAST_LIVELINESS = 0.3
"""Of the clip's mean variance: what a window needs to be worth comparing."""

Bands = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Repeat:
    """A phrase and how often it stands in a row."""

    phrase: str
    times: int


def compression_ratio(text: str) -> float:
    """Return bytes over deflated bytes; loops compress well.

    Source: the same ratio that Whisper's transcribe uses, with the same threshold of 2.4.
    """
    raw = text.encode("utf-8")
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0


def longest_repeat(text: str, max_words: int = 8) -> Repeat:
    """Return the phrase of up to ``max_words`` words that stands most often in a row."""
    words = text.lower().split()
    best = Repeat("", 1 if words else 0)
    for size in range(1, min(max_words, len(words)) + 1):
        for start in range(size):
            chunks = [tuple(words[at : at + size]) for at in range(start, len(words), size)]
            times, chunk = _longest_run(chunks)
            if times > best.times:
                best = Repeat(" ".join(chunk), times)
    return best


def _longest_run(chunks: list[tuple[str, ...]]) -> tuple[int, tuple[str, ...]]:
    """Return the length and the value of the longest run of equal neighbours."""
    longest, run = 0, 0
    value: tuple[str, ...] = ()
    for index, chunk in enumerate(chunks):
        run = run + 1 if index and chunk == chunks[index - 1] else 1
        if run > longest:
            longest, value = run, chunk
    return longest, value


def longest_token_repeat(
    tokens: Sequence[int], is_wanted: Callable[[tuple[int, ...]], bool] = bool
) -> tuple[int, ...]:
    """Return the longest stretch of speech tokens that stands a second time further on.

    A token that is held is a stretch of itself, so a voice that is stuck is found as well.

    Args:
        tokens: Of one sentence.
        is_wanted: Which stretches count; all of them unless told. Of those that come again at one
            distance each is asked for, so that a longer one of another kind hides none.
    """
    row = np.asarray(tokens)
    best: tuple[int, ...] = ()
    for lag in range(1, len(row)):
        if len(row) - lag <= len(best):
            break
        changes = np.flatnonzero(np.concatenate([[True], row[lag:] != row[:-lag], [True]]))
        lengths = np.diff(changes) - 1
        for which in np.flatnonzero(lengths > len(best)):
            start, length = int(changes[which]), int(lengths[which])
            stretch = tuple(row[start : start + length].tolist())
            if length > len(best) and is_wanted(stretch):
                best = stretch
    return best


def lag_correlation(samples: Samples) -> float:
    """Return how well any stretch of 1.5 s matches the sound some time later.

    The log-mel frames are correlated with themselves at every lag from 0.4 to 20 s, within a window
    that slides over the clip, each band freed of its mean there. A window and not the whole
    overlap, because a phrase that is said twice in a long clip hides in the whole.

    Args:
        samples: Shape (n_samples,), float32, 16 kHz, finite.

    Returns:
        -1 to 1; 0 for a clip too short to hold a loop, or without any change in it.
    """
    bands = log_bands(samples)
    first = round(_SHORTEST_LAG_S / BANDS_HOP_S)
    window = round(_WINDOW_S / BANDS_HOP_S)
    if len(bands) <= first + window:
        return 0.0
    sums = _moving_sum(bands, window)
    spread = _moving_sum(np.square(bands), window) - np.square(sums) / window
    means = sums / window
    liveliness = spread.sum(axis=1)
    least = _LEAST_LIVELINESS * window * float(bands.var(axis=0).sum())
    longest = round(_LONGEST_LAG_S / BANDS_HOP_S)
    lags = range(first, min(longest, len(bands) - window - 1) + 1)
    return max(_best_match(bands, means, liveliness, lag, least) for lag in lags)


def log_bands(samples: Samples) -> Bands:
    """Return log energies in mel-spaced bands, shape (n_frames, n_bands), 50 frames a second."""
    if len(samples) < _FRAME:
        return np.zeros((0, _N_BANDS))
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME), axis=1)) ** 2
    energies = power @ _mel_weights().T
    floor = max(float(energies.max()) * 1e-6, 1e-12)
    return np.asarray(np.log10(np.maximum(energies, floor)))


def _mel_weights() -> Bands:
    """Return triangular mel filters from 100 Hz to 7 kHz, shape (n_bands, n_bins)."""
    lowest, highest = (1127 * math.log1p(hz / 700) for hz in (100.0, 7000.0))
    mel = np.linspace(lowest, highest, _N_BANDS + 2)
    centres = 700 * np.expm1(mel / 1127)
    bins = np.fft.rfftfreq(_FRAME, 1 / SAMPLE_RATE_HZ)
    low, middle, high = (part[:, None] for part in (centres[:-2], centres[1:-1], centres[2:]))
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))


def _best_match(bands: Bands, means: Bands, liveliness: Bands, lag: int, least: float) -> float:
    """Return the largest correlation at one lag over all places of the window.

    Args:
        bands: Shape (n_frames, n_bands).
        means: Each window's own, shape (n_frames - window + 1, n_bands).
        liveliness: Sum of squares about each window's own means, shape (n_frames - window + 1,).
        lag: In frames.
        least: Windows with less than this on either side are not looked at: a steady hiss
            resembles itself without being a loop.
    """
    window = len(bands) - len(means) + 1
    product = _moving_sum((bands[:-lag] * bands[lag:]).sum(axis=1), window)
    product -= window * (means[:-lag] * means[lag:]).sum(axis=1)
    first, second = liveliness[:-lag], liveliness[lag:]
    is_lively = np.minimum(first, second) > max(least, 1e-9)
    if not is_lively.any():
        return 0.0
    scale = np.sqrt(first[is_lively] * second[is_lively])
    return float((product[is_lively] / scale).max())


def _moving_sum(values: Bands, window: int) -> Bands:
    """Return sums over each stretch of ``window`` values along the first axis."""
    total = np.cumsum(np.concatenate([np.zeros_like(values[:1]), values]), axis=0)
    return np.asarray(total[window:] - total[:-window])
