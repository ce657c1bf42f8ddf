"""A picture of what the candidate said above what the baseline said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

_WINDOW = 512
_HOP = 128


def draw(clips: dict[str, Path], target: Path) -> None:
    """Write one PNG with a spectrogram per clip, below each other, on one time axis.

    Args:
        clips: Wav files by title, in order.
        target: The PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.4 * len(clips)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(clips), 1, squeeze=False, sharex=True)[:, 0]
    for axis, (title, path) in zip(axes, clips.items(), strict=True):
        _draw_one(axis, title, path)
    axes[-1].set_xlabel("time / s")
    figure.savefig(target)


def _draw_one(axis: Axes, title: str, path: Path) -> None:
    import soundfile as sf

    samples, rate = sf.read(path, dtype="float32")
    axis.set_title(title, loc="left", fontsize=9)
    axis.set_ylabel("frequency / kHz")
    if len(samples) < _WINDOW:
        axis.text(0.5, 0.5, "too short", transform=axis.transAxes, ha="center")
        return
    levels = levels_db(samples)
    extent = (0.0, len(samples) / rate, 0.0, rate / 2000)
    axis.imshow(
        levels, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-60, vmax=30
    )


def levels_db(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the power of short frames in dB.

    Args:
        samples: Shape (n_samples,), at least one window of 512.

    Returns:
        Shape (257 frequencies up to half the sample rate, n_frames).
    """
    import numpy as np

    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)) ** 2
    return np.asarray(10 * np.log10(np.maximum(power.T, 1e-10)), dtype=np.float32)
