"""Numbers as a speaker says them: lower-case words, no hyphens."""

from __future__ import annotations

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ("", " thousand", " million", " billion", " trillion", " quadrillion")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip
_LONGEST = 3 * len(_SCALES)


def digits(text: str) -> str:
    """Say every digit of ``text`` on its own: "007" is "zero zero seven"."""
    return " ".join(_ONES[int(c)] for c in text if c.isdigit())


def cardinal(text: str) -> str:
    """Say an unsigned whole number; commas are ignored.

    A leading zero ("007") or more digits than have a name are said digit by digit.
    """
    number = text.replace(",", "")
    if len(number) > _LONGEST or (number[0] == "0" and len(number) > 1):
        return digits(number)
    value = int(number)
    if value == 0:
        return "zero"
    groups = []
    for scale in _SCALES:
        value, group = divmod(value, 1000)
        if group:
            groups.append(_below_thousand(group) + scale)
    return " ".join(reversed(groups))


def _below_thousand(value: int) -> str:
    hundreds, rest = divmod(value, 100)
    words = [f"{_ONES[hundreds]} hundred"] if hundreds else []
    if rest:
        words.append(_below_hundred(rest))
    return " ".join(words)


def _below_hundred(value: int) -> str:
    if value < 20:
        return _ONES[value]
    tens, ones = divmod(value, 10)
    return _TENS[tens] if ones == 0 else f"{_TENS[tens]} {_ONES[ones]}"


def ordinal(text: str) -> str:
    """Say a whole number's ordinal: "21" is "twenty first"."""
    head, _, last = cardinal(text).rpartition(" ")
    last = f"{last[:-1]}ieth" if last.endswith("y") else _ORDINALS.get(last, f"{last}th")
    return f"{head} {last}".strip()


def decimal(text: str) -> str:
    """Say a number with or without a fraction: "3.14" is "three point one four"."""
    whole, _, fraction = text.partition(".")
    said = cardinal(whole or "0")
    return f"{said} point {digits(fraction)}" if fraction else said


def pairs(text: str) -> str:
    """Say three or four digits the way years and house numbers are said.

    "1998" is "nineteen ninety eight", "1905" "nineteen oh five", "221" "two twenty one".
    """
    high, low = text[:-2], text[-2:]
    if text[-3:] == "000" or (len(text) == 4 and high[1] == "0" and int(low) < 10):
        return cardinal(text)
    if low == "00":
        return f"{cardinal(high)} hundred"
    return f"{cardinal(high)} {'oh ' + _ONES[int(low)] if low[0] == '0' else cardinal(low)}"


def plural(words: str) -> str:
    """Put the last word of a number into the plural: "nineteen ninety" to "... nineties"."""
    if words.endswith("y"):
        return f"{words[:-1]}ies"
    return f"{words}es" if words.endswith("x") else f"{words}s"


def fraction(top: str, bottom: str) -> str:
    """Say a common fraction: "3", "4" is "three quarters"."""
    names = {"2": "half", "4": "quarter"}
    name = names.get(bottom) or ordinal(bottom)
    if top != "1":
        name = "halves" if name == "half" else f"{name}s"
    return f"{cardinal(top)} {name}"
