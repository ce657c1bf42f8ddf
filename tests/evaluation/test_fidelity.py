"""KL, agreement and the end, against values worked out by hand; and what is rejected."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from evaluation import drift as drifts
from evaluation.drift import Drift, compare, sketch
from evaluation.fidelity import FidelityConfig, FidelityStats, rejection, screen, summarise

END = 2
# Two positions: token 0 is given, then the end is due.
THEIRS = np.log([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).astype(np.float32)
OURS = np.log([[0.3, 0.5, 0.2], [0.2, 0.2, 0.6]]).astype(np.float32)


def drift(ours: drifts.Floats = OURS) -> Drift:
    return compare(sketch("a", THEIRS, [0], END), ours)


def test_the_figures_are_those_worked_out_by_hand() -> None:
    stats = summarise([drift()])
    first = 0.5 * math.log(0.5 / 0.3) + 0.3 * math.log(0.3 / 0.5)
    last = 2 * 0.1 * math.log(0.1 / 0.2) + 0.8 * math.log(0.8 / 0.6)
    assert (stats.n_sentences, stats.n_positions, stats.n_not_finite) == (1, 2, 0)
    assert stats.kl_mean == pytest.approx((first + last) / 2, rel=1e-5)
    assert stats.kl_p99 == pytest.approx(last + 0.99 * (first - last), rel=1e-5)
    assert stats.top1 == 0.5
    assert stats.eos_drift == pytest.approx(0.1, rel=1e-5)
    assert stats.eos_drift_max == pytest.approx(0.2, rel=1e-5)
    assert stats.eos_drift_final == pytest.approx(0.2, rel=1e-5)
    change = math.log(0.3 / 0.5) + math.log(0.6 / 0.8)
    assert stats.log_likelihood_change == pytest.approx(change / 2, rel=1e-5)


def test_a_model_beside_itself_has_not_drifted() -> None:
    stats = summarise([drift(THEIRS)])
    assert stats.kl_mean == pytest.approx(0, abs=1e-7)
    assert (stats.top1, stats.eos_drift_max) == (1.0, pytest.approx(0, abs=1e-7))
    assert screen(stats, FidelityConfig()) == ()


def random_log_probs(seed: int, n: int, vocabulary: int, scale: float = 2.0) -> drifts.Floats:
    scores = np.random.default_rng(seed).normal(0, scale, (n, vocabulary))
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return scores.astype(np.float32)


def test_what_is_kept_of_a_large_vocabulary_bounds_kl_from_below() -> None:
    theirs = random_log_probs(0, 30, 5_000)
    ours = theirs + np.random.default_rng(1).normal(0, 0.3, theirs.shape).astype(np.float32)
    ours -= np.log(np.exp(ours.astype(np.float64)).sum(axis=1, keepdims=True)).astype(np.float32)
    small = sketch("a", theirs, [1] * 29, END)
    assert small.ids.shape == (30, drifts.TOP_K)
    assert (np.diff(small.log_probs, axis=1) <= 0).all()
    whole = np.exp(small.log_probs.astype(np.float64)).sum(axis=1) + np.exp(small.rest)
    assert whole == pytest.approx(1, abs=1e-5)
    exact = (np.exp(theirs.astype(np.float64)) * (theirs - ours)).sum(axis=1)
    found = compare(small, ours).kl
    assert (found <= exact + 1e-6).all()
    assert found.mean() > 0.4 * exact.mean()  # half of the mass lies in the rest here


def test_never_is_a_number() -> None:
    never = np.array([[-np.inf, 0.0, -np.inf], [-np.inf, -np.inf, 0.0]], dtype=np.float32)
    stats = summarise([drift(never)])
    assert stats.n_not_finite == 0
    assert stats.kl_mean > 20
    assert json.loads(json.dumps(stats.to_mapping(), allow_nan=False))
    # A baseline that never says a token has nothing to lose there.
    assert compare(sketch("a", never, [1], END), never).kl == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_rejected_whatever_else_is_fine(bad: float) -> None:
    ours = THEIRS.copy()
    ours[0] = bad
    stats = summarise([drift(ours)])
    assert stats.n_not_finite == 1
    assert stats.kl_p99 > 50
    lenient = FidelityConfig(
        max_kl_mean=1e9, max_kl_p99=1e9, min_top1=0, max_eos_drift_final=1, max_likelihood_loss=1e9
    )
    assert screen(stats, lenient) == (
        "Broken at the token level: 1 of 2 positions have no finite probabilities.",
    )


def test_one_nan_in_a_row_makes_the_row_worthless() -> None:
    ours = THEIRS.copy()
    ours[1, 1] = np.nan
    assert summarise([drift(ours)]).n_not_finite == 1


def stats(**changes: float) -> FidelityStats:
    fine = summarise([drift(THEIRS)])
    return replace(fine, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kl_mean": 1.21}, "KL 1.21 nats to the baseline on its own tokens (limit 0.7)"),
        ({"kl_p99": 30.0}, "KL 30 nats at one position in a hundred (limit 5)"),
        ({"top1": 0.12}, "is the baseline's at 12 % of the positions (limit 35 %)"),
        ({"eos_drift_final": 0.7}, "is off by 0.70 where the baseline ends (limit 0.5)"),
        ({"log_likelihood_change": -2.0}, "tokens lose 2 nats each (limit 1)"),
    ],
)
def test_each_limit_rejects_by_itself_and_names_its_numbers(
    changes: dict[str, float], said: str
) -> None:
    (reason,) = screen(stats(**changes), FidelityConfig())
    assert said in reason


@pytest.mark.parametrize(
    "name", ["kl_mean", "kl_p99", "top1", "eos_drift_final", "log_likelihood_change"]
)
def test_what_is_no_number_is_rejected(name: str) -> None:
    assert screen(stats(**{name: math.nan}), FidelityConfig())


def test_exactly_at_the_limits_is_not_rejected() -> None:
    c = FidelityConfig()
    at = stats(
        kl_mean=c.max_kl_mean, kl_p99=c.max_kl_p99, top1=c.min_top1,
        eos_drift_final=c.max_eos_drift_final, log_likelihood_change=-c.max_likelihood_loss,
    )  # fmt: skip
    assert screen(at, c) == ()


@pytest.mark.parametrize(
    "limits",
    [{"max_kl_mean": 0.0}, {"min_top1": 1.5}, {"max_eos_drift_final": math.nan}],
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        FidelityConfig(**limits)


def test_a_rejection_fails_on_nothing_heard_and_reads_back() -> None:
    verdict = rejection(screen(stats(kl_mean=3.0, top1=0.0), FidelityConfig()))
    assert (verdict.status, verdict.n, verdict.bounds, verdict.is_final) == ("FAIL", 0, (), True)
    assert verdict.summary.startswith("FAIL: nothing was heard. Broken at the token level: KL 3 ")
    assert verdict.summary.endswith("(and 1 more)")
    with pytest.raises(ValueError, match="no reason"):
        rejection(())


def test_the_stats_read_back() -> None:
    found = summarise([drift(), drift(THEIRS)])
    assert FidelityStats.from_mapping(json.loads(json.dumps(found.to_mapping()))) == found
    assert found.n_positions == 4
    assert found.metrics()["fidelity_eos_drift"] == found.eos_drift_max


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        (THEIRS[:1], r"a: log-probabilities of shape \(1, 3\).*has 2 positions"),
        (THEIRS[:, :2], r"a: .*tokens up to 2"),
    ],
)
def test_what_does_not_fit_is_refused(ours: drifts.Floats, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drift(ours)


def test_a_baseline_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="2 tokens"):
        sketch("a", THEIRS, [0, 1], END)
    with pytest.raises(ValueError, match="NaN"):
        sketch("a", np.full_like(THEIRS, np.nan), [0], END)
    with pytest.raises(ValueError, match="no sentence"):
        summarise([])
