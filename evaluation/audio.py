"""Read the audio that is judged: 16 kHz, mono."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from evaluation.errors import AudioError

Samples = npt.NDArray[np.float32]
SAMPLE_RATE_HZ = 16_000


def read_clip(path: Path) -> Samples:
    """Read a wav file as it would be heard.

    Values beyond full scale are held there, as every 16-bit player does; the clipping guard sees
    them. NaN and infinity are kept: the guard for them must see them too.

    Args:
        path: A wav file, int16 or float, 16 kHz, mono.

    Returns:
        Shape (n_samples,), float32 in [-1, 1] (or not finite).

    Raises:
        AudioError: Missing, unreadable, of another rate or with several channels.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise AudioError(f"{path}: cannot be read as audio ({error})") from error
    if rate != SAMPLE_RATE_HZ:
        raise AudioError(f"{path}: is {rate} Hz; resample it to {SAMPLE_RATE_HZ} Hz first")
    if samples.shape[1] != 1:
        raise AudioError(f"{path}: has {samples.shape[1]} channels; mix it down to one first")
    mono: Samples = samples[:, 0]
    return np.where(np.isfinite(mono), np.clip(mono, -1.0, 1.0), mono)
