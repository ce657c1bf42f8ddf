"""``mosgate hear``: write down what a recogniser hears in a wav file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from search.exits import Exit, InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_RATE_HZ = 16_000
_SHORTEST_S = 0.1


def run(args: argparse.Namespace) -> int:
    """Transcribe one file."""
    samples = read_speech(Path(args.wav))

    from evaluation.asr import load

    heard = load(args.asr).transcribe(samples)
    print(heard)
    if not heard:
        print("mosgate: no words were heard", file=sys.stderr)
    return Exit.WINNER


def read_speech(path: Path) -> npt.NDArray[np.float32]:
    """Read an audio file as one channel at 16 kHz.

    Returns:
        Shape (n_samples,), float32.

    Raises:
        InputError: Missing, not audio, too short, or not finite.
    """
    import numpy as np
    import soundfile as sf
    import soxr

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        channels, rate_hz = sf.read(path, dtype="float32", always_2d=True)
    except sf.LibsndfileError as error:
        raise InputError(f"{path}: not an audio file that can be read ({error})") from error
    if len(channels) < _SHORTEST_S * rate_hz:
        raise InputError(f"{path}: {len(channels) / rate_hz:.2f} s of audio is too short to hear")
    if not np.isfinite(channels).all():
        raise InputError(f"{path}: holds samples that are not finite")
    mono = channels.mean(axis=1, dtype=np.float32)
    return np.asarray(soxr.resample(mono, rate_hz, _RATE_HZ), dtype=np.float32)
