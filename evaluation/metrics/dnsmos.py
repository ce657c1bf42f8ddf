"""DNSMOS: the mean opinion score that a listening test would give, as a network predicts it.

Networks, features and polynomials are those of the package speechmos. ``official`` uses its
windows too and gives its score. ``score``, which the gate rests on, gives the same networks the
whole clip at one level: officially a gain moves OVRL by 0.2, what follows the last whole window is
not looked at, and a short clip is heard in whichever phase its tiling starts.

Source: Reddy, Gopal, Cutler: DNSMOS P.835, ICASSP 2022; DNSMOS (P.808), ICASSP 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.audio import SAMPLE_RATE_HZ, Samples
from evaluation.errors import MetricError
from evaluation.metrics.base import MetricSettings, Subject, Value
from evaluation.metrics.windows import (
    LEVEL_DBFS,
    N_FINE_PHASES,
    N_PHASES,
    WINDOW,
    even_windows,
    levelled,
    official_windows,
)
from evaluation.provenance import file_sha256

MIN_DURATION_S = 0.25
"""Shorter clips would be tiled dozens of times: a score of the tiling."""


class Dnsmos:
    """Both networks, loaded once, on one thread, so that a score depends on nothing else."""

    def __init__(self, settings: MetricSettings) -> None:
        del settings
        import onnxruntime
        from speechmos import dnsmos

        from evaluation.metrics.p835 import P835

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._paths = _model_paths(Path(dnsmos.__file__).parent)
        self._p835 = P835(self._paths["p835"])
        self._p808 = onnxruntime.InferenceSession(
            str(self._paths["p808"]), options, providers=["CPUExecutionProvider"]
        )
        # For its features and polynomials; its own sessions would take every core.
        self._official: Any = object.__new__(dnsmos.DNSMOS)

    def __call__(self, subject: Subject) -> Mapping[str, Value]:
        """Score one clip, robustly."""
        scores = self.score(subject.samples)
        return {f"dnsmos_{name}": value for name, value in scores.items()}

    def score(self, samples: Samples) -> dict[str, float]:
        """Return ovrl, p808, sig and bak, each 1 to 5, of the whole clip at one level.

        Args:
            samples: Shape (n_samples,), float in [-1, 1], 16 kHz, at least 0.25 s.

        Raises:
            MetricError: Audio on which speechmos would hang (empty), raise or mislead (silence).
        """
        _refuse_unfit(samples)
        looped, starts = even_windows(levelled(samples))
        return self._mean_over(looped, starts[::2], starts, None)

    def official(self, samples: Samples) -> dict[str, float]:
        """Return ovrl, p808, sig and bak as ``speechmos.dnsmos.run`` does.

        Args:
            samples: As for ``score``.

        Raises:
            MetricError: Audio on which speechmos would hang (empty), raise or mislead.
        """
        _refuse_unfit(samples)
        tiled, starts = official_windows(samples)
        period = len(samples) if len(tiled) > len(samples) else None
        return self._mean_over(tiled, starts, starts, period)

    def _mean_over(
        self,
        sound: Samples,
        p835_starts: Sequence[int],
        p808_starts: Sequence[int],
        period: int | None,
    ) -> dict[str, float]:
        """Return the mean scores of a sound's windows, given where each network's start."""
        raw = self._p835.score(sound, p835_starts, period)
        sig, bak, ovrl = self._official.get_polyfit_val(*raw.T, False)
        p808 = [self._score_p808(sound[start : start + WINDOW]) for start in p808_starts]
        means = {"ovrl": ovrl, "p808": p808, "sig": sig, "bak": bak}
        scores = {name: float(np.mean(values)) for name, values in means.items()}
        if not np.isfinite(list(scores.values())).all():
            raise MetricError(f"DNSMOS is not finite: {scores}")
        return scores

    def _score_p808(self, window: Samples) -> float:
        """Return the P.808 score of one window."""
        features = self._official.audio_melspec(audio=window[:-160])
        batch = np.asarray(features, np.float32)[np.newaxis]
        return float(self._p808.run(None, {"input_1": batch})[0][0][0])

    def provenance(self) -> Mapping[str, str]:
        """Return the package versions and the checksums of the networks."""
        packages = {
            name: version(name) for name in ("speechmos", "onnxruntime", "librosa", "torch")
        }
        checksums = {
            f"dnsmos.{name}_onnx_sha256": file_sha256(path) for name, path in self._paths.items()
        }
        method = f"level {LEVEL_DBFS:g} dBFS, {N_PHASES} and {N_FINE_PHASES} phases, whole clip"
        return {**packages, **checksums, "dnsmos.method": method}


def _model_paths(package: Path) -> dict[str, Path]:
    """Return the networks that the official ``run`` uses."""
    folder = package / "dnsmos_models"
    return {"p835": folder / "sig_bak_ovr.onnx", "p808": folder / "model_v8.onnx"}


def _refuse_unfit(samples: Samples) -> None:
    """Raise on audio that speechmos cannot judge; an empty array would hang it for ever."""
    if samples.ndim != 1:
        raise MetricError(f"DNSMOS wants one channel, got shape {samples.shape}")
    if len(samples) < MIN_DURATION_S * SAMPLE_RATE_HZ:
        seconds = len(samples) / SAMPLE_RATE_HZ
        raise MetricError(f"{seconds:.2f} s is too short for DNSMOS ({MIN_DURATION_S} s wanted)")
    if not np.isfinite(samples).all():
        raise MetricError("DNSMOS refuses samples that are NaN or infinite")
    if np.abs(samples).max() > 1:
        raise MetricError("DNSMOS wants samples in [-1, 1]")
