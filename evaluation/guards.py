"""Guards before MOS: audio that is broken in ways that a quality model does not see.

DNSMOS gives digital silence a background score of 3.47 and reversed speech more than speech, so
these are asked first. Each guard is one function that returns the sentence to record, or None.
Guards on one clip take its ``Features``; guards on what was said stand in
``evaluation.content_guards``, guards against the baseline in ``relative_trips``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from evaluation.features import Features
from evaluation.scores import UtteranceScores


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Thresholds of the guards on one clip.

    Args:
        min_duration_s: Shorter is not speech.
        min_active_dbfs: Level of the loud frames; below it nobody hears anything.
        min_voiced_share: Of the active frames; noise and whispers have less. One sentence full of
            hard consonants has 0.30 to 0.35, from seed to seed; of 400 clips none had less.
        max_unvoiced_run_s: Loud and without a voice in one stretch: a burst of noise. On 280 clips
            of the embedded voice no consonant lasted more than 0.27 s.
        max_noise_run_s: Loud and as flat as white noise: a shorter burst, or one on top of speech,
            where the voice still shows. No consonant of 480 clips of seven voices lasted 0.03 s.
        max_internal_silence_s: Between the first and the last active frame.
        max_edge_silence_s: Before the first or after the last active frame.
        max_clipped_share: Of the samples, at full scale.
        max_flat_share: Of the samples, in runs that stand still at the peak: clipped, then scaled.
        max_lag_correlation: Of 1.5 s of log-mel frames with frames later: a loop. Of 500 clips of
            eight voices two passed 0.80 (someone counting; "w w w": 0.87; the median is 0.36), and
            phrases repeated with noise and at 3 % another tempo had no less than 0.91.
        max_compression_ratio: Of the transcript: a loop that the recogniser wrote down.
        max_word_repeats: Of a phrase in the transcript, in a row, beyond the reference's own.
        max_token_repeat_s: Of the same speech tokens twice in a sentence; sampling never repeats
            itself for long (at most 5 tokens, 0.2 s, in 156 sentences of the embedded voice).
        max_token_hold_s: Of a few tokens held, as in a pause.
        max_length_ratio: Of the clip to what so many letters take (seven voices: 0.6 to 1.2).
    """

    min_duration_s: float = 0.25
    min_active_dbfs: float = -50.0
    min_voiced_share: float = 0.20
    max_unvoiced_run_s: float = 0.6
    max_noise_run_s: float = 0.12
    max_internal_silence_s: float = 1.5
    max_edge_silence_s: float = 1.5
    max_clipped_share: float = 0.001
    max_flat_share: float = 0.001
    max_lag_correlation: float = 0.90
    max_compression_ratio: float = 2.4
    max_word_repeats: int = 2
    max_token_repeat_s: float = 0.8
    max_token_hold_s: float = 1.5
    max_length_ratio: float = 3.0


@dataclass(frozen=True, kw_only=True)
class RelativeLimits:
    """Thresholds of the guards against the baseline's same utterance.

    Args:
        min_duration_ratio: Candidate over baseline; shorter has lost words.
        max_duration_ratio: Longer has added some.
        runaway_ratio: The hard stop: whatever was said, it did not end when it should.
        min_duration_change_s: A smaller difference is no lost word, whatever the ratio: one-word
            prompts last half a second.
        max_noise_floor_rise_db: Of the 10th percentile of the frame level, against the speech.
            Honest resampling moves it by 1.2 to 1.6 dB (sigma; embedded voice), by 3.8 dB in
            clips under 1.5 s, and by up to 15 dB where it lies at the edge of a pause (espeak).
    """

    min_duration_ratio: float = 0.7
    max_duration_ratio: float = 1.4
    runaway_ratio: float = 3.0
    min_duration_change_s: float = 0.3
    max_noise_floor_rise_db: float = 6.0


FLOORLESS = frozenset({"empty", "finite"})
"""Guards on audio that no level, and so no noise floor, can be measured on."""

Guard = Callable[[Features, Limits], str | None]


def too_quiet(features: Features, limits: Limits) -> str | None:
    """Trip on a level nobody hears, digital silence included."""
    if features.active_dbfs > limits.min_active_dbfs:
        return None
    return f"level: {features.active_dbfs:.0f} dBFS (above {limits.min_active_dbfs:.0f} wanted)"


def unvoiced(features: Features, limits: Limits) -> str | None:
    """Trip on audio with too little voice in it, such as noise."""
    if features.voiced_share >= limits.min_voiced_share:
        return None
    return f"voiced: {features.voiced_share:.0%} (at least {limits.min_voiced_share:.0%} wanted)"


def noise_burst(features: Features, limits: Limits) -> str | None:
    """Trip on a stretch of loud noise within speech that is fine otherwise."""
    if features.noise_run_s > limits.max_noise_run_s:
        return over("noise_burst", features.noise_run_s, limits.max_noise_run_s, "s of flat noise")
    if features.unvoiced_run_s <= limits.max_unvoiced_run_s:
        return None
    return over("noise_burst", features.unvoiced_run_s, limits.max_unvoiced_run_s, "s of noise")


