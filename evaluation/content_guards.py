"""Guards on what was said: loops in the words and in the speech tokens, and speech without end."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.guards import Limits, over
from evaluation.loops import compression_ratio, longest_repeat, longest_token_repeat

_SECONDS_AT_LEAST = 0.5
_SECONDS_PER_LETTER = 0.07
_LETTERS_PER_SIGN = 8
"""A digit or a currency sign is a word when it is said."""

_LEAST_VARIETY = 0.25
"""Different tokens over tokens: fewer are a pause that is held and no phrase."""


def transcript_trips(transcript: str, reference: str, limits: Limits) -> tuple[str, ...]:
    """Return the guards that a transcript trips: phrases said over and over.

    Args:
        transcript: What the recogniser heard.
        reference: What was to be said; its own repetitions are allowed.
        limits: Thresholds.
    """
    trips = []
    ratio = compression_ratio(transcript)
    if ratio > max(limits.max_compression_ratio, compression_ratio(reference)):
        trips.append(over("transcript_loop", ratio, limits.max_compression_ratio, "compression"))
    said = longest_repeat(transcript)
    allowed = max(limits.max_word_repeats, longest_repeat(reference).times)
    if said.times > allowed:
        trips.append(f"repeated_words: {said.phrase!r} {said.times} times in a row ({allowed})")
    return tuple(trips)


def token_trips(
    sentences: Sequence[Sequence[int]], duration_s: float, limits: Limits
) -> tuple[str, ...]:
    """Return the guards that speech tokens trip: a stretch of them said twice, or held.

    Args:
        sentences: The candidate's tokens, sentence by sentence; empty where the model has none.
        duration_s: Length of their audio, for the rate of the tokens.
        limits: Thresholds.
    """
    n_tokens = sum(map(len, sentences))
    if not n_tokens or duration_s <= 0:
        return ()
    kinds = (
        (_varies, limits.max_token_repeat_s, "s of the same tokens twice"),
        (_is_held, limits.max_token_hold_s, "s of held tokens"),
    )
    for is_wanted, limit, what in kinds:
        longest = max(len(longest_token_repeat(sentence, is_wanted)) for sentence in sentences)
        seconds = longest * duration_s / n_tokens
        if seconds > limit:
            return (over("token_loop", seconds, limit, what),)
    return ()


def _varies(stretch: Sequence[int]) -> bool:
    """Say whether a stretch of tokens is a phrase."""
    return len(set(stretch)) >= _LEAST_VARIETY * len(stretch)


def _is_held(stretch: Sequence[int]) -> bool:
    """Say whether a stretch of tokens is a few of them, held."""
    return not _varies(stretch)


def length_trips(duration_s: float, reference: str, limits: Limits) -> tuple[str, ...]:
    """Return the guard that speech without end trips, where no baseline is there to tell.

    Args:
        duration_s: Length of the clip.
        reference: What was to be said.
        limits: Thresholds.
    """
    letters = sum(
        _LETTERS_PER_SIGN if not (sign.isalpha() or sign in " '-.,;:!?") else 1
        for sign in reference
    )
    expected_s = _SECONDS_AT_LEAST + _SECONDS_PER_LETTER * letters
    if duration_s <= limits.max_length_ratio * expected_s:
        return ()
    seen = f"{duration_s:.1f} s where {letters} letters take {expected_s:.1f} s"
    return (f"runaway: {seen} (limit {limits.max_length_ratio:g} times that)",)
