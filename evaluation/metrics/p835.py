"""The P.835 network of DNSMOS over many windows at the price of one pass.

The official score looks at windows of 9 s, one second apart, so each second of sound goes through
the network up to nine times; its first four layers are nearly all of the work. They are
convolutions at full resolution, and a window starts on a whole frame, so they are computed once
for the whole sound, or for one copy of it where a short clip was tiled and its length is in whole
frames. Only the four frames at each end of a window differ (zeros stand beside them there); those
are computed by themselves. The result is the official one up to rounding.

Source: the network is sig_bak_ovr.onnx of the speechmos package, taken from there unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluation.audio import Samples
from evaluation.metrics.onnx_weights import read_constants
from evaluation.metrics.windows import HOP

FRAME = 320
WINDOW_FRAMES = 900
EDGE = 4
"""Frames at either end of a window that its zero padding reaches: one per full-size layer."""

_CHUNK_FRAMES = 100
"""Frames computed at once: the activations of more do not fit the caches of a CPU."""

_TINY = 1e-12
_LN_10 = 2.3025851
_POOLED = (4, 5)
_DENSE = ("dense", "dense_1", "dense_3")


class P835:
    """Raw sig, bak and ovr of each window, before speechmos's polynomials.

    Args:
        path: ``sig_bak_ovr.onnx`` of speechmos.
    """

    def __init__(self, path: Path) -> None:
        constants = {name: torch.tensor(value) for name, value in read_constants(path).items()}
        names = ["conv2d", *(f"conv2d_{i}" for i in range(1, 7))]
        self._convolutions = [
            (constants[f"{name}/kernel:0"], constants[f"{name}/bias:0"]) for name in names
        ]
        self._dense = [
            tuple(
                constants[f"mos_estimator_logpow/{name}/{part}/ReadVariableOp/resource:0"]
                for part in ("MatMul", "BiasAdd")
            )
            for name in _DENSE
        ]
        self._cosines, self._sines = (
            constants[f"time2freq/stft-{part}/kernel:0"][:, :, 0].T for part in ("real", "imag")
        )

    def score(
        self, samples: Samples, starts: Sequence[int], period: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Score windows of one sound on one thread.

        Args:
            samples: Shape (n_samples,), float32 in [-1, 1], 16 kHz; 144,160 samples follow each
                start.
            starts: First samples of the windows, in whole frames of 160.
            period: After so many samples the sound repeats itself exactly, from its start to its
                end; None when it does not.

        Returns:
            Shape (n_windows, 3): sig, bak, ovr.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the order of a sum depends on how many there are
        try:
            with torch.inference_mode():
                firsts = [start // HOP for start in starts]
                n_frames = firsts[-1] + WINDOW_FRAMES
                spectrum = self._log_power(torch.from_numpy(samples)[: (n_frames + 1) * HOP])
                n_unique = n_frames - 2 * EDGE
                if period is not None and period % HOP == 0:
                    n_unique = min(n_unique, period // HOP)
                return self._windows(spectrum, firsts, n_unique).numpy()
        finally:
            torch.set_num_threads(threads)

    def _log_power(self, samples: Tensor) -> Tensor:
        """Return log10 power, shape (n_frames, 161)."""
        frames = samples.unfold(0, FRAME, HOP)
        power = (frames @ self._cosines).square() + (frames @ self._sines).square()
        return torch.log(power.clamp(min=_TINY)) / _LN_10

    def _windows(self, spectrum: Tensor, firsts: Sequence[int], n_unique: int) -> Tensor:
        """Return (n_windows, 3) from the spectrum of the whole sound."""
        shared = self._shared(spectrum, n_unique)
        inside = torch.arange(WINDOW_FRAMES - 2 * EDGE)
        heads = self._full_size(torch.stack([spectrum[at : at + 2 * EDGE] for at in firsts]))
        ends = [at + WINDOW_FRAMES for at in firsts]
        tails = self._full_size(torch.stack([spectrum[end - 2 * EDGE : end] for end in ends]))
        scores = []
        for first, head, tail in zip(firsts, heads, tails, strict=True):
            middle = shared[:, (first + inside) % n_unique]
            window = torch.cat([head[:, :EDGE], middle, tail[:, EDGE:]], dim=1)
            scores.append(self._pooled(window[None]))
        return torch.cat(scores)

    def _shared(self, spectrum: Tensor, n_unique: int) -> Tensor:
        """Return what the full-size layers make of the sound away from any window's end.

        Returns:
            Shape (32, n_unique, 161); the first frame is frame EDGE of the spectrum.
        """
        pieces = []
        for start in range(0, n_unique, _CHUNK_FRAMES):
            stop = min(start + _CHUNK_FRAMES, n_unique)
            chunk = self._full_size(spectrum[None, start : stop + 2 * EDGE])
            pieces.append(chunk[0, :, EDGE:-EDGE])
        return torch.cat(pieces, dim=1)

    def _full_size(self, spectra: Tensor) -> Tensor:
        """Run the four layers at full resolution: (n, frames, 161) to (n, 32, frames, 161)."""
        hidden = spectra[:, None]
        for kernel, bias in self._convolutions[:4]:
            hidden = F.conv2d(hidden, kernel, bias, padding=1).relu_()
        return hidden

    def _pooled(self, hidden: Tensor) -> Tensor:
        """Run the rest on one window: (1, 32, 900, 161) to (1, 3)."""
        hidden = F.max_pool2d(hidden, 2)
        for index in _POOLED:
            hidden = F.conv2d(hidden, *self._convolutions[index], padding=1).relu_()
            hidden = F.max_pool2d(hidden, 2)
        hidden = F.conv2d(hidden, *self._convolutions[6], padding=1).relu_().amax((2, 3))
        for weight, bias in self._dense[:-1]:
            hidden = (hidden @ weight + bias).relu_()
        weight, bias = self._dense[-1]
        return hidden @ weight + bias
