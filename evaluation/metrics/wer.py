"""Word errors: what a recogniser hears, against what should have been said."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.errors import MetricError
from evaluation.metrics.base import MetricSettings, Subject, Value

if TYPE_CHECKING:
    import jiwer


class WordErrors:
    """Transcribe a clip and count its word errors.

    Counts and not a rate, so that the corpus rate is errors over words of all utterances.
    """

    def __init__(self, settings: MetricSettings) -> None:
        from evaluation import asr

        self._recogniser = asr.load(settings.asr)
        _normaliser()

    def __call__(self, subject: Subject) -> Mapping[str, Value]:
        """Return the transcript, ``wer_errors`` and ``wer_words``."""
        if len(subject.samples) == 0 or not np.isfinite(subject.samples).all():
            raise MetricError("the recogniser needs samples, all of them finite")
        transcript = self._recogniser.transcribe(subject.samples)
        errors, words = count_word_errors(subject.clip.reference, transcript)
        return {"transcript": transcript, "wer_errors": errors, "wer_words": words}

    def provenance(self) -> Mapping[str, str]:
        """Return the recogniser's own provenance and the package versions."""
        method = "Whisper's English normaliser, spaces aside"
        return {"jiwer": version("jiwer"), "wer.method": method, **self._recogniser.provenance}


def count_word_errors(reference: str, transcript: str) -> tuple[int, int]:
    """Count substitutions, deletions and insertions after normalising both sides.

    Where nothing differs but the spaces there is no error: one recogniser writes "FBI" and
    "6:45", the reference "f b i" and "six forty five".

    Args:
        reference: What should be heard.
        transcript: What was heard; may be empty.

    Returns:
        Errors, and words of the normalised reference.

    Raises:
        MetricError: The reference is empty after normalisation ("Hmm." is): no rate exists.
    """
    import jiwer

    wanted = normalise(reference)
    if not any(character.isalnum() for character in wanted):
        raise MetricError(f"the reference {reference!r} is empty once normalised")
    heard = normalise(transcript)
    words = len(wanted.split())
    if not heard:
        return words, words
    return sum(_errors_of_blocks(jiwer.process_words(wanted, heard))), words


def _errors_of_blocks(found: jiwer.WordOutput) -> Iterator[int]:
    """Yield the errors of each stretch without a word in common."""
    chunks = found.alignments[0]
    for is_equal, group in groupby(chunks, key=lambda chunk: chunk.type == "equal"):
        block = list(group)
        if is_equal:
            continue
        first, last = block[0], block[-1]
        said = found.references[0][first.ref_start_idx : last.ref_end_idx]
        heard = found.hypotheses[0][first.hyp_start_idx : last.hyp_end_idx]
        if "".join(said) == "".join(heard):
            continue
        yield sum(
            max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            for chunk in block
        )


def normalise(text: str) -> str:
    """Return text as Whisper's English normaliser leaves it."""
    return str(_normaliser()(text)).strip()


@cache
def _normaliser() -> Any:  # noqa: ANN401 - whisper ships no types
    from whisper.normalizers import EnglishTextNormalizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its word list open
        return EnglishTextNormalizer()
