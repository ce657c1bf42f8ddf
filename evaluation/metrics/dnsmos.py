"""DNSMOS: the mean opinion score that a listening test would give, as a network predicts it.

Source: Reddy, Gopal, Cutler: DNSMOS P.835, ICASSP 2022; DNSMOS (P.808), ICASSP 2021. Scored by
the official package speechmos, on its own terms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.audio import SAMPLE_RATE_HZ, Samples
from evaluation.errors import MetricError
from evaluation.metrics.base import MetricSettings, Subject, Value

MIN_DURATION_S = 0.25
"""Shorter clips would be tiled dozens of times: a score of the tiling."""


class Dnsmos:
    """The official score, with the sessions made once and on one thread.

    One thread, because onnxruntime sums in an order that depends on how many there are.
    """

    def __init__(self, settings: MetricSettings) -> None:
        del settings
        import onnxruntime
        from speechmos import dnsmos

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._paths = _model_paths(Path(dnsmos.__file__).parent)
        # speechmos takes no session options, so its object is given sessions of ours.
        self._scorer: Any = object.__new__(dnsmos.DNSMOS)
        self._scorer.primary_model_path = str(self._paths["p835"])
        self._scorer.onnx_sess = _session(self._paths["p835"], options)
        self._scorer.p808_onnx_sess = _session(self._paths["p808"], options)

    def __call__(self, subject: Subject) -> Mapping[str, Value]:
        """Score one clip."""
        scores = self.score(subject.samples)
        return {f"dnsmos_{name}": value for name, value in scores.items()}

    def score(self, samples: Samples) -> dict[str, float]:
        """Return ovrl, p808, sig and bak, each 1 to 5.

        Args:
            samples: Shape (n_samples,), float in [-1, 1], 16 kHz, at least 0.25 s.

        Raises:
            MetricError: Audio on which speechmos would hang (empty), raise or mislead.
        """
        _refuse_unfit(samples)
        found = self._scorer(np.asarray(samples), SAMPLE_RATE_HZ, False)
        scores = {name: float(found[f"{name}_mos"]) for name in ("ovrl", "p808", "sig", "bak")}
        if not np.isfinite(list(scores.values())).all():
            raise MetricError(f"DNSMOS is not finite: {scores}")
        return scores

    def provenance(self) -> Mapping[str, str]:
        """Return the package versions and the checksums of the networks."""
        packages = {name: version(name) for name in ("speechmos", "onnxruntime", "librosa")}
        checksums = {
            f"dnsmos.{name}_onnx_sha256": hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in self._paths.items()
        }
        return {**packages, **checksums}


def _model_paths(package: Path) -> dict[str, Path]:
    """Return the networks that the official ``run`` uses."""
    folder = package / "dnsmos_models"
    return {"p835": folder / "sig_bak_ovr.onnx", "p808": folder / "model_v8.onnx"}


def _session(path: Path, options: Any) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


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
