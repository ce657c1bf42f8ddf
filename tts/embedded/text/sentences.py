"""Normalised text cut into pieces the voice can say in one breath."""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_CHARACTERS = 140
# Shorter than this a piece sounds clipped: it joins a neighbour where both fit.
SHORT_CHARACTERS = 20

_LEVELS = (r"(?<=[.?!]) ", r"(?<=[;:]) ", r"(?<=,) ", r" ")


def split_sentences(text: str, max_characters: int = MAX_CHARACTERS) -> list[str]:
    """Cut normalised text at sentence ends, then at clauses, then between words.

    Args:
        text: What ``normalise`` returned.
        max_characters: No piece is longer; a single longer word is cut too. At least 1.

    Returns:
        The pieces in order, none empty. Very short ones are merged with a neighbour that has
        room for them.
    """
    if max_characters < 1:
        raise ValueError(f"max_characters={max_characters}: give at least 1")
    sentences = re.split(_LEVELS[0], text.strip())
    pieces = [p for s in sentences if s for p in _cut(s, max_characters, 1)]
    return _merge(pieces, max_characters)


def _cut(text: str, limit: int, level: int) -> Iterator[str]:
    """Cut one piece at its level's joints, filling each piece as far as it goes."""
    if len(text) <= limit:
        yield text
        return
    if level == len(_LEVELS):
        yield from (text[i : i + limit] for i in range(0, len(text), limit))
        return
    piece = ""
    for part in re.split(_LEVELS[level], text):
        if piece and len(piece) + 1 + len(part) <= limit:
            piece = f"{piece} {part}"
            continue
        if piece:
            yield from _cut(piece, limit, level + 1)
        piece = part
    yield from _cut(piece, limit, level + 1)


def _merge(pieces: list[str], limit: int) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        short = merged and min(len(merged[-1]), len(piece)) < SHORT_CHARACTERS
        if short and len(merged[-1]) + 1 + len(piece) <= limit:
            merged[-1] = f"{merged[-1]} {piece}"
        else:
            merged.append(piece)
    return merged
