"""What is said about a finished sweep."""

from __future__ import annotations

import dataclasses

import pytest

from search.record import Confirmation
from search.summary import rejection_counts, speedup, summarise, verdict_text
from tests.search import record_fixtures as fixtures
from tts.options import Options


def test_the_table_holds_the_baseline_and_the_winner() -> None:
    summary = summarise(fixtures.result())
    assert summary.title == "toy: 5 trials on a toy CPU in 1:00"
    assert [row[:3] for row in summary.rows] == [
        ("baseline", "0", "fp32 eager dynamic b1"),
        ("winner", "2", "bf16 default dynamic b4"),
    ]
    assert summary.rows[0][-1] == "baseline"
    assert summary.rows[1][-1] == "PASS (P808 ≥ -2.0 %, n=16)"
    assert summary.columns[3:5] == ("latency p50", "p95")
    assert all(len(row) == len(summary.columns) for row in summary.rows)


def test_the_sentences_say_what_won_why_and_what_was_rejected() -> None:
    won, why, rejected = summarise(fixtures.result()).sentences
    assert won == (
        "Trial 2 (bf16 default dynamic b4) won: latency p50 100 ms (3 runs, 90 ms to 110 ms) "
        "against 400 ms (3 runs, 360 ms to 440 ms), 4.00 times faster than the baseline, "
        "not confirmed."
    )
    assert "compile none → default 2.00 times (against trial 1)" in why
    assert rejected == ("2 of 4 candidates were accepted; rejected: 1 × FAIL dnsmos_p808, 1 × oom.")


def test_a_confirmed_winner_says_so() -> None:
    confirmation = Confirmation(
        digest="2",
        metric="latency_p50_s",
        baseline_samples=(0.4, 0.4, 0.4),
        winner_samples=(0.1, 0.11, 0.1),
        speedup=3.9,
        speedup_low=3.6,
        speedup_high=4.0,
        verdict=fixtures.verdict(),
    )
    won = summarise(fixtures.result(confirmation=confirmation)).sentences[0]
    assert "timed again in turn with the baseline, 3.90 times (3.60 to 4.00 over 3 pairs)" in won
    assert "PASS on unseen prompts (n=16)" in won
    unread = dataclasses.replace(confirmation, verdict=None)
    won = summarise(fixtures.result(confirmation=unread)).sentences[0]
    assert "unseen prompts were not reached" in won


def test_without_a_winner_the_nearest_miss_is_named() -> None:
    found = tuple(r for r in fixtures.records() if not r.accepted)
    won, why, _ = summarise(fixtures.result(found)).sentences
    assert won.startswith("Nothing won")
    assert why.startswith("The fastest that ran was trial 3 (fp16 eager dynamic b1 T=1.5, 50 ms)")
    assert "upper bound -7.5 % is below -5 %" in why


@pytest.mark.parametrize("keep", [1, 2])
def test_a_sweep_that_barely_began_is_told_too(keep: int) -> None:
    found = (fixtures.baseline(), fixtures.crashed(1))[:keep]
    summary = summarise(fixtures.result(found, interrupted=True, wall_s=3.0))
    assert "interrupted" in summary.title
    assert "Nothing won" in summary.sentences[0]


def test_a_missed_service_level_is_a_rejection_of_its_own() -> None:
    slow = fixtures.record(1, slo_violations=("latency_p50_s 0.1 is above the limit 0.05",))
    assert rejection_counts([fixtures.baseline(), slow]) == {"service level missed": 1}


def test_speedup_knows_which_way_is_good() -> None:
    fast, slow = fixtures.record(1, latency=0.1), fixtures.record(2, latency=0.4)
    assert speedup(fast, slow, "latency_p50_s") == pytest.approx(4)
    assert speedup(fast, slow, "throughput_samples_per_s") == pytest.approx(4)
    assert speedup(fast, slow, "pesq_wb") is None


def test_several_objectives_show_the_whole_front() -> None:
    found = fixtures.records()
    result = fixtures.result(
        found, objectives=("latency_p50_s", "peak_memory_bytes"), front=(found[2], found[1])
    )
    assert [row[0] for row in summarise(result).rows] == ["baseline", "winner", "front"]


def test_a_baseline_that_won_is_said_so() -> None:
    same = fixtures.record(1, options=Options(), latency=0.39)
    why = summarise(fixtures.result((fixtures.baseline(), same))).sentences[1]
    assert "no optimization helped" in why


def test_an_ungated_trial_has_a_reason() -> None:
    ungated = fixtures.record(1, verdict=None)
    assert verdict_text(ungated) == "UNGATED"
    _, why, rejected = summarise(fixtures.result((fixtures.baseline(), ungated))).sentences
    assert "the gate had nothing to judge" in why
    assert "1 × UNGATED" in rejected
