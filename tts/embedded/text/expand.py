"""Written tokens to words: money, times, dates, numbers, units, addresses, abbreviations.

An ordered table of (pattern, replacement) rules over folded text whose case is still intact. The
order is the meaning: an earlier rule claims its characters before a later one sees them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from tts.embedded.text import tables
from tts.embedded.text.numbers import cardinal, decimal, digits, fraction, ordinal, pairs, plural

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

_MONTH = "|".join(m.title() for m in tables.MONTHS)
_MONTH_ANY = (
    f"{_MONTH}|(?:{'|'.join(sorted(tables.MONTH_ABBREVIATIONS, key=len, reverse=True))})\\.?"
)
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_WHOLE = r"\d{1,3}(?:,\d{3})+|\d+"
_SIGN = "[" + "".join(tables.CURRENCIES) + "]"
_YEAR = r"1[1-9]\d\d|20\d\d"
_MERIDIEM = r"([aApP])\.?\s?[mM]\b(\.?)"
_STREET = (
    r"Street|St\b\.?|Avenue|Ave\b\.?|Road|Rd\b\.?|Lane|Drive|Boulevard|Blvd\b\.?|Court|Place|Way|"
    r"Square|Terrace|Highway"
)
_CODE_CUE = (
    r"(?i:code|pin|extension|ext\.?|zip|account|confirmation|tracking|reference|passcode|"
    r"ticket|invoice|order|case)(?i:\s+(?:number|code|no\.?|is|#))*"
)
_YEAR_CUE = (
    r"(?i:in|since|by|from|until|till|of|year|before|after|during|early|late|mid|summer|winter|"
    r"spring|fall|autumn|circa|between|through|class|born|died|around|copyright)"
)


def _month(name: str) -> str:
    return (
        name.lower()
        if name.lower() in tables.MONTHS
        else (tables.MONTH_ABBREVIATIONS[name.rstrip(".")])
    )


def year(text: str) -> str:
    """Say a year: "1998", "2005" ("two thousand five"), "2024" ("twenty twenty four")."""
    return pairs(text)


def _money(match: re.Match[str]) -> str:
    minus, sign, amount, magnitude = match.group(1, 2, 3, 4)
    one, many, cent, cents = tables.CURRENCIES[sign]
    said = "minus " if minus else ""
    whole, _, part = amount.replace(",", "").partition(".")
    if magnitude:
        scale = tables.MAGNITUDES.get(magnitude.lower(), magnitude.lower())
        return f"{said}{decimal(amount.replace(',', ''))} {scale} {many}"
    if len(part) > 2:
        return f"{said}{decimal(amount.replace(',', ''))} {many}"
    minor = int(part.ljust(2, "0")) if part else 0
    pieces = []
    if int(whole or "0") or not minor:
        pieces.append(f"{cardinal(whole or '0')} {one if whole == '1' else many}")
    if minor:
        pieces.append(f"{cardinal(str(minor))} {cent if minor == 1 else cents}")
    return said + " and ".join(pieces)


def _adjective_money(match: re.Match[str]) -> str:
    return f"{cardinal(match.group(2))} {tables.CURRENCIES[match.group(1)][0]} {match.group(3)}"


def _clock(match: re.Match[str]) -> str:
    hour, minute, meridiem, dot = match.group(1, 2, 3, 4)
    said = cardinal(str(int(hour)))
    if meridiem:
        said += "" if minute == "00" else f" {_minute(minute)}"
        return f"{said} {meridiem.lower()} m{_end(match, dot)}"
    if minute == "00":
        return f"{said} hundred" if int(hour) > 12 or int(hour) == 0 else f"{said} o'clock"
    return f"{said} {_minute(minute)}"


def _minute(minute: str) -> str:
    return f"oh {digits(minute[1])}" if minute[0] == "0" else cardinal(minute)


def _end(match: re.Match[str], dot: str | None) -> str:
    """Keep an abbreviation's dot where a sentence ends behind it."""
    rest = match.string[match.end() :]
    return "." if dot and re.match(r"[\"')\]]*(\s*$|\s+[\"'(]*[A-Z])", rest) else ""