def internal_silence(features: Features, limits: Limits) -> str | None:
    """Trip on a long hole in the speech."""
    if features.internal_silence_s <= limits.max_internal_silence_s:
        return None
    return over("silence", features.internal_silence_s, limits.max_internal_silence_s, "s inside")


def edge_silence(features: Features, limits: Limits) -> str | None:
    """Trip on a long silent head or tail."""
    if features.edge_silence_s <= limits.max_edge_silence_s:
        return None
    return over("edge_silence", features.edge_silence_s, limits.max_edge_silence_s, "s at an end")


def clipping(features: Features, limits: Limits) -> str | None:
    """Trip on samples at full scale."""
    if features.clipped_share < limits.max_clipped_share:
        return None
    return f"clipping: {features.clipped_share:.2%} at full scale ({limits.max_clipped_share:.1%})"


def flat_runs(features: Features, limits: Limits) -> str | None:
    """Trip on plateaus at the peak: clipping that was scaled down afterwards."""
    if features.flat_share < limits.max_flat_share:
        return None
    return f"flat_runs: {features.flat_share:.2%} flat at the peak ({limits.max_flat_share:.1%})"


def loop(features: Features, limits: Limits) -> str | None:
    """Trip on sound that repeats itself."""
    if features.lag_correlation <= limits.max_lag_correlation:
        return None
    return over("loop", features.lag_correlation, limits.max_lag_correlation, "lag correlation")


CLIP_GUARDS: tuple[Guard, ...] = (
    too_quiet, unvoiced, noise_burst, internal_silence, edge_silence, clipping, flat_runs, loop,
)  # fmt: skip


def clip_trips(features: Features, n_truncated: int, limits: Limits) -> tuple[str, ...]:
    """Return the guards that a clip trips.

    Args:
        features: Measured on the clip; without the spectral part when it is degenerate.
        n_truncated: Sentences that reached the token cap.
        limits: Thresholds.
    """
    trips = [] if n_truncated == 0 else [f"truncated: {n_truncated} sentences at the token cap"]
    degenerate = _degenerate(features, limits)
    if degenerate is not None:
        return (*trips, degenerate)
    found = (guard(features, limits) for guard in CLIP_GUARDS)
    return (*trips, *(trip for trip in found if trip is not None))


def _degenerate(features: Features, limits: Limits) -> str | None:
    """Return why nothing else can be asked of a clip, or None."""
    if features.n_samples == 0:
        return "empty: no samples"
    if features.n_not_finite:
        return f"finite: {features.n_not_finite} samples are NaN or infinite"
    if features.duration_s < limits.min_duration_s:
        return f"too_short: {features.duration_s:.2f} s (at least {limits.min_duration_s:g})"
    return None


def relative_trips(
    baseline: UtteranceScores, candidate: UtteranceScores, limits: RelativeLimits
) -> tuple[str, ...]:
    """Return the guards that an utterance trips beside the baseline's.

    What was not measured on either side trips nothing here: its own failure is counted already.
    """
    found = (
        _duration_ratio(baseline, candidate, limits),
        _noise_floor(baseline, candidate, limits),
    )
    return tuple(trip for trip in found if trip is not None)


def _duration_ratio(
    baseline: UtteranceScores, candidate: UtteranceScores, limits: RelativeLimits
) -> str | None:
    """Trip on words lost or added, as the length from the first sound to the last shows it."""
    before, after = baseline.speech_s, candidate.speech_s
    if before is None or after is None:
        before, after = baseline.duration_s, candidate.duration_s
    if not before or after is None or not math.isfinite(before + after):
        return None
    ratio = after / before
    low, high = limits.min_duration_ratio, limits.max_duration_ratio
    if low <= ratio <= high or abs(after - before) < limits.min_duration_change_s:
        return None
    if ratio >= limits.runaway_ratio:
        return f"runaway: {ratio:.1f} times the baseline's length ({limits.runaway_ratio:g})"
    return f"duration_ratio: {ratio:.2f} of the baseline's ({low:g} to {high:g})"


def _noise_floor(
    baseline: UtteranceScores, candidate: UtteranceScores, limits: RelativeLimits
) -> str | None:
    """Trip on hiss that DNSMOS likes."""
    if baseline.noise_floor_dbfs is None or candidate.noise_floor_dbfs is None:
        return None
    rise = floor_rise_db(baseline, candidate)
    if rise <= limits.max_noise_floor_rise_db:
        return None
    return over("noise_floor", rise, limits.max_noise_floor_rise_db, "dB above the baseline's")


def floor_rise_db(baseline: UtteranceScores, candidate: UtteranceScores) -> float:
    """Return by how much the noise rises under the speech; a gain is none, as floors are levelled.

    Raises:
        ValueError: An utterance has no noise floor.
    """
    before, after = baseline.noise_floor_dbfs, candidate.noise_floor_dbfs
    if before is None or after is None:
        raise ValueError(f"utterance {candidate.utterance_id!r} has no noise floor to compare")
    return after - before


def over(name: str, seen: float, limit: float, unit: str) -> str:
    """Say what was seen, and the limit that it is over."""
    return f"{name}: {seen:.2f} {unit} (limit {limit:g})"
