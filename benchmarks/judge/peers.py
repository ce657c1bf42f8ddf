"""Time our metrics beside the packages that people call for the same scores, clip after clip."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pesq
import torch
from speechmos import dnsmos as speechmos
from torchmetrics.functional.audio import dnsmos as torchmetrics_dnsmos
from torchmetrics.functional.audio import perceptual_evaluation_speech_quality

from benchmarks.gate.voices import SAMPLE_RATE_HZ, Float
from evaluation.metrics.base import MetricSettings
from evaluation.metrics.dnsmos import Dnsmos
from evaluation.metrics.pesq import TeacherForcedPesq

SETTINGS = MetricSettings(asr="embedded")
ROUNDS = 3
Way = Callable[[Float, Float], Any]


def compare(clips: Sequence[Float], renders: Sequence[Float]) -> dict[str, Any]:
    """Return seconds per clip of each way, in turn and warm, and how far the scores lie apart.

    Args:
        clips: Shape (n_samples,) each, 16 kHz.
        renders: A damaged copy of each, for PESQ.
    """
    ours = Dnsmos(SETTINGS)
    ours_pesq = TeacherForcedPesq(SETTINGS)
    ways: dict[str, Way] = {
        "dnsmos robust (ours, 1 thread)": lambda clip, _: ours.score(clip)["ovrl"],
        "dnsmos official (ours, 1 thread)": lambda clip, _: ours.official(clip)["ovrl"],
        "dnsmos speechmos.run (all cores)": lambda clip, _: speechmos.run(clip, SAMPLE_RATE_HZ)[
            "ovrl_mos"
        ],
        "dnsmos torchmetrics (1 thread)": lambda clip, _: float(_torchmetrics(clip)[3]),
        "pesq ours": ours_pesq.score,
        "pesq torchmetrics": lambda clip, render: float(
            perceptual_evaluation_speech_quality(
                torch.from_numpy(render), torch.from_numpy(clip), SAMPLE_RATE_HZ, "wb"
            )
        ),
        "pesq pesq.pesq": lambda clip, render: pesq.pesq(SAMPLE_RATE_HZ, clip, render, "wb"),
    }
    with _networks_at_hand():
        values = {name: [float(way(*pair)) for pair in zip(clips, renders, strict=True)]
                  for name, way in ways.items()}  # fmt: skip
        seconds = {name: _seconds(ways, name, clips, renders) for name in ways}
    official = values["dnsmos speechmos.run (all cores)"]
    return {
        "n_clips": len(clips),
        "rounds": ROUNDS,
        "seconds_per_clip_median": {name: float(np.median(s)) for name, s in seconds.items()},
        "seconds_per_clip": seconds,
        "largest_difference": {
            "official ovrl, ours to speechmos": _apart(
                values["dnsmos official (ours, 1 thread)"], official
            ),
            "official ovrl, torchmetrics to speechmos": _apart(
                values["dnsmos torchmetrics (1 thread)"], official
            ),
            "pesq, ours to pesq.pesq": _apart(values["pesq ours"], values["pesq pesq.pesq"]),
        },
    }


def _seconds(
    ways: dict[str, Way], name: str, clips: Sequence[Float], renders: Sequence[Float]
) -> list[float]:
    """Return the seconds per clip of each round, warm."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for clip, render in zip(clips, renders, strict=True):
            ways[name](clip, render)
        found.append((time.perf_counter() - began) / len(clips))
    return found


def _torchmetrics(clip: Float) -> torch.Tensor:
    """Return p808, sig, bak and ovr."""
    score = torchmetrics_dnsmos.deep_noise_suppression_mean_opinion_score
    return score(torch.from_numpy(clip), SAMPLE_RATE_HZ, personalized=False, num_threads=1)


@contextmanager
def _networks_at_hand() -> Iterator[None]:
    """Give torchmetrics, which would download them, the networks that speechmos carries."""
    package = Path(speechmos.__file__).parent
    known = torchmetrics_dnsmos.DNSMOS_DIR
    with tempfile.TemporaryDirectory() as folder:
        for source in ("dnsmos_models", "pdnsmos_models"):
            target = Path(folder) / {"dnsmos_models": "DNSMOS", "pdnsmos_models": "pDNSMOS"}[source]
            shutil.copytree(package / source, target)
        torchmetrics_dnsmos.DNSMOS_DIR = os.fspath(folder)
        try:
            yield
        finally:
            torchmetrics_dnsmos.DNSMOS_DIR = known


def _apart(first: Sequence[float], second: Sequence[float]) -> float:
    return float(np.abs(np.subtract(first, second)).max())
