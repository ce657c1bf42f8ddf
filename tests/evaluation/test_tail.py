from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evaluation.gate import GateConfig, decide
from evaluation.paired_rates import equal_passes, excess_upper
from evaluation.scores import UtteranceScores
from evaluation.statistics import clopper_pearson_lower, clopper_pearson_upper
from evaluation.tail import mended_signs, new_signs, own_signs
from evaluation.tail_bound import passing_counts
from evaluation.verdict import Bound, Verdict
from tests.evaluation.scorecards import CONFIG, ruined, voices

LOOP: dict[str, object] = {"guards": ("loop: 0.93 lag correlation (limit 0.85)",)}
TRUNCATED: dict[str, object] = {"guards": ("truncated: 1 sentences at the token cap",)}
FINE = voices(1)[0]


def bad_bound(verdict: Verdict) -> Bound:
    return next(bound for bound in verdict.bounds if bound.metric == "bad_utterances")


def scattered(scores: list[UtteranceScores], at: list[int], **fields: object):  # noqa: ANN201
    """Replace fields of the utterances at these places."""
    return [
        dataclasses.replace(s, **fields) if i in at else s  # type: ignore[arg-type]
        for i, s in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("fields", "sign"),
    [
        (LOOP, "loop"),
        (TRUNCATED, "truncated"),
        ({"duration_s": 0.5}, "duration_ratio"),
        ({"noise_floor_dbfs": -39.0}, "noise_floor"),
        ({"dnsmos_ovrl": None, "failures": {"dnsmos": "SIGSEGV"}}, "dnsmos failed"),
        ({"wer_errors": None, "failures": {"wer": "deadline"}}, "wer failed"),
        ({"failures": {"guards": "deadline"}}, "guards failed"),
        ({"dnsmos_p808": 1.5}, "collapse"),
        ({"wer_errors": 6}, "wer"),
    ],
)
def test_what_ruins_an_utterance(fields: dict[str, object], sign: str) -> None:
    base = voices(128)
    assert list(new_signs(base[0], ruined(base, 1, **fields)[0], CONFIG)) == [sign]
    verdict = decide(base, ruined(base, 1, **fields), CONFIG)
    assert (verdict.status, bad_bound(verdict).status) == ("UNDECIDED", "UNDECIDED")
    assert "1 of 128 utterances are newly ruined (p00: " in verdict.reasons[-1]


@pytest.mark.parametrize(
    "fields",
    [
        {"duration_s": (FINE.duration_s or 0) * 1.3},
        {"noise_floor_dbfs": -41.0},
        {"dnsmos_ovrl": (FINE.dnsmos_ovrl or 0) * 0.71},
        {"wer_errors": 5},  # one in two is not above one in two
        {"failures": {"pesq": "31 s"}},
    ],
)
def test_what_nearly_does(fields: dict[str, object]) -> None:
    assert new_signs(FINE, dataclasses.replace(FINE, **fields), CONFIG) == {}  # type: ignore[arg-type]


def test_words_are_lost_only_where_the_baseline_is_heard() -> None:
    def said(errors: int, words: int) -> UtteranceScores:
        return dataclasses.replace(FINE, wer_errors=errors, wer_words=words)

    assert list(new_signs(said(2, 10), said(6, 10), CONFIG)) == ["wer"]
    assert new_signs(said(3, 10), said(9, 10), CONFIG) == {}  # a baseline that is not followed
    assert list(new_signs(said(1, 4), said(4, 4), CONFIG)) == ["wer"]
    assert new_signs(said(1, 4), said(3, 4), CONFIG) == {}  # two words more are chance
    assert list(new_signs(said(0, 2), said(2, 2), CONFIG)) == ["wer"]  # all of a short one
    assert new_signs(said(0, 1), said(1, 1), CONFIG) == {}  # one word misheard
    assert list(new_signs(said(0, 1), said(9, 1), CONFIG)) == ["wer"]  # another sentence


def test_a_phrase_heard_once_too_often_is_chance_and_a_loop_is_not() -> None:
    said = ("repeated_words: 'w' 4 times in a row (3)",)
    heard = dataclasses.replace(FINE, guards=said, wer_errors=(FINE.wer_errors or 0) + 1)
    looping = dataclasses.replace(heard, wer_errors=(FINE.wer_errors or 0) + 3)
    assert new_signs(FINE, heard, CONFIG) == {}
    assert list(new_signs(FINE, looping, CONFIG)) == ["repeated_words"]


