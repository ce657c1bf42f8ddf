"""Written tokens to words, by an ordered table of rules over folded text, case still intact.

The order is the meaning: an earlier rule claims its characters before a later one sees them.
"""

from __future__ import annotations

from tts.embedded.text import addresses, amounts, dates, shorthand
from tts.embedded.text.rule import Rule

RULES: tuple[Rule, ...] = (
    *addresses.INTERNET,
    *shorthand.TITLES,
    *amounts.MONEY,
    *dates.TIMES,
    *dates.DATES,
    *addresses.PLACES,
    # Behind the house numbers, which know a street by its abbreviation too.
    *shorthand.STREETS,
    *dates.YEARS,
    *amounts.NUMBERS,
    *dates.NAMES,
    *shorthand.ABBREVIATIONS,
    *addresses.FILES,
)


def expand(text: str) -> str:
    """Apply every rule in order."""
    for pattern, say in RULES:
        text = pattern.sub(say, text)
    return text
