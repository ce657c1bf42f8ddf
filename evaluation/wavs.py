"""Anybody's wav files: which there are in a folder, and what is wrong with one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from evaluation.provenance import file_sha256

MAX_PEAK = 4.0
"""Float files may pass full scale a little; beyond this they hold 16-bit numbers, not audio."""

_CONTAINERS = {"WAV", "WAVEX", "RF64", "W64"}


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One wav file that reads.

    Args:
        path: Where it is.
        rate_hz: Its sample rate.
        n_samples: Its length.
        sha256: Of the file.
        sound_sha256: Of its decoded samples, whatever the header and the subtype.
    """

    path: Path
    rate_hz: int
    n_samples: int
    sha256: str
    sound_sha256: str

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.n_samples / self.rate_hz


def list_wavs(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the wavs of a folder by name, and what is wrong with the folder."""
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".wav")
    except NotADirectoryError:
        return {}, [f"{folder}: is no folder; give the folder that holds the wavs"]
    except OSError as error:
        return {}, [f"{folder}: {error.strerror or error}; give a folder of wavs"]
    wavs: dict[str, Path] = {}
    problems = [] if paths else [f"{folder}: holds no .wav file; give a folder of wavs"]
    for path in paths:
        if wavs.setdefault(path.stem, path) is not path:
            other = wavs[path.stem].name
            problems.append(f"{path}: {other} has the same name; keep one of the two")
    return wavs, problems


def examine(path: Path) -> Sound | str:
    """Read one file; return what is wrong with it and what to do where it cannot be judged."""
    try:
        if path.stat().st_size == 0:
            return f"{path}: is an empty file; synthesize it again"
        with soundfile.SoundFile(path) as file:
            container, rate_hz, n_channels = file.format, file.samplerate, file.channels
            samples = file.read(dtype="float32", always_2d=True)
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror or error}); make it readable"
    except soundfile.LibsndfileError as error:
        return f"{path}: is no wav that can be read ({error.error_string}); synthesize it again"
    wrong = _unusable(container, n_channels, samples)
    if wrong:
        return f"{path}: {wrong}"
    return Sound(
        path=path, rate_hz=rate_hz, n_samples=len(samples), sha256=file_sha256(path),
        sound_sha256=hashlib.sha256(samples.tobytes()).hexdigest(),
    )  # fmt: skip


def _unusable(container: str, n_channels: int, samples: np.ndarray) -> str | None:
    """Say what is wrong with a file that reads and what to do, or return None."""
    if container not in _CONTAINERS:
        return f"is {container} inside; convert it to wav"
    if n_channels != 1:
        return f"has {n_channels} channels; mix it down to one in every folder alike"
    if len(samples) == 0:
        return "holds no samples; synthesize it again"
    n_bad = int((~np.isfinite(samples)).sum())
    if n_bad:
        return f"{n_bad} samples are NaN or infinite; find out why and synthesize it again"
    peak = float(np.abs(samples).max())
    if peak > MAX_PEAK:
        return f"its peak is {peak:.0f} where a float wav holds -1 to 1; scale it, or write 16 bit"
    return None
