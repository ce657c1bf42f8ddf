"""Titles, abbreviations, initials, Roman numerals and the slashes between words."""

from __future__ import annotations

import re

from tts.embedded.text import tables
from tts.embedded.text.numbers import cardinal, ordinal
from tts.embedded.text.rule import Match, Rule, choice, dot_after, rule

_ROMAN = {
    "II": 2, "III": 3, "IV": 4, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "XI": 11, "XII": 12,
    "XIII": 13, "XIV": 14, "XV": 15, "XVI": 16, "XVIII": 18, "XX": 20,
}  # fmt: skip
_NUMBERED = (
    r"(?i:war|chapter|part|act|volume|phase|section|type|book|level|title|class|stage|tier|mark|"
    r"scene|unit|figure|appendix|article|rocky)"
)
_KINGS = (
    "Henry|Louis|Elizabeth|George|Edward|Charles|William|Richard|James|Philip|Paul|Pius|John|"
    "Benedict|Catherine|Frederick|Napoleon|Alexander|Peter|Ivan|Gregory|Leo|Francis|Ramses"
)


def _saint_or_street(match: Match) -> str:
    before, after = match.string[: match.start()].rstrip(), match.string[match.end() :]
    named = re.search(r"[A-Z][a-z]+$|\d(?:st|nd|rd|th)$|(?:first|second|third|th)$", before)
    if re.match(r"\s+[A-Z]", after) and not (
        named and re.search(r"\d\S*\s+(?:[A-Z]\.?\s+)?[A-Z][a-z]+$", before)
    ):
        return "saint"
    return "street" + (dot_after(match) if match[1] else "")


def _initials(match: Match) -> str:
    return " ".join(match[0].replace(".", "").lower()) + dot_after(match, opener=True)


TITLES: tuple[Rule, ...] = (
    rule(r"\b[eE]\.\s?g\.,?", "for example,"),
    rule(r"\b[iI]\.\s?e\.,?", "that is,"),
    rule(r"\ba\.k\.a\.", "also known as"),
    rule(r"\bca\.\s?(?=\d)", "circa "),
    rule(r"\bw/o\b", "without "),
    rule(r"\bw/(?=\s|\w)", "with "),
    rule(r"\bPh\.?\s?D\b(\.?)", lambda m: "p h d" + (dot_after(m, opener=True) if m[1] else "")),
    rule(r"\bPh\.?\s?Ds\b", "p h d's"),
    rule(r"(?<=[A-Z][a-z])( |[a-z]+ )Dr\b\.?(?=\s*(?:,|$|[a-z]))", r"\1drive"),
    rule(
        rf"\b({choice(tables.TITLES)})(?:\.\s*|\s+(?=[A-Z]))", lambda m: f"{tables.TITLES[m[1]]} "
    ),
)
STREETS: tuple[Rule, ...] = (rule(r"\bSt\b(\.?)(?=\W|$)", _saint_or_street),)
ABBREVIATIONS: tuple[Rule, ...] = (
    rule(
        rf"\b(?i:({choice(tables.ABBREVIATIONS)}))\.(?![a-zA-Z])",
        lambda m: tables.ABBREVIATIONS[m[1].lower()] + dot_after(m),
    ),
    rule(r"\b(vs|etc)\b", lambda m: tables.ABBREVIATIONS[m[1]]),
    rule(
        rf"\b({_KINGS})\s+({choice(_ROMAN)})\b",
        lambda m: f"{m[1]} the {ordinal(str(_ROMAN[m[2]]))}",
    ),
    rule(
        rf"\b({_NUMBERED})\s+({choice(_ROMAN)})\b",
        lambda m: f"{m[1]} {cardinal(str(_ROMAN[m[2]]))}",
    ),
    rule(r"\b(War|Part|Chapter|Act|Volume|Phase|Book|Level) I\b(?!\s[a-z]|')", r"\1 one"),
    rule(r"\bn/a\b|\bN/A\b", "n a"),
    rule(r"\b(?:[A-Za-z]\.){2,}(?![a-z])", _initials),
    rule(r"(?<![\w'])([B-HJ-Z])\.(?=\s+[A-Z][a-z.])", lambda m: m[1].lower()),
    rule(r"\b(?:OK|Ok|ok)\b(?!\.\w)", "okay"),
    rule(r"\bCO(?= two\b)", "c o"),
    rule(r"(?<![\w])([CF])#(?!\w)", r"\1 sharp"),
    rule(r"#(?=[A-Za-z])", "hashtag "),
    rule(r"\band/or\b", "and or"),
    rule(r"(?<=[A-Za-z])\s?/\s?(?=[A-Za-z])", " slash "),
)
