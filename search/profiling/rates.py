"""How fast timed calls were, from their times and what they said."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.timing import Measurement, quantile
from search.profiling.record import Figure, figure_of, unknown
from tts.types import Audio

_LEAST_FOR_P95 = 20  # below it a 95th percentile is a guess between two samples


def rates(latency: Measurement, audios: Sequence[Audio]) -> dict[str, Figure]:
    """Return what follows from the audio of all calls and their time; per call, the mean."""
    whole_s, audio_s = sum(latency.samples), sum(audio.duration_s for audio in audios)
    n_tokens = sum(audio.n_tokens for audio in audios)
    silent = unknown("nothing was said")
    return {
        "latency.p50": figure_of(latency),
        "latency.p95": _p95(latency),
        "audio": Figure(value=audio_s / latency.n, unit="s"),
        "rtf": Figure(value=whole_s / audio_s) if audio_s else silent,
        "samples_per_s": Figure(value=len(audios) / whole_s, unit="1/s"),
        "audio_s_per_s": Figure(value=audio_s / whole_s),
        "tokens": Figure(value=n_tokens / latency.n) if n_tokens else unknown("it tells no tokens"),
        "tokens_per_s": Figure(value=n_tokens / whole_s, unit="1/s")
        if n_tokens
        else unknown("it tells no tokens"),
    }


def _p95(latency: Measurement) -> Figure:
    if latency.n < _LEAST_FOR_P95:
        return unknown(f"{latency.n} calls are too few for it: {_LEAST_FOR_P95}", "s")
    return Figure(value=quantile(latency.samples, 0.95), unit="s")
