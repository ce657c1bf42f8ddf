"""Any text to plain ASCII: accents, quotes and dashes folded, the unspeakable dropped."""

from __future__ import annotations

import re
import unicodedata

from tts.embedded.text.tables import CURRENCIES, FOLDS, VULGAR
from tts.errors import TextError

_KEPT = frozenset(CURRENCIES) | {"\u00b0"}
_FOLDS = str.maketrans(FOLDS)
# Every way to end a line or a page is one.
_LINES = str.maketrans(dict.fromkeys("\r\v\f\x1c\x1d\x1e\x1f\x85", "\n"))


def fold(text: str) -> str:
    """Fold to ASCII plus the currency and degree signs.

    Raises:
        TextError: A control character other than white space.
    """
    _refuse_controls(text)
    text = text.replace("\r\n", "\n").translate(_LINES)
    text = re.sub(r"\d\u20e3|\d\ufe0f\u20e3", lambda m: m.group()[0], text)
    for sign, plain in VULGAR.items():
        text = text.replace(sign, f" {plain} ")
    # Twice: NFKC would turn a trade mark into the letters "TM", and makes new foldable signs.
    text = unicodedata.normalize("NFKC", text.translate(_FOLDS)).translate(_FOLDS)
    text = re.sub(r"(\d)\s*\u2013\s*(?=[$\u00a3\u20ac\d])", r"\1-", text).replace("\u2013", " -- ")
    decomposed = unicodedata.normalize("NFKD", text)
    text = "".join(_ascii(c) for c in decomposed)
    return re.sub(r"[ \t]+", " ", text)


def _ascii(character: str) -> str:
    if ord(character) < 128 or character in _KEPT:
        return character
    # Combining marks and joiners belong to the letter before them; all else parts words.
    return "" if unicodedata.category(character) in ("Mn", "Me", "Cf") else " "


def _refuse_controls(text: str) -> None:
    for position, character in enumerate(text):
        if unicodedata.category(character) == "Cc" and not character.isspace():
            raise TextError(
                f"control character U+{ord(character):04X} at position {position} (counted from "
                "0); remove it from the text"
            )
