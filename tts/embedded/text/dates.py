"""Clock times, dates and years."""

from __future__ import annotations

from tts.embedded.text import tables
from tts.embedded.text.amounts import UNIT
from tts.embedded.text.numbers import cardinal, digits, ordinal, pairs, plural
from tts.embedded.text.rule import Match, Rule, choice, dot_after, rule

# "May" and "march" are words as well, so in lower case they need an ordinal behind them.
_MONTH = (
    rf"(?:{choice([m.title() for m in tables.MONTHS])}|"
    rf"{choice([m for m in tables.MONTHS if m not in ('may', 'march')])}|"
    rf"(?:{choice(tables.MONTH_ABBREVIATIONS)})\b\.?|(?:may|march)(?=\s+\d+(?:st|nd|rd|th)))"
)
_YEAR = r"1\d\d\d|20\d\d"
_TH = "(?:st|nd|rd|th)?"
_MERIDIEM = r"([aApP])\.?\s?[mM]\b(\.?)"
_CLOCK = r"(?<![\d:.])([01]?\d|2[0-4]):([0-5]\d)"
_CUE = (
    r"(?i:in|since|by|from|until|till|of|year|before|after|during|early|late|mid|summer|winter|"
    r"spring|fall|autumn|circa|ca\.|between|through|class|born|died|around|copyright)"
)
# "2000 homes" counts, "2000 was" does not.
_COUNTED = rf"[,.]?\d|\w|\s?%|\s*(?:{UNIT})(?!\w)|\s+(?:people|men|women|of|[a-z]+(?<![ia])s)\b"


def _month(name: str) -> str:
    if name.lower() in tables.MONTHS:
        return name.lower()
    return tables.MONTH_ABBREVIATIONS[name.rstrip(".")]


def _clock(match: Match) -> str:
    hour, minute, second, meridiem, dot = match.group(1, 2, 3, 4, 5)
    said = cardinal(str(int(hour)))
    if minute != "00":
        said += f" oh {digits(minute[1])}" if minute[0] == "0" else f" {cardinal(minute)}"
    elif not meridiem:
        said += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    if second:
        said += f" and {cardinal(str(int(second)))} second{'' if second == '01' else 's'}"
    return said + (_meridiem(match, meridiem, dot) if meridiem else "")


def _meridiem(match: Match, letter: str, dot: str) -> str:
    return f" {letter.lower()} m{dot_after(match, opener=True) if dot else ''}"


def _full(month: int, day: int, year: str) -> str:
    return f"{tables.MONTHS[month - 1]} {ordinal(str(day))}, {pairs(year)}"


def _slash_date(match: Match) -> str:
    first, second, year = int(match[1]), int(match[2]), match[3]
    if first > 12:
        first, second = second, first
    if not (1 <= first <= 12 and 1 <= second <= 31):
        return match[0].replace("/", " slash ")
    return _full(first, second, f"20{year}" if len(year) == 2 else year)


def _iso_date(match: Match) -> str:
    month, day = int(match[2]), int(match[3])
    if 1 <= month <= 12 and 1 <= day <= 31:
        return _full(month, day, match[1])
    return match[0].replace("-", " ")


def _month_day(match: Match) -> str:
    said = f"{_month(match[1])} {ordinal(match[2])}"
    return f"{said}, {pairs(match[3])}" if match[3] else said


def _day_month(match: Match) -> str:
    said = f"the {ordinal(match[1])} of {_month(match[2])}"
    return f"{said} {pairs(match[3])}" if match[3] else said


def _decade(match: Match) -> str:
    long, short = match.group(1, 2)
    if not long:
        return plural(cardinal(short))
    return plural(pairs(long)) if long[2] != "0" else f"{pairs(long)}s"


TIMES: tuple[Rule, ...] = (
    rule(r"(\d\s?[aApP]\.?\s?[mM]\.?|:\d\d)\s?-\s?(?=\d)", r"\1 to "),
    rule(r"(?<![\w-])(\d{1,2})\s?-\s?(?=\d{1,2}(?::\d\d)?\s?[aApP]\.?[mM]\b)", r"\1 to "),
    rule(rf"{_CLOCK}(?::([0-5]\d))?(?:\s?{_MERIDIEM})?(?![\d:])", _clock),
    rule(
        rf"(?<![\w.])(\d{{1,2}})\s?{_MERIDIEM}",
        lambda m: cardinal(m[1]) + _meridiem(m, m[2], m[3]),
    ),
    rule(r"(?<=\d):(?=\d)", " to "),
)
DATES: tuple[Rule, ...] = (
    rule(r"\b(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})\b", _slash_date),
    rule(r"\b(\d{4})-(\d{2})-(\d{2})\b", _iso_date),
    rule(
        rf"\b({_MONTH})\s+([1-9]|[12]\d|3[01]){_TH}\b(?![:.,]\d|\s?%|-\d)(?:,?\s+({_YEAR})\b)?",
        _month_day,
    ),
    rule(
        rf"\b(?:(?i:the)\s+)?([1-9]|[12]\d|3[01]){_TH}\s+(?:of\s+)?({_MONTH})(?![a-z])"
        rf"(?:,?\s+({_YEAR})\b)?",
        _day_month,
    ),
    rule(rf"\b({_MONTH}),?\s+({_YEAR})\b(?!,\d)", lambda m: f"{_month(m[1])} {pairs(m[2])}"),
)
YEARS: tuple[Rule, ...] = (
    rule(
        rf"(?<![\w-])({_YEAR})-({_YEAR}|\d\d)(?![\w-])",
        lambda m: f"{pairs(m[1])} to {pairs(m[2]) if len(m[2]) == 4 else cardinal(m[2])}",
    ),
    rule(r"(?<![\w.,])(?:((?:1\d|20)\d0)|'?(\d0))'?s\b", _decade),
    rule(rf"\b({_CUE}\s+)({_YEAR})(?!{_COUNTED}|-\w)", lambda m: m[1] + pairs(m[2])),
    rule(rf"(?<![\w.,$#-])(19\d\d|20[1-9]\d|200[1-9])(?!{_COUNTED}|-)", lambda m: pairs(m[1])),
)
NAMES: tuple[Rule, ...] = (
    rule(
        rf"\b({choice(tables.MONTH_ABBREVIATIONS)})\.(?=\s|$)",
        lambda m: tables.MONTH_ABBREVIATIONS[m[1]] + dot_after(m),
    ),
    rule(
        rf"\b({choice(tables.DAYS)})-({choice(tables.DAYS)})\b",
        lambda m: f"{tables.DAYS[m[1]]} to {tables.DAYS[m[2]]}",
    ),
    rule(rf"\b({choice(tables.DAYS)})\.(?=[\s,]|$)", lambda m: tables.DAYS[m[1]] + dot_after(m)),
)
