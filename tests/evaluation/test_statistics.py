from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation import statistics as s


def test_t_interval_of_three_values_by_hand() -> None:
    # Mean 2, sigma 1, t(0.95, 2) = 2.919986.
    found = s.t_interval(np.array([1.0, 2.0, 3.0]), 0.95)
    reach = 2.919986 / math.sqrt(3)
    assert (found.mean, found.sigma, found.n) == (2.0, 1.0, 3)
    assert found.lower == pytest.approx(2 - reach, abs=1e-5)
    assert found.upper == pytest.approx(2 + reach, abs=1e-5)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_t_interval_refuses_what_has_no_bound(values: list[float]) -> None:
    with pytest.raises(ValueError, match="bound"):
        s.t_interval(np.array(values), 0.95)


def test_paired_change_is_in_percent_of_the_baseline_mean() -> None:
    found = s.paired_change_pct(np.array([2.0, 4.0]), np.array([1.9, 3.8]), 0.95)
    assert found.mean == pytest.approx(-5.0)


def test_paired_change_of_equals_is_exactly_zero() -> None:
    values = np.array([3.1, 2.9, 3.4])
    found = s.paired_change_pct(values, values.copy(), 0.95)
    assert (found.mean, found.lower, found.upper, found.sigma) == (0.0, 0.0, 0.0, 0.0)


def test_paired_change_refuses_unequal_lengths_and_a_zero_baseline() -> None:
    with pytest.raises(ValueError, match="against"):
        s.paired_change_pct(np.ones(2), np.ones(3), 0.95)
    with pytest.raises(ValueError, match="above zero"):
        s.paired_change_pct(np.zeros(2), np.ones(2), 0.95)


def test_paired_rate_change_is_the_difference_of_the_corpus_rates() -> None:
    words = np.array([2.0, 10.0, 6.0])
    before, after = np.array([1.0, 0.0, 1.0]), np.array([0.0, 3.0, 1.0])
    found = s.paired_rate_change(before, after, words, 0.95)
    assert found.mean == pytest.approx(4 / 18 - 2 / 18)


@pytest.mark.parametrize(
    ("count", "n", "upper"),
    [
        (0, 10, 1 - 0.05 ** (1 / 10)),  # closed form
        (0, 59, 0.0495),  # the classic: none in 59 shows less than 5 %
        (10, 10, 1.0),
        (1, 10, 0.39416),
    ],
)
def test_clopper_pearson_upper(count: int, n: int, upper: float) -> None:
    assert s.clopper_pearson_upper(count, n, 0.95) == pytest.approx(upper, abs=1e-4)


def test_clopper_pearson_bounds_mirror_each_other() -> None:
    assert s.clopper_pearson_lower(3, 10, 0.95) == pytest.approx(
        1 - s.clopper_pearson_upper(7, 10, 0.95)
    )
    assert s.clopper_pearson_lower(0, 10, 0.95) == 0.0
    with pytest.raises(ValueError, match="not a count"):
        s.clopper_pearson_upper(3, 2, 0.95)


def test_binomial_cdf() -> None:
    assert s.binomial_cdf(0, 128, 0.02) == pytest.approx(0.98**128)
    assert s.binomial_cdf(3, 3, 0.5) == 1.0
    assert s.binomial_cdf(-1, 3, 0.5) == 0.0


def test_power_to_stay_within() -> None:
    # sigma 20, n 16: the mean has sigma 5, and 10 is two of those.
    assert s.power_to_stay_within(16, 20.0, 10.0) == pytest.approx(0.9545, abs=1e-4)
    assert s.power_to_stay_within(16, 0.0, 10.0) == 1.0


def test_required_n() -> None:
    # ((1.645 + 0.842) * 7 / (5 - 2))^2 + 2 = 35.7
    assert s.required_n(7.0, 2.0) == 36
    with pytest.raises(ValueError, match="outside"):
        s.required_n(7.0, 5.0)


@pytest.mark.parametrize(("loss", "power"), [(0.0, 1.0), (2.0, 0.97), (3.0, 0.75), (5.0, 0.05)])
def test_power_at_sigma_7_and_n_64(loss: float, power: float) -> None:
    assert s.power_to_accept(64, 7.0, loss) == pytest.approx(power, abs=0.03)


def test_power_at_the_edges() -> None:
    assert s.power_to_accept(1, 7.0, 0.0) == 0.0
    assert s.power_to_accept(64, 1e-6, 0.0) == 1.0
    assert s.power_to_accept(8, 0.0, 4.9) == 1.0
    assert s.power_to_accept(8, 0.0, 5.0) == 0.0
    for n in (2, 3, 8, 504, 4096):  # where scipy's noncentral t gives up
        for sigma in (1e-9, 0.1, 1.0, 2.0):
            if math.sqrt(n) * 5 / sigma > 30:
                assert s.power_to_accept(n, sigma, 0.0) == pytest.approx(1.0, abs=1e-5)


def test_a_loss_of_the_whole_budget_is_accepted_at_most_one_time_in_twenty() -> None:
    rng = np.random.default_rng(7)
    accepted = 0
    for _ in range(2000):
        baseline = rng.normal(3.0, 0.3, 24)
        candidate = baseline - 0.15 + rng.normal(0, 0.21, 24)
        accepted += s.paired_change_pct(baseline, candidate, 0.95).lower > -5.0
    assert accepted / 2000 < 0.065
