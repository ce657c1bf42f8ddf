"""Money, measures, fractions and plain numbers."""

from __future__ import annotations

import re

from tts.embedded.text import tables
from tts.embedded.text.numbers import cardinal, decimal, digits, fraction, ordinal
from tts.embedded.text.rule import NUMBER, Match, Rule, choice, rule

SIGN = "[" + "".join(tables.CURRENCIES) + "]"
UNIT = choice([*tables.UNITS, *tables.IRREGULAR_UNITS])
_PRICED = "bill|note|coin|gift|ticket|fine|question|coupon|fee|stamp|deposit|discount"
_PER = {"hr": "hour", "mo": "month", "yr": "year", "wk": "week"}
_WHOLE_PER = "day|week|month|year|hour|minute|second|person|night|piece|page|mile|user|seat|child"
_BOTTOMS = frozenset("2 3 4 5 6 7 8 9 10 12 16 20 32 64 100 1000".split())


def _decimal(amount: str) -> str:
    return decimal(amount.replace(",", ""))


def _money(match: Match) -> str:
    return _say_money(*match.group(1, 2, 3))


def _say_money(sign: str, amount: str, magnitude: str | None = None) -> str:
    one, many, cent, cents = tables.CURRENCIES[sign]
    whole, _, part = amount.replace(",", "").partition(".")
    if magnitude:
        scale = tables.MAGNITUDES.get(magnitude.lower(), magnitude.lower())
        return f"{_decimal(amount)} {scale} {many}"
    if len(part) > 2:
        return f"{_decimal(amount)} {many}"
    minor = int(part.ljust(2, "0")) if part else 0
    pieces = []
    if int(whole or "0") or not minor:
        pieces.append(f"{cardinal(whole or '0')} {one if whole == '1' else many}")
    if minor:
        pieces.append(f"{cardinal(str(minor))} {cent if minor == 1 else cents}")
    return " and ".join(pieces)


def _money_range(match: Match) -> str:
    sign, low, high, magnitude = match.group(1, 2, 3, 4)
    return f"{_decimal(low)} to {_say_money(sign, high, magnitude)}"


def _priced(match: Match) -> str:
    return f"{cardinal(match[2])} {tables.CURRENCIES[match[1]][0]} {match[3]}"


def _fraction(match: Match) -> str:
    whole, top, bottom = match.group(1, 2, 3)
    if top == bottom or (top, bottom) in (("24", "7"), ("9", "11")):
        said = f"{cardinal(top)} {cardinal(bottom)}"
    elif bottom not in _BOTTOMS or int(top) >= int(bottom):
        said = f"{cardinal(top)} over {cardinal(bottom)}"
    else:
        said = fraction(top, bottom)
    if not whole:
        return said
    return f"{cardinal(whole)} and {re.sub('^one ', 'a ', said)}"


def _unit(match: Match) -> str:
    amount, joint, name = match.group(1, 2, 3)
    regular = tables.UNITS.get(name, "")
    one, many = tables.IRREGULAR_UNITS.get(name, (regular, f"{regular}s"))
    return f"{_decimal(amount)} {one if amount == '1' or joint == '-' else many}"


MONEY: tuple[Rule, ...] = (
    rule(rf"({SIGN})-(?=\d)", r"-\1"),
    rule(rf"(?:^|(?<=[\s(=]))-(?={SIGN}?\.?\d)", "minus "),
    rule(rf"({SIGN})(\d+)[ -]({_PRICED})\b", _priced),
    rule(
        rf"({SIGN})({NUMBER})\s?-\s?{SIGN}?({NUMBER})(?:\s?(million|billion|[kKmMbB])\b)?",
        _money_range,
    ),
    rule(
        rf"({SIGN})\s?({NUMBER})(?:\s?(thousand|million|billion|trillion|bn|mn|[kKmMbB])\b)?",
        _money,
    ),
    rule(rf"(?<![\d.,])({NUMBER})\s?({SIGN})", lambda m: _say_money(m[2], m[1])),
    rule(r"(?<=[a-z\d])/(hr|mo|yr|wk)\b", lambda m: f" per {_PER[m[1]]}"),
    rule(rf"\b(dollars|euros|pounds|cents|pence)/({_WHOLE_PER})\b", r"\1 per \2"),
)
NUMBERS: tuple[Rule, ...] = (
    rule(r"(?<![\w.])(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", lambda m: ordinal(m[1])),
    rule(r"(?<![\w/])(?:(\d+)[ -])?(\d{1,4})/(\d{1,4})(?![\w/])", _fraction),
    rule(
        r"\b\d+(?:\.\d+){2,}\b", lambda m: " dot ".join(cardinal(part) for part in m[0].split("."))
    ),
    rule(rf"(?<![\w.,])({NUMBER})\s?[xX]\s?(?={NUMBER})", r"\1 by "),
    rule(rf"(?<![\w.,])({NUMBER}%?)\s?-\s?(?={NUMBER})", r"\1 to "),
    rule(
        r"(?<![\w.])(\d)'\s?(\d{1,2})(?:\"|'')?(?!\w)",
        lambda m: f"{cardinal(m[1])} foot {cardinal(m[2])}",
    ),
    rule(rf"(?<![\w.,])({NUMBER})(\s?|-)({UNIT})(?![\w/]|'[a-z])", _unit),
    rule(r"(?<=feet)\.(?= [a-z\d])", ""),
    rule(r"#\s?(?=\d)", "number "),
    rule(r"(?<=\d)\s?\*\s?(?=\d)", " times "),
    rule(r"~\s?(?=\d)", "about "),
    rule(
        rf"(?i:\b({choice(tables.BEFORE_NUMBER)}))\.\s?(?=\d)",
        lambda m: tables.BEFORE_NUMBER[m[1].lower()] + " ",
    ),
    rule(r"\b911\b", lambda m: digits(m[0])),
    rule(rf"(?<=\d)/({_WHOLE_PER})\b", r" per \1"),
    rule(NUMBER, lambda m: f" {_decimal(m[0])} "),
)
