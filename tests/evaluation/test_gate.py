from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from evaluation.gate import GateConfig, Verdict, check_baseline, decide, unarmed
from evaluation.scores import UtteranceScores
from evaluation.statistics import power_to_accept
from tests.evaluation.scorecards import CONFIG, changed, ruined, voices


def test_the_baseline_passes_against_itself() -> None:
    verdict = decide(voices(), voices(), CONFIG)
    assert verdict.status == "PASS"
    assert verdict.reasons == ()
    assert verdict.summary == (
        "PASS: OVRL +0.0 % (lower bound +0.0 %, sigma 0.0 %), P808 +0.0 % (+0.0 %, 0.0 %), "
        "WER 3.3 % vs 3.3 % (at most +0.0 points), 0/24 newly ruined (at most 9.1 %), n=24, "
        "power 1.00"
    )


@pytest.mark.parametrize("metric", ["dnsmos_ovrl", "dnsmos_p808"])
@pytest.mark.parametrize(
    ("factor", "status"), [(0.98, "PASS"), (0.947, "UNDECIDED"), (0.90, "FAIL"), (1.1, "PASS")]
)
def test_each_mos_must_keep_its_budget(metric: str, factor: float, status: str) -> None:
    verdict = decide(voices(), changed(voices(), **{metric: factor}), CONFIG)
    assert verdict.status == status
    assert bool(verdict.reasons) == (status != "PASS")


def test_the_reason_of_a_failure_names_metric_and_size() -> None:
    verdict = decide(voices(), changed(voices(), dnsmos_p808=0.9), CONFIG)
    assert verdict.reasons == ("P808 loses 10.0 %, more than the 5 % allowed.",)
    assert verdict.summary.startswith("FAIL: OVRL +0.0 %")
    assert verdict.summary.endswith(f"n=24, power 1.00: {verdict.reasons[0]}")


def test_a_bound_equal_to_the_budget_does_not_pass() -> None:
    base = [dataclasses.replace(s, dnsmos_ovrl=4.0) for s in voices()]
    lower = [dataclasses.replace(s, dnsmos_ovrl=3.0) for s in base]
    verdict = decide(base, lower, GateConfig(mos_budget_pct=25))
    assert verdict.bounds[0].lower_pct == verdict.bounds[0].upper_pct == -25.0
    assert (verdict.status, verdict.bounds[0].status) == ("UNDECIDED", "UNDECIDED")
    assert decide(base, lower, GateConfig(mos_budget_pct=25.001)).status == "PASS"
    assert decide(base, lower, GateConfig(mos_budget_pct=24.999)).status == "FAIL"


def test_wer_has_a_margin_of_its_own() -> None:
    base = voices()
    three = [dataclasses.replace(s, wer_errors=(s.wer_errors or 0) + 1) for s in base]
    verdict = decide(base, three, CONFIG)
    assert verdict.status == "FAIL"
    assert verdict.reasons == ("WER rises by 10.0 points, more than the 3 allowed.",)
    one_more = ruined(base, 1, wer_errors=2)
    assert decide(base, one_more, CONFIG).status == "PASS"
    five_more = [
        dataclasses.replace(s, wer_errors=(s.wer_errors or 0) + (i % 5 == 0))
        for i, s in enumerate(base)
    ]
    assert decide(base, five_more, CONFIG).status == "UNDECIDED"


def test_a_failed_metric_counts_as_the_worst_case_and_is_not_skipped() -> None:
    failed = ruined(voices(), 6, dnsmos_ovrl=None, failures={"dnsmos": "SIGSEGV"})
    verdict = decide(voices(), failed, CONFIG)
    ovrl = next(item for item in verdict.bounds if item.metric == "dnsmos_ovrl")
    assert (verdict.status, ovrl.n) == ("FAIL", 24)
    assert verdict.failures == {"dnsmos": 6}
    assert "dnsmos failed on 6" in verdict.summary
    assert ovrl.delta_pct == pytest.approx(-100 * 6 * 2 / (24 * 3), abs=3)