def test_only_what_is_new_counts_but_another_sign_is_new() -> None:
    base = dataclasses.replace(FINE, **LOOP)  # type: ignore[arg-type]
    assert new_signs(base, base, CONFIG) == {}
    assert list(own_signs(base, CONFIG)) == ["loop"]
    cut = dataclasses.replace(FINE, **TRUNCATED)  # type: ignore[arg-type]
    assert list(new_signs(base, cut, CONFIG)) == ["truncated"]


@pytest.mark.parametrize("metric", ["audio", "guards", "dnsmos", "wer"])
def test_what_failed_on_both_sides_is_not_forgiven(metric: str) -> None:
    failed = dataclasses.replace(FINE, failures={metric: "deadline"})
    assert list(new_signs(failed, failed, CONFIG)) == [f"{metric} failed"]
    base = ruined(voices(128), 1, failures={metric: "deadline"})
    assert decide(base, base, CONFIG).status != "PASS"


def test_where_none_may_be_ruined_the_reason_says_so() -> None:
    config = GateConfig(max_bad_rate=0.0)
    moved = scattered(voices(), [3], **LOOP)  # as many as before, so it is no rise for sure
    verdict = decide(ruined(voices(), 1, **LOOP), moved, config)
    assert verdict.status == "UNDECIDED"
    assert "newly ruined (p03: loop: " in verdict.reasons[0]
    assert verdict.reasons[0].endswith(", and none may be ruined.")


def test_the_bounds_are_those_of_clopper_and_pearson() -> None:
    base = voices(128)
    bound = bad_bound(decide(base, ruined(base, 3, **LOOP), CONFIG))
    assert bound.delta_pct == pytest.approx(300 / 128)
    assert bound.lower_pct == pytest.approx(100 * clopper_pearson_lower(3, 128, 0.95))
    assert bound.upper_pct == pytest.approx(100 * clopper_pearson_upper(3, 128, 0.90))
    assert (bound.baseline_mean, bound.candidate_mean) == (0.0, 3 / 128)


@pytest.mark.parametrize(
    ("n", "k", "status"),
    [
        (24, 0, "PASS"), (24, 1, "UNDECIDED"), (24, 2, "UNDECIDED"), (24, 3, "FAIL"),
        (128, 1, "UNDECIDED"), (128, 5, "UNDECIDED"), (128, 7, "FAIL"),
        (193, 1, "UNDECIDED"), (194, 1, "PASS"), (194, 2, "UNDECIDED"),
    ],
)  # fmt: skip
def test_the_bounds_decide(n: int, k: int, status: str) -> None:
    base = voices(n)
    config = GateConfig(catastrophic_wer=9.0)
    assert bad_bound(decide(base, ruined(base, k, **LOOP), config)).status == status


def test_the_reason_says_how_many_utterances_would_decide() -> None:
    base = voices(128)
    reason = decide(base, ruined(base, 1, **LOOP), CONFIG).reasons[0]
    assert reason == (
        "1 of 128 utterances are newly ruined (p00: loop: 0.93 lag correlation (limit 0.85)), and "
        "up to 3.0 % of all cannot be ruled out (2 % allowed: no more than these in 194 would "
        "pass)."
    )


def test_two_percent_ruined_are_caught_nine_times_in_ten_at_128() -> None:
    """And the mean alone passes: what the tail is for."""
    rng = np.random.default_rng(5)
    base = voices(128)
    caught = mean_passed = 0
    for _ in range(400):
        hit = rng.random(128) < 0.02
        candidate = [
            dataclasses.replace(s, dnsmos_ovrl=0.6 * (s.dnsmos_ovrl or 0)) if h else s
            for s, h in zip(base, hit, strict=True)
        ]
        verdict = decide(base, candidate, CONFIG)
        caught += verdict.status != "PASS"
        mean_passed += verdict.bounds[0].status == "PASS"
    assert caught / 400 >= 0.90
    assert mean_passed / 400 >= 0.98


def test_a_baseline_that_is_mended_elsewhere_earns_credit_for_the_same_sign_only() -> None:
    """Both truncate one in twenty, never the same ones: a wash. Loops instead are not."""
    base, early, late = voices(600), list(range(30)), list(range(30, 60))
    config = GateConfig(max_bad_rate=0.05)
    truncating = scattered(base, early, **TRUNCATED)
    same_rate = decide(truncating, scattered(base, late, **TRUNCATED), config)
    looping = decide(truncating, scattered(base, late, **LOOP), config)
    assert bad_bound(same_rate).status == "PASS"
    assert bad_bound(looping).status == "UNDECIDED"


