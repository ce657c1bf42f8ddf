"""Bounds of the difference of two paired proportions: newly ruined less mended, of n pairs.

Of n pairs ``b`` are ruined on the candidate alone and ``c`` on the baseline alone; the excess is
``p_b - p_c``. What both ruin, and how often either does by its own sampling, is a nuisance. Tango's
score statistic orders the outcomes; its normal approximation would accept up to 11 % where 10 are
promised (n = 128 to 1024), so the chance of an ordering as good or better is summed exactly and
taken at the worst rate of mending.

Source: Tango, Statistics in Medicine 17 (1998), 891-908 (the score); Hsueh, Liu and Chen,
Biometrics 57 (2001), 478-483 (the exact unconditional test).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Floats = npt.NDArray[np.float64]

MAX_NUISANCE = 0.25
"""Two sayings of equal rates of ruin r differ one way in r (1 - r) of the pairs: at most this."""
_N_NUISANCES = 48
_WIDTH = 7.0
"""Counts beyond so many standard deviations and a few are left out: 1e-9 of the probability."""
_XTOL = 1e-8
_NOTHING = 1e-15
_LEAST_SCORE, _N_HALVINGS = -40.0, 50
_TIE = 1e-9
"""Scores that differ by less are equal."""


@lru_cache(maxsize=65536)
def excess_upper(ruined: int, mended: int, n: int, confidence: float) -> float:
    """Return the upper bound of the rate of ruined utterances beyond the mended ones.

    No surplus of mended ones counts, so the bound is never below zero; with nothing ruined it is
    Clopper and Pearson's.

    Args:
        ruined: Pairs ruined on the candidate alone.
        mended: Pairs ruined on the baseline alone.
        n: Pairs.
        confidence: Of the bound, such as 0.90.

    Raises:
        ValueError: These are no counts of n pairs.
    """
    _check(ruined, mended, n)
    if ruined == 0:
        return float(-special.expm1(special.log1p(-confidence) / n))

    def surplus(rate: float) -> float:
        return chance_of_so_few(ruined, mended, n, rate) - (1 - confidence)

    low = max(0, ruined - mended) / n
    return _root(surplus, low, 1.0) if low < 1 else 1.0


@lru_cache(maxsize=65536)
def chance_of_so_few(ruined: int, mended: int, n: int, excess: float) -> float:
    """Return the chance, at most, of an outcome as good as this where the excess is true.

    Args:
        ruined: Pairs ruined on the candidate alone.
        mended: Pairs ruined on the baseline alone; a surplus does not count.
        n: Pairs.
        excess: True rate of ruined less mended, 0 to 1.
    """
    _check(ruined, mended, n)
    return _chance_below(float(_score(ruined, min(mended, ruined), n, excess)), n, excess)


@lru_cache(maxsize=4096)
def passing_counts(n: int, excess: float, confidence: float) -> npt.NDArray[np.int64]:
    """Return how many ruined pairs rule an excess out, by the number of mended ones.

    Returns:
        Shape (m,), read-only: -1 where not even none does. The last one holds for any more mended.
    """
    low, high = _LEAST_SCORE, 0.0
    for _ in range(_N_HALVINGS):
        middle = (low + high) / 2
        is_sure = _chance_below(middle, n, excess) <= 1 - confidence
        low, high = (middle, high) if is_sure else (low, middle)
    most = _most_ruined(np.arange(n + 1), n, excess, low)
    # Beyond the diagonal a mended pair more has no ruined one left to make up for.
    found = most[: int(np.argmax(most < np.arange(n + 1))) + 1]
    found.flags.writeable = False
    return found


def _chance_below(limit: float, n: int, excess: float) -> float:
    """Return the chance of a score up to a limit, at the worst rate of mending."""
    counts, rates = _mended_counts(n, excess), _nuisances(excess)
    most = _most_ruined(counts, n, excess, limit)
    return float(_chance_up_to(most, counts, rates, n, excess).max())


def required_n_for_excess(ruined: int, mended: int, rate: float, confidence: float) -> int:
    """Return how many pairs it takes for counts to rule out an excess.

    Args:
        ruined: Pairs ruined on the candidate alone.
        mended: Pairs ruined on the baseline alone.
        rate: The excess to rule out, above 0 and below 1.
        confidence: Of the bound.

    Returns:
        An n at which the chance of so few is small enough, and at one less is not.

    Raises:
        ValueError: The rate is not between 0 and 1: no number of pairs rules out 0.
    """
    if not 0 < rate < 1:
        raise ValueError(f"no number of pairs rules out an excess of {rate}")

    def is_enough(n: int) -> bool:
        return chance_of_so_few(ruined, mended, n, rate) <= 1 - confidence

    low = high = ruined + mended + 1
    while not is_enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def equal_passes(allowed: npt.NDArray[np.int64], n: int, rate: float) -> float:
    """Return how often two equal sides stay within what is allowed.

    Args:
        allowed: Shape (m,): by the number of mended pairs, the most ruined ones; the last value
            holds for more mended ones too.
        n: Pairs.
        rate: Share of the pairs that are ruined on one given side alone, 0 to 0.5.
    """
    counts = np.arange(n + 1)
    most = allowed[np.minimum(counts, len(allowed) - 1)]
    return float(_chance_up_to(most, counts, np.array([rate]), n, 0.0)[0])


def _score(ruined: Any, mended: Any, n: int, excess: float) -> Any:  # noqa: ANN401 - numbers or arrays
    """Return Tango's statistic: above zero where more is ruined than the excess makes."""
    half = (2 * n - ruined + mended) * excess - ruined - mended
    root = np.sqrt(half * half + 8 * n * mended * excess * (1 - excess))
    nuisance = np.maximum(0.0, root - half) / (4 * n)
    variance = n * (2 * nuisance + excess * (1 - excess))
    distance = ruined - mended - n * excess
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, distance / np.sqrt(variance), np.sign(distance) * np.inf)


