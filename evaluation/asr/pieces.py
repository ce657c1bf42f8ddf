"""Cut long audio where it is quiet, so that no word is lost between two windows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MAX_PIECE_S = 28.0
EARLIEST_CUT_S = 14.0
FRAME_S = 0.02
SMOOTH_FRAMES = 9

Samples = npt.NDArray[np.float32]


def split_at_silence(samples: Samples, sample_rate_hz: int) -> list[Samples]:
    """Split into pieces of at most 28 s; together they are the whole audio, in order.

    Args:
        samples: Shape (n_samples,), float32.
        sample_rate_hz: Samples per second.
    """
    pieces = []
    longest = int(MAX_PIECE_S * sample_rate_hz)
    while len(samples) > longest:
        cut = _quietest(samples[:longest], sample_rate_hz)
        pieces.append(samples[:cut])
        samples = samples[cut:]
    return [*pieces, samples]


def _quietest(samples: Samples, sample_rate_hz: int) -> int:
    """Find the middle of the quietest 180 ms after the earliest cut, in samples."""
    frame = int(FRAME_S * sample_rate_hz)
    usable = samples[: len(samples) // frame * frame].reshape(-1, frame)
    energy = np.square(usable, dtype=np.float64).mean(axis=1)
    smooth = np.convolve(energy, np.ones(SMOOTH_FRAMES), mode="same")
    first = int(EARLIEST_CUT_S / FRAME_S)
    last = len(smooth) - SMOOTH_FRAMES
    # The last of the quietest frames: digital silence often gives many, and few pieces are better.
    window = smooth[first:last]
    quietest = first + int(np.flatnonzero(window <= window.min() * 1.0001 + 1e-12)[-1])
    return quietest * frame + frame // 2
