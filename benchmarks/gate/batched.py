"""Hear and score a clip as the judge does, words and DNSMOS in batches on a device.

The guards stay the judge's own, on the CPU. ``agreement`` says how far batches are from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from benchmarks.gate.hearing import BatchedEar, compare_words
from benchmarks.gate.opinion import BatchedDnsmos, compare_opinions, is_fit
from benchmarks.gate.voices import Float
from evaluation.content_guards import transcript_trips
from evaluation.guards import Limits
from evaluation.metrics.wer import count_word_errors
from evaluation.scores import Clip, UtteranceScores

Opinion = dict[str, float]


@cache
def ear(device: str) -> BatchedEar:
    """Return this process's ear on a device."""
    return BatchedEar(device)


@cache
def dnsmos(device: str) -> BatchedDnsmos:
    """Return this process's DNSMOS on a device."""
    return BatchedDnsmos(device)


def opinions_of(sounds: Sequence[Float], device: str) -> tuple[Opinion, ...]:
    """Return the DNSMOS of each sound, shape (n_samples,), 16 kHz; empty where it is unfit."""
    fit = [i for i, sound in enumerate(sounds) if is_fit(sound)]
    found = dict(zip(fit, dnsmos(device).score([sounds[i] for i in fit]), strict=True))
    return tuple(found.get(i, {}) for i in range(len(sounds)))


def with_opinion(scores: UtteranceScores, opinion: Opinion) -> UtteranceScores:
    """Add to an utterance's scores how it sounds."""
    if not opinion:
        return replace(scores, failures={**scores.failures, "dnsmos": "unfit audio"})
    found: dict[str, Any] = {f"dnsmos_{name}": value for name, value in opinion.items()}
    return replace(scores, **found)


def with_words(scores: UtteranceScores, reference: str, heard: str) -> UtteranceScores:
    """Add to an utterance's scores what was heard in it."""
    errors, words = count_word_errors(reference, heard)
    trips = transcript_trips(heard, reference, Limits())
    return replace(scores, wer_errors=errors, wer_words=words, guards=(*scores.guards, *trips))


def agreement(
    clips: Sequence[Clip], heard: Sequence[str], opinions: Sequence[Opinion]
) -> dict[str, Any]:
    """Compare batches with the judge's own ear and DNSMOS, on a sample of the clips."""
    return {
        "same_words": compare_words(clips, heard),
        "same_dnsmos": compare_opinions(clips, opinions),
    }
