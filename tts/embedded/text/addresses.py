"""Where things are: web and mail addresses, telephone numbers, streets, rooms, codes."""

from __future__ import annotations

import re

from tts.embedded.text import tables
from tts.embedded.text.numbers import cardinal, digits, pairs
from tts.embedded.text.rule import Match, Rule, rule

_STREET = (
    r"(?:Street|St\b\.?|Avenue|Ave\b\.?|Road|Rd\b\.?|Lane|Drive|Dr\b\.?|Boulevard|Blvd\b\.?|Court|"
    r"Place|Way|Square|Terrace|Highway)"
)
_CODE = (
    r"(?i:code|pin|extension|ext\.?|zip|account|confirmation|tracking|reference|passcode|ticket|"
    r"invoice|order|case)(?i:\s+(?:number|code|no\.?|is|#))*"
)
_PHONE = (
    r"(?<![\w.])(?:\+\d{1,3}[-. ]?)?(?:1[-. ])?\(?\d{3}\)?[-. ]{1,2}\d{3}[-. ]\d{4}(?!\w)|"
    r"(?<![\w.-])\d{3}[-.]\d{4}(?![\w-])|\+\d{1,3}(?:[- ]\d{2,5}){2,5}\b|"
    r"(?<![\w-])\d+(?:-\d+){2,}\b"
)
_SPOKEN_SIGNS = {
    ".": "dot", "/": "slash", "@": "at", "-": "dash", "_": "underscore", "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", ":": "colon", "%": "percent", "+": "plus",
}  # fmt: skip
_CONSONANTS = "[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ]"


def _url(match: Match) -> str:
    text = re.sub(r"^[a-zA-Z]+://", "", match[0])
    end = re.search(r"[.,?!;:]*$", text)
    tail = end[0] if end else ""
    text = text[: len(text) - len(tail)].rstrip("/")
    for sign, word in _SPOKEN_SIGNS.items():
        text = text.replace(sign, f" {word} ")
    return " ".join(_part(word) for word in text.split()) + tail


def _part(word: str) -> str:
    """Spell a part of an address that has no vowel (www, js); the well-known few as well."""
    lower = word.lower()
    spelled = lower in {"io", "uk", "ai", "eu", "us", "ca", "py", "api"}
    if spelled or re.fullmatch(rf"{_CONSONANTS}{{2,4}}", word):
        return " ".join(lower)
    return lower


def _phone(match: Match) -> str:
    plus = "plus " if match[0].startswith("+") else ""
    return plus + ", ".join(digits(group) for group in re.findall(r"\d+", match[0]))


def _door(match: Match) -> str:
    number, letter = match.group(1, 2)
    said = pairs(number) if len(number) in (3, 4) else cardinal(number)
    return f"{said} {letter.lower()}" if letter else said


INTERNET: tuple[Rule, ...] = (
    rule(r"\b[a-zA-Z]{2,9}://\S+|\bwww\.\S+", _url),
    rule(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}", _url),
    rule(
        rf"(?<![\w.@-])[a-zA-Z][\w-]{{0,62}}(?:\.[\w-]{{1,63}}){{0,4}}\.(?:{tables.TLDS})\b"
        r"(?:/[\w./?=&#%-]*)?(?![\w@])",
        _url,
    ),
)
PLACES: tuple[Rule, ...] = (
    rule(_PHONE, _phone),
    rule(rf"\b({_CODE})[\s#:]+(\d{{3,}})\b(?![.,:]\d)", lambda m: f"{m[1]} {digits(m[2])}"),
    rule(r"\b([A-Z]{2}) (\d{5})\b", lambda m: f"{' '.join(m[1].lower())} {digits(m[2])}"),
    rule(rf"\b(\d+)([A-Z]?)(?=\s+(?:[NSEW]\.?\s+)?(?:[A-Z][a-z]+\s+){{1,3}}{_STREET})", _door),
    rule(r"\b(?<=[Rr]oom )(\d{3,4})([A-Z]?)\b(?![.,]\d)", _door),
    rule(r"\b(?<=[Ff]light )(\d{3,4})([A-Z]?)\b(?![.,]\d)", _door),
)
FILES: tuple[Rule, ...] = (
    rule(r"(?<=[a-z0-9])\.([a-z]{1,5})\b(?!\.)", lambda m: f" dot {_part(m[1])}"),
)
