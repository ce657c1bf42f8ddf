"""What the guards look at: level, voicing, silences, clipping and self-similarity of one clip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.audio import SAMPLE_RATE_HZ, Samples
from evaluation.loops import lag_correlation
from evaluation.metrics.windows import LEVEL_DBFS

Frames = npt.NDArray[np.float64]

FRAME_S = 0.030
HOP_S = 0.010
QUIETEST_DBFS = -70.0
"""Levels below this are silence to any ear: they are not told apart."""

_ACTIVE_RANGE_DB = 35.0
"""A frame this far below the loud ones is a pause."""
_LOUD_RANGE_DB = 20.0
"""A frame no further below the loud ones is heard beside them."""
_NOISE_RANGE_DB = 15.0
_NOISE_FLATNESS = 0.4
"""Of the spectrum: white noise has 0.56 in a frame, a voice below 0.01, consonants up to 0.3."""

_NO_POWER = 1e-12
"""Of full scale's: below a 16-bit sample's rounding, so digital silence."""

_FLATNESS_FROM_BIN = 3
"""Below 100 Hz there is nothing to compare."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Measured on one clip.

    Args:
        n_samples: Length.
        n_not_finite: Samples that are NaN or infinite; when any, the rest is zero.
        duration_s: Length in seconds.
        active_dbfs: RMS level of the active frames; QUIETEST_DBFS when there are none.
        noise_floor_dbfs: 10th percentile of the frame level once the active frames are brought to
            LEVEL_DBFS, not below QUIETEST_DBFS: a gain does not change it, nor hide what it holds.
        voiced_share: Voiced frames among the active ones, 0 to 1.
        unvoiced_run_s: Longest stretch of loud frames without a voice.
        noise_run_s: Longest stretch of loud frames whose spectrum is as flat as noise.
        speech_s: From the first active frame to the last.
        internal_silence_s: Longest pause between active frames.
        edge_silence_s: The longer of the silent head and the silent tail.
        clipped_share: Samples at full scale, 0 to 1.
        flat_share: Samples in runs of three or more at the clip's own peak, 0 to 1.
        lag_correlation: Largest correlation of the log-mel frames with themselves later, -1 to 1.
    """

    n_samples: int
    n_not_finite: int
    duration_s: float
    active_dbfs: float = QUIETEST_DBFS
    noise_floor_dbfs: float = QUIETEST_DBFS
    voiced_share: float = 0.0
    unvoiced_run_s: float = 0.0
    noise_run_s: float = 0.0
    speech_s: float = 0.0
    internal_silence_s: float = 0.0
    edge_silence_s: float = 0.0
    clipped_share: float = 0.0
    flat_share: float = 0.0
    lag_correlation: float = 0.0


def measure_features(samples: Samples) -> Features:
    """Measure a clip.

    Args:
        samples: Shape (n_samples,), float32, 16 kHz.
    """
    n_not_finite = int((~np.isfinite(samples)).sum())
    duration_s = len(samples) / SAMPLE_RATE_HZ
    length = {"n_samples": len(samples), "n_not_finite": n_not_finite}
    if n_not_finite or duration_s < 2 * FRAME_S:
        return Features(**length, duration_s=duration_s)
    frames = _framed(samples.astype(np.float64))
    level = _level_dbfs(frames)
    top = float(np.percentile(level, 95))
    active = level > max(QUIETEST_DBFS, top - _ACTIVE_RANGE_DB)
    voiced = np.zeros(len(level), dtype=bool)
    voiced[active] = _voiced(frames[active])
    internal, edge = _silences_s(active)
    return Features(
        **length,
        duration_s=duration_s,
        active_dbfs=_mean_level_dbfs(frames[active]),
        noise_floor_dbfs=_noise_floor_dbfs(frames, level, top),
        voiced_share=float(voiced[active].mean()) if active.any() else 0.0,
        unvoiced_run_s=_longest_run_s(active & (level > top - _LOUD_RANGE_DB) & ~voiced),
        noise_run_s=_longest_run_s(_is_noise(frames, active & (level > top - _NOISE_RANGE_DB))),
        speech_s=_extent_s(active),
        internal_silence_s=internal,
        edge_silence_s=edge,
        clipped_share=float((np.abs(samples) >= 0.999).mean()),
        flat_share=_flat_share(samples),
        lag_correlation=lag_correlation(samples),
    )


def _framed(samples: Frames) -> Frames:
    """Cut into overlapping frames, shape (n_frames, frame)."""
    frame, hop = round(FRAME_S * SAMPLE_RATE_HZ), round(HOP_S * SAMPLE_RATE_HZ)
    return np.lib.stride_tricks.sliding_window_view(samples, frame)[::hop]


def _level_dbfs(frames: Frames) -> Frames:
    """Return the RMS level of each frame, shape (n_frames,)."""
    power = np.mean(np.square(frames), axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, _NO_POWER)))


def _mean_level_dbfs(frames: Frames) -> float:
    """Return the level of all frames together."""
    if len(frames) == 0:
        return QUIETEST_DBFS
    power = float(np.mean(np.square(frames)))
    return max(QUIETEST_DBFS, 10 * math.log10(max(power, _NO_POWER)))


def _noise_floor_dbfs(frames: Frames, level: Frames, top: float) -> float:
    """Return the 10th percentile of the level, relative to the speech and not to full scale.

    Active is what lies within _ACTIVE_RANGE_DB of the loud frames here: an absolute limit would
    choose other frames of the same clip when it is softer.

    Args:
        frames: Shape (n_frames, frame).
        level: Of each frame in dBFS, shape (n_frames,).
        top: That of the loud ones.
    """
    power = float(np.mean(np.square(frames[level > top - _ACTIVE_RANGE_DB])))
    if power <= _NO_POWER:
        return QUIETEST_DBFS
    speech = 10 * math.log10(power)
    return max(QUIETEST_DBFS, float(np.percentile(level, 10)) - speech + LEVEL_DBFS)


def _voiced(frames: Frames) -> npt.NDArray[np.bool_]:
    """Say of each frame whether it has a pitch between 60 and 400 Hz; shape (n_frames,).

    A frame is voiced when its autocorrelation, corrected for the shrinking overlap, has a peak
    above 0.5 at a lag in that range.
    """
    centred = frames - frames.mean(axis=1, keepdims=True)
    size = frames.shape[1]
    spectrum = np.fft.rfft(centred, 2 * size, axis=1)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :size]
    lags = np.arange(SAMPLE_RATE_HZ // 400, SAMPLE_RATE_HZ // 60)
    scaled = correlation[:, lags] * (size / (size - lags))
    peak = scaled.max(axis=1) / np.maximum(correlation[:, 0], 1e-12)
    return np.asarray(peak > 0.5)


def _is_noise(frames: Frames, loud: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Say of each frame whether it is loud and its spectrum is flat; shape (n_frames,)."""
    windowed = frames[loud] * np.hanning(frames.shape[1])
    power = np.abs(np.fft.rfft(windowed, axis=1)[:, _FLATNESS_FROM_BIN:]) ** 2 + 1e-10
    flatness = np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)
    noise = np.zeros(len(frames), dtype=bool)
    noise[loud] = flatness > _NOISE_FLATNESS
    return noise