def test_unreadable_audio_is_the_worst_case_of_everything() -> None:
    lost = UtteranceScores(utterance_id="p00", failures={"audio": "no such file"})
    verdict = decide(voices(), [lost, *voices()[1:]], CONFIG)
    assert verdict.status == "UNDECIDED"
    assert verdict.failures == {"audio": 1}
    assert {item.metric: item.n for item in verdict.bounds if item.n != 24} == {
        "noise_floor_dbfs": 23  # a file that does not read has none, and the tail has it
    }


def test_a_failed_pesq_alone_changes_nothing() -> None:
    refused = ruined(voices(), 3, failures={"pesq": "31 s"})
    verdict = decide(voices(), refused, CONFIG)
    assert (verdict.status, verdict.failures) == ("PASS", {})


@pytest.mark.parametrize("field", ["dnsmos_ovrl", "dnsmos_p808", "wer_errors"])
@pytest.mark.parametrize("k", [1, 24])
def test_missing_on_either_side_is_never_a_pass(field: str, k: int) -> None:
    missing = ruined(voices(), k, **{field: None})
    assert decide(voices(), missing, CONFIG).status == "UNGATED"
    assert decide(missing, voices(), CONFIG).status == "UNGATED"
    assert decide(missing, missing, CONFIG).status == "UNGATED"


@pytest.mark.parametrize("k", [1, 23, 24])
def test_guards_that_never_ran_are_never_a_pass(k: int) -> None:
    unguarded = ruined(voices(), k, noise_floor_dbfs=None)
    missing = f"noise floor is missing on {k} of 24 utterances."
    for base, cand in ((voices(), unguarded), (unguarded, voices()), (unguarded, unguarded)):
        verdict = decide(base, cand, CONFIG)
        assert verdict.status == "UNGATED"
        assert missing in verdict.reasons
    assert len(check_baseline(unguarded, CONFIG)) == k
    assert "no noise_floor_dbfs for 'p00': not measured" in check_baseline(unguarded, CONFIG)[0]


@pytest.mark.parametrize(
    "fields", [{"guards": ("empty: no samples",)}, {"failures": {"guards": "deadline"}}]
)
def test_a_noise_floor_that_cannot_be_is_left_to_the_tail(fields: dict[str, object]) -> None:
    empty = ruined(voices(), 1, noise_floor_dbfs=None, **fields)
    verdict = decide(voices(), empty, CONFIG)
    assert verdict.status == "UNDECIDED"
    assert "1 of 24 utterances are newly ruined" in verdict.reasons[0]
    other = ruined(voices(), 1, noise_floor_dbfs=None, guards=("loop: 0.95",))
    assert decide(voices(), other, CONFIG).status == "UNGATED"


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
@pytest.mark.parametrize("k", [1, 24])
def test_a_duration_that_is_no_number_is_missing(value: float | None, k: int) -> None:
    missing = ruined(voices(), k, duration_s=value)
    for base, cand in ((voices(), missing), (missing, voices())):
        verdict = decide(base, cand, CONFIG)
        assert verdict.status == "UNGATED"
        assert f"duration is missing on {k} of 24 utterances." in verdict.reasons


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_missing(value: float) -> None:
    verdict = decide(voices(), ruined(voices(), 1, dnsmos_ovrl=value), CONFIG)
    assert verdict.status == "UNGATED"
    assert verdict.reasons == ("OVRL is missing on 1 of 24 utterances.",)


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_too_few_are_never_a_pass(n: int) -> None:
    verdict = decide(voices(n), voices(n), CONFIG)
    assert verdict.status == "UNGATED"
    assert "too few" in verdict.reasons[0]
    assert decide(voices(8), voices(8), CONFIG).status == "PASS"


def test_utterances_that_were_not_judged_are_never_a_pass() -> None:
    verdict = decide(voices(), voices()[:20], CONFIG)
    assert verdict.status == "UNGATED"
    assert verdict.reasons == ("4 utterances were not judged, such as 'p20'.",)


def test_foreign_and_doubled_utterances_are_never_a_pass() -> None:
    assert decide(voices(23), voices(24), CONFIG).status == "UNGATED"
    assert decide(voices(), [*voices(), voices()[0]], CONFIG).status == "UNGATED"
    assert decide([*voices(), voices()[0]], voices(), CONFIG).status == "UNGATED"


def test_different_references_are_not_compared() -> None:
    other = ruined(voices(), 1, wer_words=11)
    assert decide(voices(), other, CONFIG).status == "UNGATED"


