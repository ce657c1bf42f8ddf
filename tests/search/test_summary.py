"""What is said about a finished sweep."""

from __future__ import annotations

import pytest

from search.ranking import speedup
from search.record import Confirmation
from search.rejections import rejection_counts
from search.summary import summarise, verdict_text
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
        "against 400 ms (3 runs, 360 ms to 440 ms), 4.00 times faster than the baseline; timed "
        "again in turn with the baseline, 3.90 times (3.60 to 4.00 over 3 pairs), and PASS on "
        "unseen prompts (n=128)."
    )
    assert why == (
        "What made it so: compile=default, 2.00 times faster than trial 1, which differs in "
        "nothing else."
    )
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
    assert won.endswith("(n=16); confirmed on n = 16 utterances only.")


def test_the_best_is_no_winner_until_it_is_confirmed() -> None:
    summary = summarise(fixtures.unconfirmed())
    assert [row[0] for row in summary.rows] == ["baseline", "unconfirmed"]
    said, why, _ = summary.sentences
    assert said.startswith(
        "Not confirmed, so nothing can be exported yet: trial 2 (bf16 default dynamic b4) is the "
        "best so far: latency p50 100 ms"
    )
    assert said.endswith("the baseline. Its confirmation is not finished: run it again.")
    assert why.startswith("What made it so: compile=default")


def test_contenders_that_were_all_refuted_are_told() -> None:
    nobody = fixtures.result(
        winner=None, confirmation=None, not_confirmed="the best 3 were judged again"
    )
    said = summarise(nobody).sentences[0]
    assert said == "Nothing won: the best 3 were judged again; nothing can be exported."


def test_what_shows_nothing_is_told_apart_from_what_was_rejected() -> None:
    odd = [
        fixtures.record(10 + i, verdict=fixtures.verdict(status, ("so it is",)))
        for i, status in enumerate(("UNDECIDED", "UNGATED", "UNARMED", "UNARMED"))
    ]
    said = summarise(fixtures.result((*fixtures.records(), *odd))).sentences[2]
    assert said == (
        "2 of 8 candidates were accepted; rejected: 1 × FAIL dnsmos_p808, 1 × oom; UNDECIDED "
        "(more utterances would tell): 1, of which by 1 × dnsmos_p808; UNGATED (a measurement is "
        "missing): 1, of which by 1 × dnsmos_p808; UNARMED (the gate did not tell good from bad on "
        "this baseline): 2, of which by 2 × dnsmos_p808."
    )


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


def test_what_could_not_win_is_not_counted_among_the_rejected() -> None:
    found = (
        *fixtures.records(), fixtures.surpassed(5), fixtures.surpassed_when_heard(6),
        fixtures.surpassed(7, by="the baseline"),
    )  # fmt: skip
    summary = summarise(fixtures.result(found))
    assert summary.sentences[2] == (
        "2 of 7 candidates were accepted; 3 stopped for being unable to win: 2 × no better than an "
        "accepted trial, 1 × no better than the baseline; rejected: 1 × FAIL dnsmos_p808, 1 × oom."
    )
    assert dict(summary.rejections) == {"FAIL dnsmos_p808": 1, "oom": 1}
    assert verdict_text(fixtures.surpassed(5)) == "surpassed"
    assert verdict_text(fixtures.surpassed_when_heard(5)) == "surpassed"
    everything = (fixtures.baseline(), fixtures.surpassed(1, by="the baseline"))
    _, why, rejected = summarise(fixtures.result(everything)).sentences
    assert rejected.startswith("0 of 1 candidates")
    assert why == (
        "The fastest that ran was trial 1 (fp16 eager dynamic b4, 300 ms), not heard: the baseline "
        "is at least as good in latency_p50_s."
    )


def test_a_rejection_names_what_decided_it() -> None:
    verdict = fixtures.verdict("FAIL", ("4 of 16 utterances are bad.",))
    verdict["bounds"] = [
        fixtures.bound("wer", 2.0, "UNDECIDED"), fixtures.bound("bad_utterances", 9.0, "FAIL"),
    ]  # fmt: skip
    failed = fixtures.record(1, verdict=verdict)
    assert rejection_counts([fixtures.baseline(), failed]) == {"FAIL bad_utterances": 1}