def _hour(match: re.Match[str]) -> str:
    return f"{cardinal(match.group(1))} {match.group(2).lower()} m{_end(match, match.group(3))}"


def _day_month_year(month: int, day: int, said_year: str) -> str:
    return f"{tables.MONTHS[month - 1]} {ordinal(str(day))}, {year(said_year)}"


def _slash_date(match: re.Match[str]) -> str:
    first, second, last = int(match.group(1)), int(match.group(2)), match.group(3)
    if first > 12:
        first, second = second, first
    if not (1 <= first <= 12 and 1 <= second <= 31):
        return match.group().replace("/", " slash ")
    return _day_month_year(first, second, f"20{last}" if len(last) == 2 else last)


def _iso_date(match: re.Match[str]) -> str:
    month, day = int(match.group(2)), int(match.group(3))
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match.group().replace("-", " ")
    return _day_month_year(month, day, match.group(1))


def _month_day(match: re.Match[str]) -> str:
    said = f"{_month(match.group(1))} {ordinal(match.group(2))}"
    return f"{said}, {year(match.group(3))}" if match.group(3) else said


def _day_month(match: re.Match[str]) -> str:
    day, month, last = match.group(1, 2, 3)
    said = f"the {ordinal(day)} of {_month(month)}"
    return f"{said} {year(last)}" if last else said


def _phone(match: re.Match[str]) -> str:
    number = match.group()
    plus = "plus " if number.startswith("+") else ""
    return plus + ", ".join(digits(group) for group in re.findall(r"\d+", number))


def _fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match.group(1, 2, 3)
    if top == "24" and bottom == "7":
        return "twenty four seven"
    if top == bottom:
        return f"{cardinal(top)} {cardinal(bottom)}"
    if bottom not in _BOTTOMS or int(top) >= int(bottom):
        said = f"{cardinal(top)} over {cardinal(bottom)}"
    elif whole:
        said = fraction(top, bottom)
        said = f"a {said[4:]}" if said.startswith("one ") else said
    else:
        said = fraction(top, bottom)
    return f"{cardinal(whole)} and {said}" if whole else said


_BOTTOMS = frozenset("2 3 4 5 6 7 8 9 10 12 16 20 32 64 100 1000".split())


def _unit(match: re.Match[str]) -> str:
    amount, joint, name = match.group(1, 2, 3)
    singular, many = tables.IRREGULAR_UNITS.get(name) or (
        tables.UNITS[name],
        f"{tables.UNITS[name]}s",
    )
    one = amount == "1" or joint == "-"
    return f"{decimal(amount.replace(',', ''))} {singular if one else many}"


def _number(match: re.Match[str]) -> str:
    sign, amount = match.group(1, 2)
    return f"{'minus ' if sign else ''}{decimal(amount.replace(',', ''))}"


def _dotted_number(match: re.Match[str]) -> str:
    groups = [cardinal(group) for group in match.group().split(".")]
    return " dot ".join(groups)


def _house(match: re.Match[str]) -> str:
    number, letter = match.group(1, 2)
    said = pairs(number) if len(number) in (3, 4) else cardinal(number)
    return f"{said} {letter.lower()}" if letter else said


def _url(match: re.Match[str]) -> str:
    text = re.sub(r"^[a-zA-Z]+://", "", match.group())
    end = re.search(r"[.,?!;:]+$", text)
    tail = end.group() if end else ""
    text = text[: len(text) - len(tail)].rstrip("/")
    for sign, word in ((".", "dot"), ("/", "slash"), ("@", "at"), ("-", "dash"),
                       ("_", "underscore"), ("?", "question mark"), ("=", "equals"),
                       ("&", "and"), ("#", "hash"), (":", "colon"), ("%", "percent")):  # fmt: skip
        text = text.replace(sign, f" {word} ")
    return " ".join(_spelled(word) for word in text.split()) + tail


def _spelled(word: str) -> str:
    """Spell a short word that has no vowel (www, js, uk is in the list), keep any other."""
    if word.lower() in {"io", "uk", "ai", "eu", "us", "ca"} or re.fullmatch(
        r"[b-df-hj-np-tv-xzB-DF-HJ-NP-TV-XZ]{2,4}", word
    ):
        return " ".join(word.lower())
    return word.lower()