def test_an_early_look_rejects_but_never_accepts() -> None:
    base = voices()
    good = decide(base, base[:8], CONFIG, complete=False)
    assert (good.status, good.n, good.is_final) == ("UNDECIDED", 8, False)
    assert good.reasons == ("An early look may reject and never accept.",)
    damaged = changed(base, dnsmos_p808=0.8)[:8]
    bad = decide(base, damaged, CONFIG, complete=False)
    assert (bad.status, bad.is_final) == ("FAIL", True)


def test_an_early_look_rejects_by_a_stricter_bound_than_the_last() -> None:
    """At eight utterances 0.95 would reject what 0.99 does not."""
    base = voices(8)
    worse = changed(base, dnsmos_p808=0.935)
    last, early = (decide(base, worse, CONFIG, complete=complete) for complete in (True, False))
    assert (last.status, early.status) == ("FAIL", "UNDECIDED")
    bounds = [next(b for b in v.bounds if b.metric == "dnsmos_p808") for v in (last, early)]
    assert bounds[0].upper_pct < -5 < bounds[1].upper_pct


def test_speech_of_another_length_is_not_the_same() -> None:
    base = voices()
    assert decide(base, changed(base, duration_s=1.08), CONFIG).status == "PASS"
    slow = decide(base, changed(base, duration_s=1.2), CONFIG)
    assert slow.status == "FAIL"
    assert slow.reasons == ("The mean duration changes by +19.9 % (limit 10 %).",)
    assert "duration +19.9 %" in slow.summary


@pytest.mark.parametrize(("rise_db", "status"), [(4.0, "FAIL"), (2.0, "PASS")])
@pytest.mark.parametrize("gain_db", [-14.0, 0.0, 21.0])
def test_hiss_in_every_utterance_fails_at_any_level(
    rise_db: float, status: str, gain_db: float
) -> None:
    """The floors are measured against the speech, so its level says nothing more."""
    base = [dataclasses.replace(s, active_dbfs=-25.0) for s in voices()]
    noisy = [
        dataclasses.replace(s, noise_floor_dbfs=-60.0 + rise_db, active_dbfs=-25.0 + gain_db)
        for s in base
    ]
    verdict = decide(base, noisy, CONFIG)
    assert verdict.status == status
    assert ("noise floor" in verdict.summary) == (status == "FAIL")


def test_one_jump_of_the_noise_floor_is_chance() -> None:
    base = voices()
    assert decide(base, ruined(base, 1, noise_floor_dbfs=-45.0), CONFIG).status == "PASS"
    assert decide(base, ruined(base, 24, noise_floor_dbfs=-53.0), CONFIG).status == "FAIL"


def test_what_rejects_wins_over_what_is_missing() -> None:
    worse = ruined(changed(voices(), dnsmos_p808=0.8), 1, dnsmos_ovrl=None)
    verdict = decide(voices(), worse, CONFIG)
    assert verdict.status == "FAIL"
    assert len(verdict.reasons) == 2


def test_verdict_round_trip() -> None:
    verdict = decide(voices(), changed(voices(), dnsmos_p808=0.9), CONFIG)
    assert Verdict.from_mapping(json.loads(json.dumps(verdict.to_mapping()))) == verdict


def test_a_verdict_from_before_these_fields_still_loads() -> None:
    verdict = decide(voices(), voices(), CONFIG)
    old = json.loads(json.dumps(verdict.to_mapping()))
    for name in ("sigma_pct", "power", "failures", "is_final"):
        del old[name]
    for bound in old["bounds"]:
        del bound["power"]
    loaded = Verdict.from_mapping(old)
    assert (loaded.status, loaded.power, loaded.failures) == ("PASS", None, {})
    assert all(bound.power is None for bound in loaded.bounds)


def test_a_verdict_carries_its_sigma_and_the_power_it_had() -> None:
    rng = np.random.default_rng(3)
    base = voices(16)
    noisy = [
        dataclasses.replace(s, dnsmos_ovrl=(s.dnsmos_ovrl or 0) + float(rng.normal(0, 0.3)))
        for s in base
    ]
    verdict = decide(base, noisy, CONFIG)
    ovrl = verdict.bounds[0]
    assert verdict.sigma_pct == ovrl.sigma_pct > 5
    assert ovrl.power == pytest.approx(power_to_accept(16, ovrl.sigma_pct, 0.0))
    assert 0.3 < (ovrl.power or 0) < 0.9
    assert verdict.power == pytest.approx(ovrl.power)  # nothing else varies
    assert f"sigma {ovrl.sigma_pct:.1f} %" in verdict.summary
    assert f"power {verdict.power:.2f}" in verdict.summary


