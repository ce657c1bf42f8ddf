"""PESQ where it means something: the same tokens through two vocoders.

Two samplings of one sentence are not aligned in time, and PESQ of them is noise (the same voice
at 4 % another tempo scores 1.5 to 2.3, true damage 3.2 to 3.8). So the reference is the
baseline's rendering of its own tokens and the degraded one the candidate's rendering of the same.
A pair that turns out not to be aligned gets its number under a name that says so.

Source: ITU-T P.862.2, by the package pesq.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

import numpy as np

from evaluation.audio import SAMPLE_RATE_HZ, Samples, read_clip
from evaluation.errors import MetricError
from evaluation.metrics.alignment import largest_shift_s
from evaluation.metrics.base import MetricSettings, Subject, Value

MIN_DURATION_S = 0.25
MAX_DURATION_S = 30.0
"""The library's fixed tables overflow, and the process dies, at about a minute."""

MAX_LENGTH_DIFFERENCE_S = 0.01
MAX_SHIFT_S = 0.04
"""PESQ finds small shifts itself; a second of speech further off is another recording."""

UNALIGNED = "pesq_wb_unaligned"
"""The value's name where two recordings do not say the same at the same time: it tells nothing of
their quality, and nothing is decided on it."""


class TeacherForcedPesq:
    """Wide-band PESQ of the candidate's rendering of the baseline's tokens."""

    def __init__(self, settings: MetricSettings) -> None:
        del settings
        import pesq

        self._pesq = pesq.pesq

    def __call__(self, subject: Subject) -> Mapping[str, Value]:
        """Score a clip's renderings; nothing when there are none to compare.

        Returns:
            ``pesq_wb``, or ``pesq_wb_unaligned`` where the two are not of the same tokens.
        """
        clip = subject.clip
        if clip.render_path is None and clip.baseline_render_path is None:
            return {}
        if clip.render_path is None or clip.baseline_render_path is None:
            raise MetricError("PESQ needs both renderings of the baseline's tokens, got one")
        reference, degraded = read_clip(clip.baseline_render_path), read_clip(clip.render_path)
        name = "pesq_wb" if are_aligned(reference, degraded) else UNALIGNED
        return {name: self.score(reference, degraded)}

    def score(self, reference: Samples, degraded: Samples) -> float:
        """Return MOS-LQO, 1.0 to 4.64.

        Args:
            reference: Shape (n_samples,), float in [-1, 1], 16 kHz.
            degraded: The same; what is longer than the other is not compared.

        Raises:
            MetricError: Audio on which the library raises or crashes.
        """
        n_samples = _usable_length(reference, degraded)
        value = float(self._pesq(SAMPLE_RATE_HZ, reference[:n_samples], degraded[:n_samples], "wb"))
        if not np.isfinite(value):
            raise MetricError(f"PESQ is not finite: {value}")
        return value

    def provenance(self) -> Mapping[str, str]:
        """Return the package's version."""
        return {"pesq": version("pesq")}


def are_aligned(reference: Samples, degraded: Samples) -> bool:
    """Say whether two recordings can be compared sample by sample: lengths first, then content."""
    difference_s = abs(len(reference) - len(degraded)) / SAMPLE_RATE_HZ
    if difference_s > MAX_LENGTH_DIFFERENCE_S:
        return False
    if not (np.isfinite(reference).all() and np.isfinite(degraded).all()):
        return True  # refused for that, and not for its alignment
    return largest_shift_s(reference, degraded) <= MAX_SHIFT_S + 1e-9


def _usable_length(reference: Samples, degraded: Samples) -> int:
    """Return the common length, or refuse what the library would raise or die on."""
    n_samples = min(len(reference), len(degraded))
    duration_s = n_samples / SAMPLE_RATE_HZ
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise MetricError(
            f"PESQ takes {MIN_DURATION_S} to {MAX_DURATION_S:g} s, the rendering has "
            f"{duration_s:.2f} s"
        )
    for name, samples in (("reference", reference), ("rendering", degraded)):
        if not np.isfinite(samples).all():
            raise MetricError(f"the {name} has samples that are NaN or infinite")
        if not np.any(samples[:n_samples]):
            raise MetricError(f"the {name} is silent: PESQ finds no utterance in it")
    return n_samples