def test_words_mended_elsewhere_do_not_make_up_for_silence_that_loses_its_words_too() -> None:
    base = voices(200)
    misheard = scattered(base, list(range(8)), wer_errors=7)
    silent = {"guards": ("level: -70 dBFS (above -50 wanted)",), "wer_errors": 10}
    also_misheard = decide(misheard, scattered(base, [100, 101], wer_errors=7), CONFIG)
    silenced = decide(misheard, scattered(base, [100, 101], **silent), CONFIG)
    assert bad_bound(also_misheard).status == "PASS"
    assert bad_bound(silenced).status == "UNDECIDED"


def test_one_that_is_mended_makes_up_for_one_and_for_no_other_kind() -> None:
    base = voices(200)
    two_mended = scattered(base, [3, 4], **LOOP)
    one_mended = scattered(base, [3], **LOOP)
    moved = scattered(base, [100, 101], **LOOP)
    mixed = scattered(scattered(base, [100], **LOOP), [101], **TRUNCATED)
    assert bad_bound(decide(two_mended, moved, CONFIG)).status == "PASS"
    assert bad_bound(decide(one_mended, moved, CONFIG)).status == "UNDECIDED"
    # The loop alone is made up for: a loop that is mended beside it does not pay for the cut.
    assert bad_bound(decide(two_mended, mixed, CONFIG)).status == "UNDECIDED"
    assert "and 1 mended of the same signs" in decide(two_mended, mixed, CONFIG).reasons[0]


def test_what_the_candidate_hears_as_well_is_not_mended() -> None:
    """A name misheard on both sides, by one word more on the baseline's, says nothing."""
    base = voices(200)
    misheard = scattered(base, [3, 4], wer_errors=6)
    barely = scattered(base, [3, 4], wer_errors=5)
    lost = scattered(barely, [100, 101], wer_errors=7)
    assert mended_signs(misheard[3], barely[3], CONFIG) == frozenset()
    assert bad_bound(decide(misheard, lost, CONFIG)).status == "UNDECIDED"


def test_an_early_look_stops_at_a_ruined_utterance_that_the_full_n_cannot_forgive() -> None:
    base = voices(128)
    look = decide(base, ruined(base, 1, **LOOP)[:16], CONFIG, complete=False)
    assert (look.status, look.is_final) == ("UNDECIDED", True)
    patient = voices(200)  # where one of all may be ruined
    look = decide(patient, ruined(patient, 1, **LOOP)[:16], CONFIG, complete=False)
    assert (look.status, look.is_final) == ("UNDECIDED", False)


def test_an_early_look_never_stops_what_the_last_one_would_accept() -> None:
    """Random tails on a flaky baseline: each early stop must be right."""
    rng = np.random.default_rng(11)
    config = GateConfig(max_bad_rate=0.08)
    n_stopped = n_accepted = 0
    for _ in range(150):
        n = int(rng.integers(24, 200))
        base = scattered(voices(n), list(np.flatnonzero(rng.random(n) < 0.05)), **LOOP)
        candidate = scattered(voices(n), list(np.flatnonzero(rng.random(n) < 0.05)), **LOOP)
        look = decide(base, candidate[:16], config, complete=False)
        full = decide(base, candidate, config)
        n_accepted += full.status == "PASS"
        if look.is_final:
            n_stopped += 1
            assert full.status != "PASS"
    assert n_stopped > 3
    assert n_accepted > 3


def test_a_flaky_baseline_lowers_the_power_and_a_sound_one_does_not() -> None:
    sound = voices(128)
    flaky = ruined(sound, 6, **LOOP)
    misheard = ruined(sound, 6, wer_errors=7)
    assert bad_bound(decide(sound, sound, CONFIG)).power == 1.0
    assert bad_bound(decide(misheard, misheard, CONFIG)).power == 1.0
    assert (bad_bound(decide(flaky, flaky, CONFIG)).power or 0) < 0.1


def test_the_power_is_that_of_what_the_pairs_show() -> None:
    """Six of 600 are lost in the baseline alone: an equal candidate loses as many."""
    base = ruined(voices(600), 6, wer_errors=7)
    allowed = passing_counts(600, CONFIG)
    bound = bad_bound(decide(base, voices(600), CONFIG))
    assert bound.power == pytest.approx(equal_passes(allowed, 600, 0.01))
    assert 0.95 < (bound.power or 0) < 1.0


def test_what_passes_is_what_the_bounds_let_pass() -> None:
    allowed = passing_counts(592, CONFIG)
    assert allowed[0] == 7  # as Clopper and Pearson's bound
    for mended, most in enumerate(allowed[:8]):
        assert excess_upper(int(most), min(mended, int(most)), 592, 0.90) <= 0.02
        assert excess_upper(int(most) + 1, mended, 592, 0.90) > 0.02
    assert list(passing_counts(24, CONFIG)) == [0]  # nothing ruined passes at any n
