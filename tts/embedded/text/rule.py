"""What a rule is: a pattern and what to say for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Match = re.Match[str]
Rule = tuple[re.Pattern[str], Callable[[Match], str]]

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
# Words that open a sentence far more often than they continue one behind "U.S." or "5 p.m.".
_OPENERS = (
    r"(?:The|It|He|She|We|They|I|But|And|In|On|At|A|An|This|That|There|Then|When|If|My|Our|Your|"
    r"His|Her|Its|You|What|Who|Why|How|Where|Is|Are|Do|Did|Does|Please|So|Not|No|Yes|Can|Could|"
    r"Would|Will|Mr|Mrs|Dr|Let|After|Before|Nobody|Everyone|For|From|With|Call|Some|All|Both)\b"
)
_LAST = r"[\"')\]]*\s*$"


def rule(pattern: str, say: Callable[[Match], str] | str) -> Rule:
    """Pair a pattern with a function of the match, or with a template of its groups."""
    if isinstance(say, str):
        template = say
        return re.compile(pattern), lambda match: match.expand(template)
    return re.compile(pattern), say


def choice(words: Iterable[str]) -> str:
    """Write an alternation of literal words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def dot_after(match: Match, *, opener: bool = False) -> str:
    """Keep an abbreviation's dot where a sentence ends behind it.

    Args:
        match: Ends behind the dot.
        opener: Ask for a word that opens sentences, not just for a capital.
    """
    after = rf"[\"')\]]*\s+[\"'(]*{_OPENERS if opener else '[A-Z]'}"
    return "." if re.match(rf"{_LAST}|{after}", match.string[match.end() :]) else ""