def _roman(match: re.Match[str]) -> str:
    number = str(_ROMAN[match.group(2)])
    word = match.group(1)
    if word.lower() in _COUNTED:
        return f"{word} {cardinal(number)}"
    return f"{word} the {ordinal(number)}"


_ROMAN = {
    "II": 2, "III": 3, "IV": 4, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "XI": 11, "XII": 12,
    "XIII": 13, "XIV": 14, "XV": 15, "XVI": 16, "XVIII": 18, "XX": 20,
}  # fmt: skip
_COUNTED = frozenset(
    "war chapter part act volume phase section type book level title class stage tier mark "
    "scene unit figure appendix article".split()
)
_KINGS = (
    "Henry|Louis|Elizabeth|George|Edward|Charles|William|Richard|James|Philip|Paul|Pius|John|"
    "Benedict|Catherine|Frederick|Napoleon|Alexander|Peter|Ivan|Gregory|Leo|Francis|Ramses"
)


def _abbreviation(table: dict[str, str]) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        return table[match.group(1).lower()] + _end(match, ".")

    return replace


def _saint_or_street(match: re.Match[str]) -> str:
    before = match.string[: match.start()].rstrip()
    named = re.search(r"[A-Z][a-z]+$|\d(?:st|nd|rd|th)$", before)
    followed = re.match(r"\s+[A-Z]", match.string[match.end() :])
    if followed and not named:
        return "saint"
    if followed and re.search(r"\d\S*\s+[A-Z][a-z]+$", before) is None:
        return "saint"
    return "street" + _end(match, match.group(1))


def _initials(match: re.Match[str]) -> str:
    letters = " ".join(match.group(1).replace(".", "").lower())
    return letters + _end(match, match.group(1)[-1:].replace(".", ".") if match.group(1) else "")


