"""Looks at a growing number of utterances: reject early, accept only at the last look.

Accepting at any look would accept a true 5 % loss 14 times in a hundred where 5 are promised, so a
look before the last never accepts. Rejecting early spends nothing of that promise, but it may
reject what the last look would have accepted; that is what the stricter confidence is for.
``benchmarks/gate/simulate.py`` draws what the schedule costs and saves.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_LOOK = 8
SMALL_LOOK = 16
"""A look at fewer utterances than this estimates sigma from so few that it needs more margin."""
SMALL_LOOK_CONFIDENCE = 0.99
EARLY_CONFIDENCE = 0.975


def first_look(min_n: int) -> int:
    """Return the size of the first look of a gate to which fewer than ``min_n`` say nothing."""
    return max(FIRST_LOOK, min_n)


def looks(n: int, first: int = FIRST_LOOK) -> tuple[int, ...]:
    """Return the numbers of utterances to look at: 8, 16, 32, ..., up to and including ``n``.

    Raises:
        ValueError: ``n`` or ``first`` is below 1.
    """
    if n < 1 or first < 1:
        raise ValueError(f"looks need at least one utterance, got n={n} and first={first}")
    sizes = []
    size = first
    while size < n:
        sizes.append(size)
        size *= 2
    return (*sizes, n)


def early_confidence(n_judged: int, final: float) -> float:
    """Return the confidence that a look before the last needs to reject.

    Args:
        n_judged: Utterances seen at this look.
        final: The confidence of the last look; an early one never asks for less.
    """
    early = SMALL_LOOK_CONFIDENCE if n_judged < SMALL_LOOK else EARLY_CONFIDENCE
    return max(early, final)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """When to look at a candidate; whether a look is the last word, its verdict says.

    Args:
        n: Utterances of the full judgement.
        first: Utterances of the first look.
    """

    n: int
    first: int = FIRST_LOOK

    def __post_init__(self) -> None:
        looks(self.n, self.first)

    @property
    def looks(self) -> tuple[int, ...]:
        """The sizes of all looks, the full one last."""
        return looks(self.n, self.first)

    def next_look(self, n_judged: int) -> int | None:
        """Return how many utterances the next look needs; None after the last."""
        return next((size for size in self.looks if size > n_judged), None)