def _extent_s(active: npt.NDArray[np.bool_]) -> float:
    """Return the time from the first active frame to the last."""
    positions = np.flatnonzero(active)
    return float(positions[-1] - positions[0] + 1) * HOP_S if len(positions) else 0.0


def _longest_run_s(marked: npt.NDArray[np.bool_]) -> float:
    """Return how long the longest run of marked frames is."""
    runs = _runs(marked)
    return float(runs.max()) * HOP_S if len(runs) else 0.0


def _runs(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the length of each run of marked places, shape (n_runs,)."""
    edges = np.diff(np.concatenate([[0], marked.astype(np.int8), [0]]))
    return np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)


def _silences_s(active: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return (longest internal pause, longer of head and tail) in seconds."""
    positions = np.flatnonzero(active)
    if len(positions) == 0:
        return 0.0, len(active) * HOP_S
    gaps = np.diff(positions) - 1
    internal = float(gaps.max()) * HOP_S if len(gaps) else 0.0
    edge = max(int(positions[0]), len(active) - 1 - int(positions[-1])) * HOP_S
    return internal, edge


def _flat_share(samples: Samples) -> float:
    """Return the share of samples in runs of three or more that stand still at the peak.

    Speech touches its own peak with single samples; a clipped waveform stays there, at whatever
    level it was scaled to afterwards. Half a step of 8 bits counts as standing still.
    """
    peak = float(np.abs(samples).max())
    if peak == 0:
        return 0.0
    runs = _runs(np.abs(samples) >= 0.995 * peak)
    return float(runs[runs >= 3].sum()) / len(samples)