def test_scores_of_different_provenance_are_never_compared() -> None:
    ours = ruined(voices(), 24, provenance="a" * 16)
    theirs = ruined(voices(), 24, provenance="b" * 16)
    assert decide(ours, ours, CONFIG).status == "PASS"
    broken = ruined(theirs, 24, dnsmos_ovrl=1.0)
    for candidate in (theirs, voices(), ruined(voices(), 1, provenance="a" * 16), broken):
        verdict = decide(ours, candidate, CONFIG)
        assert (verdict.status, verdict.bounds) == ("UNGATED", ())
        assert "different provenance" in verdict.reasons[0]
    assert "provenances" in " ".join(check_baseline([*ours[:1], *voices()[1:]], CONFIG))


def test_an_unarmed_gate_passes_nothing_and_hides_no_failure() -> None:
    missed = ("5-bit mu-law was accepted.",)
    passed = unarmed(decide(voices(), voices(), CONFIG), missed)
    assert passed.status == "UNARMED"
    assert passed.reasons == ("The gate is not armed on this baseline.", *missed)
    assert passed.summary.startswith("UNARMED: OVRL +0.0 %")
    assert passed.summary.endswith(
        ": The gate is not armed on this baseline; 5-bit mu-law was accepted."
    )
    failed = decide(voices(), changed(voices(), dnsmos_p808=0.9), CONFIG)
    assert unarmed(failed, missed) == failed


def test_one_runaway_cannot_swing_the_word_error_rate() -> None:
    """Its errors count up to its words; the tail says what it was."""
    runaway = ruined(voices(128), 1, wer_errors=400)
    verdict = decide(voices(128), runaway, CONFIG)
    wer, bad = (
        next(b for b in verdict.bounds if b.metric == name) for name in ("wer", "bad_utterances")
    )
    assert (wer.status, bad.status, verdict.status) == ("PASS", "UNDECIDED", "UNDECIDED")


def test_a_fit_baseline_has_nothing_against_it() -> None:
    assert check_baseline(voices(), CONFIG) == []
    assert check_baseline(ruined(voices(), 1, guards=("loop: x",)), CONFIG) == []


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (voices(7), "7 utterances are too few"),
        ([*voices(), voices()[0]], "are called 'p00'"),
        (ruined(voices(), 1, dnsmos_p808=None), "no dnsmos_p808 for 'p00': not measured"),
        (
            ruined(voices(), 1, wer_errors=None, failures={"pesq": "silent", "wer": "timed out"}),
            "no wer_errors for 'p00': timed out",
        ),
        (ruined(voices(), 1, dnsmos_ovrl=math.nan), "no dnsmos_ovrl for 'p00'"),
        (ruined(voices(), 1, wer_errors=None, failures={"wer": "SIGSEGV"}), "'p00': SIGSEGV"),
        (ruined(voices(), 2, guards=("level: -70 dBFS",)), "2 of 24 baseline utterances are bad"),
    ],
)
def test_an_unfit_baseline_is_told_why(scores: list[UtteranceScores], reason: str) -> None:
    assert reason in " ".join(check_baseline(scores, CONFIG))


@pytest.mark.parametrize(
    "values",
    [
        {"mos_budget_pct": 0.0},
        {"mos_budget_pct": math.nan},
        {"confidence": 1.0},
        {"confidence": 0.4},
        {"wer_margin": -0.1},
        {"max_bad_rate": 1.0},
        {"tail_confidence": 1.0},
        {"collapse_pct": 0.0},
        {"heard_wer": -0.1},
        {"catastrophic_min_errors": 0},
        {"min_n": 1},
        {"duration_drift_pct": math.inf},
        {"noise_floor_rise_db": 0.0},
    ],
)
def test_a_vacuous_configuration_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        GateConfig(**values)  # type: ignore[arg-type]