def test_word_errors_are_bounded_from_above() -> None:
    """A rise is what counts, and neither the tail's nor the duration's bound is a loss."""
    verdict = fixtures.verdict()
    verdict["bounds"] += [fixtures.bound("wer", 0.5), fixtures.bound("duration_s", -30.0)]
    said = verdict_text(fixtures.record(1, verdict=verdict))
    assert said == "PASS (P808 ≥ -2.0 %, WER ≤ +2.0 points, n=16)"


def test_a_confirmation_is_no_trial_of_the_title() -> None:
    found = (*fixtures.records(), fixtures.record(5, role="confirm"))
    assert summarise(fixtures.result(found)).title.startswith("toy: 5 trials on")


def test_a_missed_service_level_is_a_rejection_of_its_own() -> None:
    slow = fixtures.record(1, slo_violations=("latency_p50_s 0.1 is above the limit 0.05",))
    assert rejection_counts([fixtures.baseline(), slow]) == {"service level missed": 1}


def test_speedup_knows_which_way_is_good() -> None:
    fast, slow = fixtures.record(1, latency=0.1), fixtures.record(2, latency=0.4)
    assert speedup(fast, slow, "latency_p50_s") == pytest.approx(4)
    assert speedup(fast, slow, "throughput_samples_per_s") == pytest.approx(4)
    assert speedup(fast, slow, "pesq_wb") is None
    more = fixtures.record(3, metrics={"throughput_audio_s_per_s": 8.0})
    less = fixtures.record(4, metrics={"throughput_audio_s_per_s": 2.0})
    assert speedup(more, less, "throughput_audio_s_per_s") == pytest.approx(4)


def test_several_objectives_show_the_whole_front() -> None:
    found = fixtures.records()
    result = fixtures.result(
        found, objectives=("latency_p50_s", "peak_memory_bytes"), front=(found[2], found[1])
    )
    assert [row[0] for row in summarise(result).rows] == ["baseline", "winner", "front"]


def test_a_winner_far_from_the_baseline_is_set_beside_what_lacks_its_values() -> None:
    graphs = Options(precision="bf16", compile="reduce-overhead", kv_cache="static")
    plain = Options(precision="bf16", kv_cache="dynamic", attention="flash")
    found = (
        fixtures.baseline(), fixtures.record(1, latency=0.1, options=graphs),
        fixtures.record(2, latency=0.3, options=plain, verdict=None),
    )  # fmt: skip
    assert summarise(fixtures.result(found)).sentences[1] == (
        "What made it so: precision=bf16, 4.00 times faster than the best trial without it (0); "
        "compile=reduce-overhead, kv_cache=static, 3.00 times faster than the best trial without "
        "them (2)."
    )


def test_axes_that_gained_nothing_are_no_cause() -> None:
    both = Options(precision="bf16", kv_cache="static")
    found = (
        fixtures.baseline(), fixtures.record(1, latency=0.1, options=both),
        fixtures.record(2, latency=0.1, options=Options(precision="bf16"), verdict=None),
        fixtures.record(3, latency=0.1, options=Options(kv_cache="static"), verdict=None),
    )  # fmt: skip
    why = summarise(fixtures.result(found)).sentences[1]
    assert "none of these decides alone" in why
    assert "precision=bf16, kv_cache=static" in why


def test_a_baseline_that_won_is_said_so() -> None:
    same = fixtures.record(1, options=Options(), latency=0.39)
    why = summarise(fixtures.result((fixtures.baseline(), same))).sentences[1]
    assert "no optimization helped" in why


def test_an_ungated_trial_has_a_reason() -> None:
    ungated = fixtures.record(1, verdict=None)
    assert verdict_text(ungated) == "UNGATED"
    _, why, rejected = summarise(fixtures.result((fixtures.baseline(), ungated))).sentences
    assert "the gate had nothing to judge" in why
    assert "UNGATED (a measurement is missing): 1." in rejected
