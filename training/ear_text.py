"""The words the ear writes, as rows of Whisper's English vocabulary.

Whisper's English tokenizer has 51,864 rows, most of which a small lower-case recogniser never
needs. The ear keeps the 2,048 lowest-ranked lower-case pieces (byte-pair ranks are in order of
frequency) and spells every word with as few of them as possible. Whisper's own decoder joins
pieces of any segmentation, so nothing else has to know.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
from whisper.tokenizer import get_tokenizer

N_VOCABULARY = 51_864
N_PIECES = 2_048
CHARACTERS = " abcdefghijklmnopqrstuvwxyz'"
N_CHARACTERS = len(CHARACTERS) + 1

_PIECE = re.compile(rb" ?[a-z]+|'[a-z]*")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


def spoken_words(text: str) -> str | None:
    """Reduce a normalised sentence to what a listener hears: lower-case words, single spaces.

    Returns:
        The words, or None where a character is left that nobody can hear as a word (a digit).
    """
    lower = text.lower().replace("\u2019", "'")
    if re.search(r"[^\x00-\x7f]|[0-9]", lower):
        return None
    return " ".join(_WORD.findall(lower.replace("-", " ")))


def character_ids(words: str) -> list[int]:
    """Spell words for the CTC head; 0 is the blank."""
    return [CHARACTERS.index(c) + 1 for c in words]


class Vocabulary:
    """The rows in use and the way words are spelled with them.

    Args:
        n_pieces: How many word pieces to keep, single letters included.
    """

    def __init__(self, n_pieces: int = N_PIECES) -> None:
        with warnings.catch_warnings():
            # Whisper leaves the vocabulary's file to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            tokenizer = get_tokenizer(False, num_languages=99)
        encoding = tokenizer.encoding
        suppressed = set(tokenizer.non_speech_tokens)
        ranked = [
            (piece, encoding.decode_single_token_bytes(piece))
            for piece in range(encoding.eot_token)
            if piece not in suppressed
        ]
        ranked = [(piece, raw) for piece, raw in ranked if _PIECE.fullmatch(raw)]
        single = [item for item in ranked if len(item[1].strip()) == 1]
        longer = [item for item in ranked if len(item[1].strip()) > 1]
        kept = single + longer[: n_pieces - len(single)]
        sot, no_timestamps = tokenizer.sot_sequence_including_notimestamps
        special = [tokenizer.eot, sot, tokenizer.no_speech, no_timestamps]
        self.row_ids = np.array(sorted([piece for piece, _ in kept] + special), dtype=np.int64)
        row = {int(token): i for i, token in enumerate(self.row_ids)}
        self.eot, self.sot, self.no_speech, self.no_timestamps = (row[token] for token in special)
        self._rows = {raw.decode(): row[piece] for piece, raw in kept}
        self._texts = {index: piece for piece, index in self._rows.items()}
        self._longest = max(map(len, self._rows))
        self._spelled: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.row_ids)

    def encode(self, words: str) -> list[int]:
        """Spell words with rows in use; every word starts with its space."""
        rows: list[int] = []
        for word in words.split():
            if word not in self._spelled:
                self._spelled[word] = self._spell(f" {word}")
            rows += self._spelled[word]
        return rows

    def decode(self, rows: list[int]) -> str:
        """Join rows into text; special rows are silent."""
        return "".join(self._texts.get(index, "") for index in rows).strip()

    def _spell(self, word: str) -> list[int]:
        """Find the segmentation with the fewest pieces, the longest first piece on a tie."""
        best: list[tuple[int, int]] = [(0, 0)] * (len(word) + 1)
        for start in range(len(word) - 1, -1, -1):
            ends = range(start + 1, min(len(word), start + self._longest) + 1)
            options = [(best[end][0] + 1, -end) for end in ends if word[start:end] in self._rows]
            best[start] = min(options)
        rows, start = [], 0
        while start < len(word):
            end = -best[start][1]
            rows.append(self._rows[word[start:end]])
            start = end
        return rows
