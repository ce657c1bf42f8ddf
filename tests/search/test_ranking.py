"""What a record is worth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search import ranking
from search.config import SweepConfig
from search.record import TrialRecord
from search.sections import PromptsConfig
from tests.search.test_record import make

CONFIG = SweepConfig(
    study="a", prompts=PromptsConfig(path="p"), slo={"rtf": 0.5, "tokens_per_s": 100.0}
)


def fast(seconds: float, **metrics: float) -> TrialRecord:
    return make(number=int(seconds * 100), metrics={"latency_p50_s": seconds, **metrics})


@pytest.mark.parametrize(
    ("metric", "value", "limit", "expected"),
    [
        ("rtf", 0.5, 1.0, -0.5),
        ("rtf", 1.0, 1.0, 0.0),
        ("rtf", 1.5, 1.0, 0.5),
        ("rtf", 9.0, 1.0, 1.0),
        ("tokens_per_s", 50.0, 100.0, 0.5),
        ("tokens_per_s", 150.0, 100.0, -0.5),
        ("rtf", None, 1.0, 1.0),
    ],
)
def test_a_shortfall_is_relative_and_bounded(
    metric: str, value: float | None, limit: float, expected: float
) -> None:
    assert ranking.shortfall(metric, value, limit) == pytest.approx(expected)


def test_every_record_has_the_same_constraints() -> None:
    metrics = {"rtf": 0.25, "tokens_per_s": 200.0}
    good = ranking.constraints(CONFIG, "completed", metrics, {"status": "PASS"})
    assert good == {"runs": 0.0, "gate": 0.0, "slo.rtf": -0.5, "slo.tokens_per_s": -1.0}
    crashed = ranking.constraints(CONFIG, "infeasible", {}, None)
    assert crashed == dict.fromkeys(good, 1.0)


def test_the_gate_is_graded() -> None:
    def told(status: str, loss: float = 0.0) -> float:
        bounds = [{"metric": "dnsmos_ovrl", "delta_pct": -loss}, {"metric": "wer", "delta_pct": 90}]
        verdict = {"status": status, "bounds": bounds}
        return ranking.constraints(CONFIG, "completed", {}, verdict)["gate"]

    grades = [told("PASS"), told("UNDECIDED"), told("FAIL", 6.0), told("FAIL", 30), told("UNGATED")]
    assert grades == sorted(set(grades))
    assert grades[0] == 0.0
    assert grades[-1] == 1.0


def test_what_was_not_heard_since_it_could_not_win_is_told_as_undecided() -> None:
    undecided = ranking.constraints(CONFIG, "completed", {}, {"status": "UNDECIDED", "bounds": []})
    assert ranking.constraints(CONFIG, "completed", {}, None, is_surpassed=True) == undecided
    assert undecided["gate"] == 0.1


def test_violations_are_told_in_words() -> None:
    found = ranking.slo_violations(CONFIG, {"rtf": 0.75})
    assert found == (
        "rtf 0.75 is above the limit 0.5", "tokens_per_s was not measured; the limit is 100",
    )  # fmt: skip


def test_a_failed_trial_has_a_finite_objective_worse_than_the_baseline() -> None:
    baseline = fast(0.4, tokens_per_s=100.0)
    names = ("latency_p50_s", "tokens_per_s")
    latency, tokens = ranking.objective_values(names, None, baseline)
    assert latency == pytest.approx(0.6)
    assert tokens == pytest.approx(100 / 1.5)
    assert ranking.objective_values(names, baseline, baseline) == [0.4, 100.0]


def test_only_accepted_search_records_are_ranked() -> None:
    records = [
        fast(0.3), fast(0.1), replace(fast(0.05), verdict={"status": "FAIL"}),
        replace(fast(0.01), role="confirm"), replace(fast(0.02), slo_violations=("x",)),
    ]  # fmt: skip
    assert [r.metrics["latency_p50_s"] for r in ranking.ranked(("latency_p50_s",), records)] == [
        0.1, 0.3,
    ]  # fmt: skip


def test_a_contender_beats_the_baseline() -> None:
    found = ranking.contenders(("latency_p50_s",), [fast(0.5), fast(0.2), fast(0.3)], fast(0.3))
    assert [r.metrics["latency_p50_s"] for r in found] == [0.2]


def test_the_front_has_what_nothing_dominates() -> None:
    records = [fast(0.1, rtf=0.9), fast(0.2, rtf=0.5), fast(0.3, rtf=0.6), fast(0.2, rtf=0.5)]
    found = ranking.front(("latency_p50_s", "rtf"), records)
    assert [(r.metrics["latency_p50_s"], r.metrics["rtf"]) for r in found] == [
        (0.1, 0.9), (0.2, 0.5), (0.2, 0.5),
    ]  # fmt: skip
    assert len(ranking.front(("latency_p50_s",), records)) == 1


def test_a_rival_that_is_as_good_everywhere_leaves_nothing_to_win() -> None:
    names = ("latency_p50_s", "tokens_per_s")
    rival = {"latency_p50_s": 0.1, "tokens_per_s": 100.0}
    assert ranking.no_better(names, {"latency_p50_s": 0.1, "tokens_per_s": 90.0}, rival)
    assert not ranking.no_better(names, {"latency_p50_s": 0.2, "tokens_per_s": 110.0}, rival)
    assert not ranking.no_better(names, {"latency_p50_s": 0.2}, rival)
