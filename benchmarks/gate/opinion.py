"""The judge's DNSMOS in batches on a GPU: the same networks, windows and level, many at a time.

The judge scores one clip at a time on the CPU, because a score must not depend on a GPU. Sixteen
thousand clips take a quarter of an hour so on sixteen cores; the figures that use this say how far
their scores are from the judge's.

Source: the networks of speechmos, as ``evaluation.metrics.dnsmos`` and ``p835`` run them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from speechmos import dnsmos
from torch import Tensor

from benchmarks.gate.voices import SAMPLE_RATE_HZ, Float
from evaluation.audio import read_clip
from evaluation.metrics.base import MetricSettings
from evaluation.metrics.dnsmos import MIN_DURATION_S, Dnsmos
from evaluation.metrics.onnx_weights import read_constants
from evaluation.metrics.p835 import P835, WINDOW_FRAMES
from evaluation.metrics.windows import HOP, WINDOW, even_windows, levelled
from evaluation.scores import Clip

BATCH = 96
N_COMPARED = 24
N_MELS, N_FFT = 120, 321
_MODELS = Path(dnsmos.__file__).parent / "dnsmos_models"
_DENSE = ("dense_3", "dense_4", "dense_5")
Network = Callable[[Tensor], Tensor]


class BatchedDnsmos:
    """Both networks on a device, in float32 throughout.

    Args:
        device: ``cpu`` or ``cuda:0``.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._p835 = _OnDevice(_MODELS / "sig_bak_ovr.onnx", self._device)
        constants = read_constants(_MODELS / "model_v8.onnx")
        self._p808 = {name: torch.tensor(v, device=device) for name, v in constants.items()}
        mel = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=N_FFT, n_mels=N_MELS)
        self._mel = torch.tensor(mel, device=device)
        self._hann = torch.hann_window(N_FFT, device=device)
        self._polynomials: Any = object.__new__(dnsmos.DNSMOS)

    @torch.inference_mode()
    def score(self, clips: Sequence[Float]) -> list[dict[str, float]]:
        """Return ovrl, p808, sig and bak of each clip, as ``Dnsmos.score`` does; 16 kHz.

        Raises:
            MetricError: A clip is digital silence.
        """
        sounds = [levelled(clip) for clip in clips]
        starts = [even_windows(sound)[1] for sound in sounds]
        turns = [torch.from_numpy(sound).to(self._device) for sound in sounds]
        coarse = [(i, at) for i, places in enumerate(starts) for at in places[::2]]
        fine = [(i, at) for i, places in enumerate(starts) for at in places]
        with torch.backends.cudnn.flags(allow_tf32=False):
            raw = self._run(turns, coarse, self._p835.windows)
            p808 = self._run(turns, fine, self._p808_of)
        return [self._mean(np.stack(raw[i]), np.stack(p808[i])) for i in range(len(clips))]

    def _mean(self, raw: Float, p808: Float) -> dict[str, float]:
        sig, bak, ovrl = self._polynomials.get_polyfit_val(*raw.T, False)
        means = {"ovrl": ovrl, "p808": p808, "sig": sig, "bak": bak}
        return {name: float(np.mean(values)) for name, values in means.items()}

    def _run(
        self, turns: Sequence[Tensor], places: Sequence[tuple[int, int]], network: Network
    ) -> dict[int, list[Float]]:
        """Score windows of looped sounds: (which sound, first sample) to a list by sound."""
        found: dict[int, list[Float]] = {}
        window = torch.arange(WINDOW, device=self._device)
        for first in range(0, len(places), BATCH):
            part = places[first : first + BATCH]
            heard = torch.stack([turns[i][(at + window) % len(turns[i])] for i, at in part])
            for (i, _), result in zip(part, network(heard).cpu().numpy(), strict=True):
                found.setdefault(i, []).append(result)
        return found

    def _p808_of(self, windows: Tensor) -> Tensor:
        """Score windows of sound, shape (n, 144160), by the P.808 network: shape (n,)."""
        weights, hidden = self._p808, self._mels(windows[:, :-HOP])[:, None]
        for index in range(5, 10):
            kernel, bias = weights[f"conv2d_{index}/kernel:0"], weights[f"conv2d_{index}/bias:0"]
            hidden = F.conv2d(hidden, kernel, bias, padding=1).relu_()
            if index in (5, 6, 8):
                hidden = F.max_pool2d(hidden, 2)
        hidden = hidden.amax((2, 3))
        for name in _DENSE:
            product, bias = (
                weights[f"mos_estimator_small_1/{name}/{part}/ReadVariableOp/resource:0"]
                for part in ("MatMul", "BiasAdd")
            )
            hidden = hidden @ product + bias
            hidden = hidden if name == _DENSE[-1] else hidden.relu_()
        return hidden[:, 0]

    def _mels(self, windows: Tensor) -> Tensor:
        """Return speechmos's mel features, shape (n, 900, 120)."""
        spectra = torch.stft(
            windows, N_FFT, HOP, window=self._hann, pad_mode="constant", return_complex=True
        )
        power = self._mel @ spectra.abs().square()
        decibels = 10 * power.clamp(min=1e-10).log10()
        loudest = decibels.amax((1, 2), keepdim=True)
        relative = (decibels - loudest).clamp(min=-80.0)
        return ((relative + 40) / 40).transpose(1, 2)


class _OnDevice(P835):
    """The P.835 network on whole windows, where a GPU has no need to save passes."""

    def __init__(self, path: Path, device: torch.device) -> None:
        super().__init__(path)
        self._convolutions = [(k.to(device), b.to(device)) for k, b in self._convolutions]
        self._dense = [tuple(t.to(device) for t in pair) for pair in self._dense]
        self._cosines, self._sines = self._cosines.to(device), self._sines.to(device)

    def windows(self, windows: Tensor) -> Tensor:
        """Score windows of sound, shape (n, 144160): raw sig, bak, ovr, shape (n, 3)."""
        spectra = torch.stack([self._log_power(window) for window in windows])
        return self._pooled(self._full_size(spectra[:, :WINDOW_FRAMES]))


def is_fit(samples: Float) -> bool:
    """Say whether the judge's DNSMOS would take this clip."""
    if len(samples) < MIN_DURATION_S * SAMPLE_RATE_HZ or not np.isfinite(samples).all():
        return False
    return 0 < float(np.abs(samples).max()) <= 1


def compare_opinions(said: Sequence[Clip], scores: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Compare batched scores with the judge's own: the largest differences on a sample of clips."""
    judge = Dnsmos(MetricSettings(asr="embedded"))
    step = max(1, len(said) // N_COMPARED)
    pairs = [
        (batched, judge.score(read_clip(clip.wav_path)))
        for clip, batched in list(zip(said, scores, strict=True))[::step]
        if batched
    ]
    gaps = {name: max(abs(a[name] - b[name]) for a, b in pairs) for name in ("ovrl", "p808")}
    return {"n": len(pairs), "largest_difference": gaps}
