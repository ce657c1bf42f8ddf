"""How many utterances are planned from two hearings of one voice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from evaluation.arming_words import needs
from evaluation.gate import GateConfig, decide
from evaluation.paired_rates import chance_of_so_few
from evaluation.planning import OwnRuin, Plan, joint_power, own_ruin_table, plan, tail_table
from evaluation.scores import UtteranceScores
from evaluation.statistics import clopper_pearson_upper, power_to_accept
from tests.evaluation.scorecards import CONFIG, changed, voices

LOOP: dict[str, object] = {"guards": ("loop: 0.93 lag correlation (limit 0.85)",)}
TRUNCATED: dict[str, object] = {"guards": ("truncated: 1 sentences at the token cap",)}
N = 148


def hearing(fields: Sequence[dict[str, object]] = (), start: int = 0) -> list[UtteranceScores]:
    """Return 148 utterances of which some are ruined, from one place on."""
    base = voices(N)
    for i, ruin in enumerate(fields):
        base[start + i] = dataclasses.replace(base[start + i], **ruin)  # type: ignore[arg-type]
    return base


def planned(
    one: list[UtteranceScores], other: list[UtteranceScores], config: GateConfig = CONFIG
) -> Plan:
    found = plan(one, other, decide(one, other, config).bounds, config)
    assert found is not None
    return found


def test_a_voice_that_ruins_nothing_takes_what_rules_the_rate_out() -> None:
    found = planned(hearing(), changed(hearing(), dnsmos_ovrl=1.0, dnsmos_p808=1.0))
    assert (found.n, found.n_pairs, found.n_alone) == (114, N, 0)
    assert found.alone_upper == pytest.approx(clopper_pearson_upper(0, N, 0.90))


def test_few_pairs_of_which_none_was_ruined_say_little() -> None:
    one = voices(32)
    found = planned(one, one)
    assert found.alone_upper == pytest.approx(1 - 0.1 ** (1 / 32))
    assert "0 of 32 pairs" in needs(found, 128)
    assert "up to 6.9 % cannot be ruled out" in needs(found, 128)


def test_the_plan_accepts_an_equal_candidate_95_times_in_100() -> None:
    """By drawing the counts anew and testing each draw; three of 148 loop on one side alone."""
    found = planned(hearing([LOOP]), hearing([LOOP, LOOP], start=50))
    assert found.n_alone == 3
    assert found.n is not None
    assert 400 < found.n < 700

    def accepted(n: int) -> float:
        rate = 3 / 148 / 2
        drawn = np.random.default_rng(3).multinomial(n, [rate, rate, 1 - 2 * rate], size=4_000)
        kinds, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
        passed = [b == 0 or chance_of_so_few(int(b), int(c), n, 0.02) <= 0.10 for b, c in kinds]
        return float(counts[passed].sum() / counts.sum())

    assert accepted(found.n) > 0.945
    assert accepted(found.n - 100) < 0.95


def test_what_nothing_makes_up_for_takes_more() -> None:
    same = OwnRuin(rates=(0.01,), unanswered=0.0)
    split = OwnRuin(rates=(0.005, 0.005), unanswered=0.0)
    never = OwnRuin(rates=(), unanswered=0.01)
    powers = [ruin.power(400, CONFIG) for ruin in (same, split, never)]
    assert powers[0] > powers[1] + 0.01
    assert powers[1] > powers[2] + 0.02
    assert OwnRuin(rates=(), unanswered=0.0).power(8, CONFIG) == 1.0


def test_kinds_of_ruin_are_told_apart_and_each_counts_both_ways() -> None:
    long = {"duration_s": 30.0}  # shows beside the other hearing only
    one = hearing([LOOP, TRUNCATED])
    other = hearing([LOOP, long], start=50)
    pairs = list(zip(one, other, strict=True))
    found = OwnRuin.seen(pairs, CONFIG)
    assert sorted(found.rates) == [1 / (2 * N), 2 / (2 * N)]
    assert found.unanswered == 2 / (2 * N)
    backwards = OwnRuin.seen([(b, a) for a, b in pairs], CONFIG)
    assert sorted(backwards.rates) == sorted(found.rates)
    assert planned(one, other).n_alone == 4


def test_the_widest_comparison_decides() -> None:
    sigma_pct = {"dnsmos_ovrl": 4.0, "dnsmos_p808": 4.0, "wer": 15.0}
    sound = OwnRuin(rates=(), unanswered=0.0)
    by_words = power_to_accept(273, 15.0, 0.0, budget_pct=3.0)
    assert joint_power(273, sigma_pct, sound, CONFIG) == pytest.approx(by_words, abs=1e-3)
    noisy = {**sigma_pct, "dnsmos_p808": 20.0}
    by_p808 = power_to_accept(273, 20.0, 2.0)
    assert joint_power(273, noisy, sound, CONFIG) == pytest.approx(by_words + by_p808 - 1, abs=1e-3)


def test_a_budget_below_the_small_loss_is_planned_for_none() -> None:
    sigma_pct = {"dnsmos_ovrl": 4.0, "dnsmos_p808": 4.0, "wer": 1.0}
    sound, strict = OwnRuin(rates=(), unanswered=0.0), GateConfig(mos_budget_pct=1.5)
    power = power_to_accept(128, 4.0, 0.0, budget_pct=1.5)
    assert joint_power(128, sigma_pct, sound, strict) == pytest.approx(2 * power - 1, abs=1e-6)


def test_a_voice_that_no_number_of_utterances_settles_has_no_n() -> None:
    other = [dataclasses.replace(s, duration_s=30.0) for s in voices(N)[:60]] + voices(N)[60:]
    found = planned(voices(N), other)
    assert (found.n, found.n_alone) == (None, 60)
    assert needs(found, 128).endswith("takes more than n=4096, more than the confirmation's 128")


def test_nothing_is_planned_without_the_words() -> None:
    one = [dataclasses.replace(s, wer_errors=None) for s in voices(N)]
    assert plan(one, one, decide(one, one, CONFIG).bounds, CONFIG) is None


@pytest.mark.parametrize(
    ("n_final", "said"),
    [
        (600, "3 of 148 pairs are ruined on one hearing alone (up to 4.5 % cannot be ruled out)"),
        (128, "accepting that loss 95 times in 100 takes n=541, more than the confirmation's 128"),
        (None, "accepting that loss 95 times in 100 takes n=541"),
    ],
)
def test_the_summary_says_what_it_takes(n_final: int | None, said: str) -> None:
    made = Plan(n=541, n_pairs=148, n_alone=3, alone_upper=0.0446)
    assert needs(made, n_final).endswith(said)


def test_the_page_shows_how_often_an_equal_candidate_passes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "judging.md").read_text(encoding="utf-8")
    for table in (tail_table, own_ruin_table):
        assert table(CONFIG) in page
