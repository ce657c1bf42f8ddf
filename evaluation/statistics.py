"""The statistics behind a verdict: paired bounds, binomial bounds, power and sample size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with one-sided bounds, each at the stated confidence on its own.

    Args:
        mean: The estimate.
        lower: The true mean is above this with the stated confidence.
        upper: The true mean is below this with the stated confidence.
        sigma: Standard deviation of a single difference (n - 1 in the denominator).
        n: How many pairs.
    """

    mean: float
    lower: float
    upper: float
    sigma: float
    n: int


def t_interval(values: Values, confidence: float) -> Interval:
    """Bound the mean of independent values by Student's t.

    t and not a percentile bootstrap: at n = 8 the bootstrap accepts a true 5 % loss 12 % of the
    time where it promises 5 %.

    Args:
        values: Shape (n,), finite, n >= 2.
        confidence: Of each one-sided bound, such as 0.95.

    Raises:
        ValueError: Fewer than two values, or one that is not finite.
    """
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"a bound needs at least two values, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a bound of values that are not finite means nothing")
    n = len(values)
    mean = float(values.mean())
    sigma = float(values.std(ddof=1))
    reach = _t_quantile(n - 1, confidence) * sigma / math.sqrt(n)
    return Interval(mean=mean, lower=mean - reach, upper=mean + reach, sigma=sigma, n=n)


@lru_cache(maxsize=4096)
def _t_quantile(degrees: int, confidence: float) -> float:
    return float(special.stdtrit(degrees, confidence))


def paired_change_pct(baseline: Values, candidate: Values, confidence: float) -> Interval:
    """Bound the change of the mean in percent of the baseline's mean, pair by pair.

    Args:
        baseline: Shape (n,), with a mean above zero.
        candidate: Shape (n,), the same utterances in the same order.
        confidence: Of each one-sided bound.

    Raises:
        ValueError: Lengths differ, or the baseline's mean is not above zero.
    """
    if baseline.shape != candidate.shape:
        raise ValueError(f"{len(baseline)} baseline values against {len(candidate)}")
    level = float(baseline.mean()) if len(baseline) else 0.0
    if not level > 0:
        raise ValueError("a change in percent needs a baseline mean above zero")
    return t_interval(100.0 * (candidate - baseline) / level, confidence)


def paired_rate_change(
    baseline_errors: Values, candidate_errors: Values, words: Values, confidence: float
) -> Interval:
    """Bound the change of a corpus rate (errors over words), pair by pair.

    The mean of the per-utterance terms is exactly the difference of the two corpus rates, so
    long utterances weigh as much as they do in the rate itself.

    Args:
        baseline_errors: Shape (n,).
        candidate_errors: Shape (n,).
        words: Shape (n,), the reference's words, the same for both.
        confidence: Of each one-sided bound.

    Raises:
        ValueError: Shapes differ, or there are no words at all.
    """
    if not baseline_errors.shape == candidate_errors.shape == words.shape:
        raise ValueError("errors and words must be given for the same utterances")
    per_utterance = float(words.mean()) if len(words) else 0.0
    if not per_utterance > 0:
        raise ValueError("a word error rate needs at least one reference word")
    return t_interval((candidate_errors - baseline_errors) / per_utterance, confidence)


@lru_cache(maxsize=65536)
def clopper_pearson_upper(count: int, n: int, confidence: float) -> float:
    """Return the exact upper bound of a rate of which ``count`` in ``n`` were seen.

    Source: Clopper and Pearson, Biometrika 26 (1934), 404-413.
    """
    _check_count(count, n)
    return 1.0 if count == n else float(special.betaincinv(count + 1, n - count, confidence))


@lru_cache(maxsize=65536)
def clopper_pearson_lower(count: int, n: int, confidence: float) -> float:
    """Return the exact lower bound of a rate of which ``count`` in ``n`` were seen."""
    _check_count(count, n)
    return 0.0 if count == 0 else float(special.betaincinv(count, n - count + 1, 1 - confidence))


def _check_count(count: int, n: int) -> None:
    if n < 1 or not 0 <= count <= n:
        raise ValueError(f"{count} of {n} is not a count")


def binomial_cdf(count: int, n: int, rate: float) -> float:
    """Return the chance of at most ``count`` events in ``n`` trials of one rate."""
    return float(special.bdtr(count, n, rate)) if count >= 0 else 0.0


def required_n(
    sigma_pct: float,
    loss_pct: float,
    *,
    budget_pct: float = 5.0,
    confidence: float = 0.95,
    power: float = 0.80,
) -> int:
    """Return how many pairs accept a true loss with the wanted power.

    The normal approximation plus two for t: ``((z_conf + z_power) sigma / (budget - loss))^2 + 2``.

    Raises:
        ValueError: The true loss is not inside the budget: no n can accept it.
    """
    if loss_pct >= budget_pct:
        raise ValueError(f"a true loss of {loss_pct} % is outside a budget of {budget_pct} %")
    z = float(special.ndtri(confidence) + special.ndtri(power))
    return math.ceil((z * sigma_pct / (budget_pct - loss_pct)) ** 2 + 2)


def power_to_accept(
    n: int,
    sigma_pct: float,
    loss_pct: float,
    *,
    budget_pct: float = 5.0,
    confidence: float = 0.95,
) -> float:
    """Return the chance that a true loss passes the paired gate, by the noncentral t."""
    if n < 2:
        return 0.0
    if sigma_pct == 0:
        return float(loss_pct < budget_pct)
    # Beyond some 37 scipy has no value; at 30 the chance lacks 1e-5 at the most.
    shift = min(30.0, (budget_pct - loss_pct) * math.sqrt(n) / sigma_pct)
    return 1.0 - float(special.nctdtr(n - 1, shift, _t_quantile(n - 1, confidence)))


def power_to_stay_within(n: int, sigma_pct: float, limit_pct: float) -> float:
    """Return the chance that the mean of changes around zero stays within a limit either way."""
    if sigma_pct == 0:
        return 1.0
    return float(1.0 - 2.0 * special.ndtr(-limit_pct * math.sqrt(n) / sigma_pct))
