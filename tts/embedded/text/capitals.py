"""What capitals mean: shouting, letters to spell, or the start of a sentence."""

from __future__ import annotations

import re

from tts.embedded.text.tables import EMPHATIC, LETTER_ACRONYMS, WORD_ACRONYMS

_ONSET = (
    "(?:s?[ckpt][lr]|s[ckpt]|[bgf][lr]|d[rw]|s[lmnw]|sh[rw]?|th[rw]?|ch[lr]?|ph[lr]?|wh|wr|kn|gn|"
    "qu|squ|tw|sch[lmnrw]?|scr|spl|spr|str|gh|rh|[a-z])?"
)
_CODA = (
    "(?:[lrn]?[cdfgklmnprstvxz]|[bgh]|ll|ss|ff|zz|tt|ck|ng|ngs|nk|nch|nd|nt|nts|nds|mp|mps|mb|ct|cts|ft|"
    "pt|pts|st|sts|sk|sp|ch|tch|sh|th|ths|gh|ght|ld|lf|lk|lm|lp|lt|rb|rch|rd|rg|rk|rl|rm|rn|rp|rt|"
    "rth|wn|wl|wk|ws|ys|w|y|[bcdfgklmnprt]s|ks|rld|xts?|rst|gns?|nths?|gs|dds?|ggs?|lbs?|bts?|mpt|pth|rsh|dth|fth)?"
)
_PRONOUNCEABLE = re.compile(rf"{_ONSET}(?:[aeiouy]+[b-df-hj-np-tv-z]{{1,3}})*[aeiouy]+{_CODA}e?s?")


def lower(text: str) -> str:
    """Lower the case of a text; acronyms become letters with spaces."""
    return "".join(_sentence(s) for s in re.split(r"(?<=[.?!])(?=\s)", text))


def _sentence(text: str) -> str:
    words = re.findall(r"[A-Za-z]{2,}", text)
    shouted = len(words) >= 2 and all(word.isupper() for word in words)
    shouted = shouted and not all(_is_spelled(word, shouted=False) for word in words)

    def replace(match: re.Match[str]) -> str:
        word, plural = match.group(1, 2)
        if not _is_spelled(word, shouted=shouted):
            return match.group().lower()
        return " ".join(word.lower()) + ("'s" if plural else "")

    if not shouted:
        text = re.sub(r"\b(?i:(the)) WHO\b", r"\1 w h o", text)
    text = re.sub(r"(?<![A-Za-z'])([A-Z]{2,})('?s)?(?![A-Za-z])", replace, text)
    return text.lower()


def _is_spelled(word: str, *, shouted: bool) -> bool:
    if word in WORD_ACRONYMS or word in EMPHATIC:
        return False
    if word in LETTER_ACRONYMS:
        return not shouted or len(word) >= 3
    if not set("AEIOUY") & set(word):
        return len(word) <= 6
    return len(word) <= (3 if shouted else 5) and not _PRONOUNCEABLE.fullmatch(word.lower())
