"""A picture of what the candidate said above what the baseline said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    import numpy as np
    import soundfile as sf

    samples, rate = sf.read(path, dtype="float32")
    axis.set_title(title, loc="left", fontsize=9)
    axis.set_ylabel("frequency / kHz")
    if len(samples) < _WINDOW:
        axis.text(0.5, 0.5, "too short", transform=axis.transAxes, ha="center")
        return
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)) ** 2
    level_db: Any = 10 * np.log10(np.maximum(power.T, 1e-10))
    extent = (0.0, len(samples) / rate, 0.0, rate / 2000)
    axis.imshow(
        level_db, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-60, vmax=30
    )


_WINDOW = 512
_HOP = 128