def _rules() -> Iterable[Rule]:
    def rule(pattern: str, replace: Callable[[re.Match[str]], str] | str) -> Rule:
        if isinstance(replace, str):
            template = replace
            return re.compile(pattern), lambda match: match.expand(template)
        return re.compile(pattern), replace

    units = "|".join(
        re.escape(u)
        for u in sorted([*tables.UNITS, *tables.IRREGULAR_UNITS], key=len, reverse=True)
    )
    yield rule(r"\b[a-zA-Z]+://\S+|\bwww\.\S+", _url)
    yield rule(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+", _url)
    yield rule(rf"\b[a-zA-Z][\w-]*(?:\.[\w-]+)*\.(?:{tables.TLDS})\b(?:/[\w./?=&#%-]*)?(?![\w@])",
               _url)  # fmt: skip
    yield rule(r"\be\.\s?g\.,?", "for example,")
    yield rule(r"\bi\.\s?e\.,?", "that is,")
    yield rule(r"\bw/o\b", "without ")
    yield rule(r"\bw/(?=\s|\w)", "with ")
    yield rule(r"\bPh\.?\s?D\b(\.?)", lambda m: "p h d" + _end(m, m.group(1)))
    titles = "|".join(tables.TITLES)
    yield rule(rf"\b({titles})(?:\.\s*|\s+)(?=[A-Z])", lambda m: tables.TITLES[m.group(1)] + " ")
    yield rule(r"\bSt\b(\.?)(?=\W|$)", _saint_or_street)
    yield rule(rf"({_SIGN})(\d+)[ -](bill|note|coin|gift|ticket|fine|question|coupon|fee|stamp)\b",
               _adjective_money)  # fmt: skip
    yield rule(
        rf"(-?)({_SIGN})\s?({_NUMBER})(?:\s?(thousand|million|billion|trillion|[kKMB]|bn|mn)\b)?",
        _money,
    )
    yield rule(rf"()(?<![\d.,])((?:{_NUMBER}))\s?({_SIGN})", lambda m: _trailing_money(m))
    yield rule(r"(?<=:\d\d)\s?-\s?(?=\d{1,2}:\d\d)", " to ")
    yield rule(rf"\b(\d{{1,2}}):([0-5]\d)(?::[0-5]\d)?(?:\s?{_MERIDIEM})?(?![\d:])", _clock)
    yield rule(rf"\b(\d{{1,2}})\s?{_MERIDIEM}", _hour)
    yield rule(r"\b(\d+):(\d+)\b", lambda m: f"{cardinal(m.group(1))} to {cardinal(m.group(2))}")
    yield rule(r"\b(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})\b", _slash_date)
    yield rule(r"\b(\d{4})-(\d{2})-(\d{2})\b", _iso_date)
    yield rule(
        rf"\b({_MONTH_ANY})\s+(\d{{1,2}})(?:st|nd|rd|th)?\b(?![:.,]\d|\s?%)(?:,?\s+({_YEAR})\b)?",
        _month_day,
    )
    yield rule(
        rf"\b(?:the\s+)?(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?({_MONTH_ANY})(?![a-z])"
        rf"(?:,?\s+({_YEAR})\b)?",
        _day_month,
    )
    yield rule(rf"\b({_MONTH_ANY}),?\s+({_YEAR})\b", lambda m: f"{_month(m[1])} {year(m[2])}")
    yield rule(
        r"(?<![\w.])(?:\+\d{1,3}[-. ]?)?(?:1[-. ])?\(?\d{3}\)?[-. ]{1,2}\d{3}[-. ]\d{4}(?!\w)|"
        r"(?<![\w.-])\d{3}[-.]\d{4}(?![\w-])|\+\d{1,3}(?:[- ]\d{2,5}){2,5}\b|"
        r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])",
        _phone,
    )
    yield rule(rf"\b({_CODE_CUE})[\s#:]+(\d{{3,}})\b", lambda m: f"{m[1]} {digits(m[2])}")
    yield rule(r"\b([A-Z]{2}) (\d{5})\b", lambda m: f"{m[1]} {digits(m[2])}")
    yield rule(rf"\b(\d+)([A-Z]?)(?=\s+(?:[NSEW]\.?\s+)?(?:[A-Z][a-z]+\s+){{1,3}}(?:{_STREET}))",
               _house)  # fmt: skip
    yield rule(r"\b(?<=[Rr]oom )(\d{3,4})([A-Z]?)\b|\b(?<=[Ff]light )(\d{3,4})()\b", _room)
    yield rule(rf"\b({_YEAR})-({_YEAR})\b", lambda m: f"{year(m[1])} to {year(m[2])}")
    yield rule(r"(?<![\w.,])(?:'(\d0)|((?:1\d|20)\d0)|(\d0))'?s\b", _decade)
    yield rule(
        rf"\b({_YEAR_CUE}\s+)({_YEAR})\b(?![,.]?\d|\s*(?:{units})(?!\w)|\s*%|-\w|"
        r"\s+(?:people|men|women|[a-z]+(?<!i)(?<!a)s)\b)",
        lambda m: m[1] + year(m[2]),
    )
    yield rule(
        rf"(?<![\w.,$#-])(19\d\d|20[1-9]\d|200[1-9])(?![,.]?\d|\w|-|\s?%|\s*(?:{units})(?!\w)|"
        r"\s+(?:people|men|women|of|[a-z]+(?<!i)(?<!a)s)\b)",
        lambda m: year(m[1]),
    )
    yield rule(r"\b(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", lambda m: ordinal(m[1]))
    yield rule(r"(?<![\w/])(?:(\d+)[ -])?(\d{1,4})/(\d{1,4})(?![\w/])", _fraction)
    yield rule(r"\b\d+(?:\.\d+){2,}\b", _dotted_number)
    yield rule(rf"(?<![\w.,])({_NUMBER})\s?[xX]\s?(?={_NUMBER})", r"\1 by ")
    yield rule(rf"(?<![\w.,])({_NUMBER})(%?)\s?-\s?(?=(?:{_NUMBER}))", _range)
    yield rule(rf"(?<![\w.,])({_NUMBER})(\s?|-)({units})(?![\w/]|'[a-z])", _unit)
    yield rule(r"(?<=feet)\.(?= [a-z\d])", "")
    yield rule(r"#\s?(?=\d)", "number ")
    yield rule(r"#(?=[A-Za-z])", "hashtag ")
    yield rule(r"(?<=\d)\s?\*\s?(?=\d)", " times ")
    yield rule(r"~\s?(?=\d)", "about ")
    before = "|".join(sorted(tables.BEFORE_NUMBER, key=len, reverse=True))
    yield rule(rf"(?i:\b({before}))\.\s?(?=\d)", lambda m: tables.BEFORE_NUMBER[m[1].lower()] + " ")
    yield rule(r"\bv(?=\d)", "v ")
    yield rule(rf"(?:(?<=\s)|(?<=^)|(?<=\())(-)?(?<![\w.])({_NUMBER})", _number)
    yield rule(rf"()({_NUMBER})", lambda m: f" {_number(m)} ")
    months = "|".join(tables.MONTH_ABBREVIATIONS)
    yield rule(rf"\b({months})\.(?=\s|$)", lambda m: (
        tables.MONTH_ABBREVIATIONS[m[1]] + _end(m, ".")))  # fmt: skip
    days = "|".join(sorted(tables.DAYS, key=len, reverse=True))
    yield rule(rf"\b({days})-({days})\b", lambda m: f"{tables.DAYS[m[1]]} to {tables.DAYS[m[2]]}")
    yield rule(rf"\b({days})\.(?=[\s,]|$)", lambda m: tables.DAYS[m[1]] + _end(m, "."))
    abbreviations = "|".join(sorted(tables.ABBREVIATIONS, key=len, reverse=True))
    yield rule(rf"\b(?i:({abbreviations}))\.(?![a-zA-Z])", _abbreviation(tables.ABBREVIATIONS))
    yield rule(r"\b(vs|etc)\b", lambda m: tables.ABBREVIATIONS[m[1]])
    yield rule(rf"\b({_KINGS})\s+({'|'.join(sorted(_ROMAN, key=len, reverse=True))})\b", _roman)
    yield rule(
        rf"\b([A-Z]?[a-z]+)\s+({'|'.join(sorted(_ROMAN, key=len, reverse=True))})\b",
        lambda m: _roman(m) if m[1].lower() in _COUNTED else m.group(),
    )
    yield rule(r"\bn/a\b|\bN/A\b", "n a")
    yield rule(r"\b((?:[A-Za-z]\.){2,})(?![a-z])", _initials)
    yield rule(r"(?<![\w'])([B-HJ-Z])\.(?=\s+[A-Z][a-z.])", lambda m: m[1].lower())
    yield rule(r"\b(?:OK|Ok|ok)\b(?!\.\w)", "okay")
    yield rule(r"(?<=[a-z0-9])\.(?=[a-z]{1,5}\b)(?!\.)", " dot ")
    yield rule(r"\band/or\b", "and or")
    yield rule(r"(?<=dollars)/(?=[a-z])|(?<=euros)/(?=[a-z])|(?<=pounds)/(?=[a-z])", " per ")
    yield rule(r"(?<=[A-Za-z])\s?/\s?(?=[A-Za-z])", " slash ")


def _trailing_money(match: re.Match[str]) -> str:
    sign, amount = match.group(3), match.group(2)
    return _money(re.match(rf"(-?)({_SIGN})({_NUMBER})()", f"{sign}{amount}") or match)


def _room(match: re.Match[str]) -> str:
    number = match.group(1) or match.group(3)
    return f"{pairs(number)} {(match.group(2) or '').lower()}".strip()


def _decade(match: re.Match[str]) -> str:
    short, long, bare = match.group(1, 2, 3)
    if long:
        return plural(pairs(long)) if long[2] != "0" else f"{pairs(long)}s"
    return plural(cardinal(short or bare))


def _range(match: re.Match[str]) -> str:
    return f"{match.group(1)}{match.group(2)} to "


RULES: tuple[Rule, ...] = tuple(_rules())


def expand(text: str) -> str:
    """Apply every rule in order."""
    for pattern, replace in RULES:
        text = pattern.sub(replace, text)
    return text