def _most_ruined(
    counts: npt.NDArray[np.int64], n: int, excess: float, limit: float
) -> npt.NDArray[np.int64]:
    """Return, by the number of mended pairs, the most ruined ones whose score keeps a limit."""
    low, high = np.full(len(counts), -1), n - counts
    while (low < high).any():
        middle = (low + high + 1) // 2
        keeps = _score(middle, np.minimum(middle, counts), n, excess) <= limit + _TIE
        low, high = np.where(keeps, middle, low), np.where(keeps, high, middle - 1)
    return low


def _chance_up_to(
    most: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], rates: Floats, n: int, excess: float
) -> Floats:
    """Return P(ruined <= most[mended]) for each rate of mending: shape (n_rates,)."""
    rate = rates[:, None]
    log_choose = special.gammaln(n + 1) - special.gammaln(counts + 1)
    log_choose -= special.gammaln(n - counts + 1)
    weights = np.exp(log_choose + special.xlogy(counts, rate) + special.xlog1py(n - counts, -rate))
    of_rest = np.minimum(1.0, (rate + excess) / (1 - rate))
    rest = np.maximum(n - counts, 1)
    inside = np.zeros_like(weights)
    counted = (weights > _NOTHING) & (most >= 0)
    special.bdtr(np.clip(most, 0, rest), rest, of_rest, out=inside, where=counted)
    return np.asarray((weights * inside).sum(axis=1))


def _nuisances(excess: float) -> Floats:
    """Return rates of mending to try, densest at zero, where the chances change most."""
    top = min(MAX_NUISANCE, (1 - excess) / 2)
    return np.asarray(top * np.linspace(0, 1, _N_NUISANCES) ** 2)


def _mended_counts(n: int, excess: float) -> npt.NDArray[np.int64]:
    top = min(MAX_NUISANCE, (1 - excess) / 2)
    reach = n * top + _WIDTH * np.sqrt(n * top * (1 - top)) + 8
    return np.arange(min(n, int(reach)) + 1)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function that falls with the rate is zero."""
    return float(optimize.brentq(function, low, high, xtol=_XTOL))


def _check(ruined: int, mended: int, n: int) -> None:
    if min(ruined, mended) < 0 or n < 1 or ruined + mended > n:
        raise ValueError(f"{ruined} ruined and {mended} mended of {n} pairs are no counts")
