"""Which nine seconds DNSMOS looks at: the official windows, and ours that see the whole clip."""

from __future__ import annotations

import math

import numpy as np

from evaluation.audio import SAMPLE_RATE_HZ, Samples
from evaluation.errors import MetricError

WINDOW_S = 9.01
WINDOW = int(WINDOW_S * SAMPLE_RATE_HZ)
"""Samples that the networks take at once."""

HOP = 160
"""A frame's step in both networks; a window starts on a whole one."""

N_PHASES = 3
"""Phases of a clip's loop that the P.835 network hears; a window of it is four times as dear as
one of the P.808 network, which hears ``N_FINE_PHASES``."""

N_FINE_PHASES = 2 * N_PHASES

LEVEL_DBFS = -26.0
"""Of the active frames, before scoring: the level at which speech is presented to listeners.

Source: ITU-T P.56 and P.830; DNSMOS itself was trained on many levels, yet a gain alone moves its
OVRL by 0.2.
"""

_ACTIVE_RANGE_DB = 35.0
_FRAME = 480


def official_windows(samples: Samples) -> tuple[Samples, list[int]]:
    """Return the sound as speechmos tiles it, and where its windows start.

    Arithmetic and order are speechmos's, quirks included: what remains after the last whole
    window is not looked at.

    Args:
        samples: Shape (n_samples,), n_samples >= 1.
    """
    while len(samples) < WINDOW:
        samples = np.append(samples, samples)
    n_hops = int(np.floor(len(samples) / SAMPLE_RATE_HZ) - WINDOW_S) + 1
    stops = [int((index + WINDOW_S) * SAMPLE_RATE_HZ) for index in range(n_hops)]
    starts = [index * SAMPLE_RATE_HZ for index in range(n_hops)]
    return samples, [
        start
        for start, stop in zip(starts, stops, strict=True)
        if min(stop, len(samples)) - start >= WINDOW
    ]


def even_windows(samples: Samples) -> tuple[Samples, list[int]]:
    """Return a clip as a loop, with windows spread evenly over one turn of it.

    The windows of a short clip are as many phases of its tiling; those of a long one overlap and
    run on from its end into its start, so that no sample counts less than another. A turn is the
    clip's own length and no whole number of frames on purpose: cut or filled up to one, each turn
    would give the networks the very same frames, and the paired sigma of P.808 rises from 2.1 to
    5.0 % (espeak, n = 40).

    Args:
        samples: Shape (n_samples,), n_samples >= 1.

    Returns:
        The looped sound, float32, and where its ``N_FINE_PHASES`` windows (a multiple of them in
        a clip longer than a window) start, in whole frames; each second one is a coarse phase.
    """
    n_windows = N_FINE_PHASES * math.ceil(len(samples) / WINDOW)
    starts = [index * len(samples) // n_windows // HOP * HOP for index in range(n_windows)]
    n_turns = math.ceil((starts[-1] + WINDOW) / len(samples))
    return np.tile(samples, n_turns), starts


def levelled(samples: Samples) -> Samples:
    """Bring a clip to ``LEVEL_DBFS``, so that a gain changes nothing but the rounding.

    Args:
        samples: Shape (n_samples,), finite, at least one frame of 30 ms.

    Returns:
        float32; peaks may pass 1 where a clip has more than 26 dB of them, and are kept.

    Raises:
        MetricError: Digital silence, which has no level.
    """
    level = active_level(samples)
    if level == 0:
        raise MetricError("digital silence has no level to score it at")
    wanted = 10 ** (LEVEL_DBFS / 20)
    return (samples.astype(np.float64) * (wanted / level)).astype(np.float32)


def active_level(samples: Samples) -> float:
    """Return the RMS of the frames within 35 dB of the loud ones: it scales as the samples do.

    Args:
        samples: Shape (n_samples,), finite, at least one frame of 30 ms.
    """
    whole = samples[: len(samples) // _FRAME * _FRAME].astype(np.float64)
    power = np.square(whole.reshape(-1, _FRAME)).mean(axis=1)
    loud = float(np.percentile(power, 95))
    if loud == 0:  # a click in silence, or nothing at all
        return math.sqrt(float(np.square(samples, dtype=np.float64).mean()))
    is_active = power >= loud * 10 ** (-_ACTIVE_RANGE_DB / 10)
    return math.sqrt(float(power[is_active].mean()))
