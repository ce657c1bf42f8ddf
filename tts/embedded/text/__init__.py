"""Text as the embedded voice reads it: spoken form, sentences, character ids."""

from __future__ import annotations

import re
import unicodedata

from tts.embedded.text.capitals import lower
from tts.embedded.text.expand import expand
from tts.embedded.text.fold import fold
from tts.embedded.text.sentences import split_sentences
from tts.embedded.text.tables import SYMBOLS
from tts.errors import TextError

__all__ = ["encode", "normalise", "split_sentences"]

_SYMBOLS = str.maketrans(SYMBOLS)


def normalise(text: str) -> str:
    """Write a text the way it is spoken.

    Args:
        text: Anything a person writes.

    Returns:
        Lower-case ASCII words and ``. , ? ! ; : ' -`` only, single spaces, a terminal mark at the
        end.

    Raises:
        TextError: Nothing in it can be spoken, or it holds a control character.
    """
    folded = re.sub(r"\s*\n\s*\n\s*", _paragraph, fold(text).strip())
    spoken = _tidy(lower(expand(_single(folded))).translate(_SYMBOLS))
    if not re.search("[a-z]", spoken):
        raise TextError(
            f"the text has nothing to speak: {_instead(text)}; give it at least one word or number"
        )
    return spoken


def encode(text: str) -> list[int]:
    """Turn normalised text into character ids (n,), each in [1, 128); 0 is the model's NULL.

    Raises:
        TextError: A character outside ASCII, or NUL: the text was not normalised.
    """
    ids = [ord(character) for character in text]
    if not all(0 < i < 128 for i in ids):
        raise TextError(f"{text!r} has characters the voice has no id for; normalise it first")
    return ids


def _paragraph(match: re.Match[str]) -> str:
    before = match.string[: match.start()][-1:]
    return " " if before in ".?!:;," else ". "


def _instead(text: str) -> str:
    """Say what a text without a word holds."""
    found = {unicodedata.category(c)[0] for c in text if not c.isspace()}
    if not found:
        return "it is empty"
    if "L" in found:
        return "the voice reads Latin letters, and it has none of them"
    return "it is all punctuation" if found <= {"P", "C"} else "it is all signs or emoji"


def _single(text: str) -> str:
    """Leave one blank where there are several: patterns would look at each of them anew."""
    return " ".join(text.split())


def _tidy(text: str) -> str:
    """Reduce to the marks the voice knows, one at a time, each behind a word."""
    text = _single(text)
    text = re.sub(r"\s*(?:--+|\s-+\s|\|)\s*", ", ", text)
    text = re.sub(r"[()\[\]{}]+", ", ", text)
    text = re.sub(r"(?<!\.)\.{2,}(?=\s*[a-z])", ", ", text)
    text = re.sub(r"[^a-z.,?!;:'\- ]", " ", text)
    text = re.sub(r"(?<![a-z])'|'(?![a-z])", "", text)
    text = re.sub(r"(?<![a-z])-|-(?![a-z])", " ", text)
    text = re.sub(r"\s*([.,?!;:])\s*", r"\1 ", _single(text))
    text = re.sub(r"[.,?!;:](?: ?[.,?!;:])+", _strongest, text)
    text = re.sub(r"^[\s.,?!;:]+|[\s,;:]+$", "", _single(text))
    return text if text[-1:] in (".", "?", "!") else f"{text}."


def _strongest(match: re.Match[str]) -> str:
    return next(mark for mark in "?!.:;," if mark in match.group())
