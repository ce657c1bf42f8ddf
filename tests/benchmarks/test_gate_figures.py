"""The machinery behind the gate's own figures: what they claim of a draw must be so."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gate import confusion, draws, scorefile
from benchmarks.gate.balance import balanced_swaps
from benchmarks.gate.collection import Collection
from benchmarks.gate.configurations import BASELINE, CONFIGURATIONS
from benchmarks.gate.damage import RUINS, blend, ruin
from benchmarks.gate.draws import Pool
from benchmarks.gate.pool import (
    CalibrationError,
    losses_pct,
    strength_for,
    swapped,
    worse_loss_pct,
)
from benchmarks.gate.promises import promises
from evaluation.gate import GateConfig
from evaluation.scores import UtteranceScores
from tests.evaluation.sounds import RATE, voice
from tts.options import Options


def scores(ovrl: float, p808: float, *, name: str = "x", seed: int = 0) -> UtteranceScores:
    drawn = random.Random(seed)
    return UtteranceScores(
        utterance_id=name,
        duration_s=3.0,
        dnsmos_ovrl=ovrl * drawn.uniform(0.95, 1.05),
        dnsmos_p808=p808 * drawn.uniform(0.95, 1.05),
        wer_errors=0,
        wer_words=10,
        noise_floor_dbfs=-60.0,
    )


def side(ovrl: float, p808: float, seed: int, n: int = 60) -> list[UtteranceScores]:
    return [scores(ovrl, p808, name=f"p{i}.0", seed=1000 * seed + i) for i in range(n)]


@pytest.fixture
def pool() -> Pool:
    b = side(3.0, 3.5, 2)
    return Pool(
        header={"voice": "made"},
        a=side(3.0, 3.5, 1),
        b=b,
        levels=[b, side(2.95, 3.3, 3), side(2.5, 3.2, 4)],
        ruined=[replace(item, guards=("level: silent",), dnsmos_ovrl=1.0) for item in b],
        kinds=[tuple(RUINS)[i % len(RUINS)] for i in range(60)],
    )


@pytest.mark.parametrize("loss_pct", [2.0, 5.0, 10.0])
def test_a_draw_has_the_loss_it_claims(pool: Pool, loss_pct: float) -> None:
    rng = np.random.default_rng(0)
    drawn = [draws.draw_damaged(pool, 200, loss_pct, rng) for _ in range(100)]
    baseline = [item for base, _ in drawn for item in base]
    candidate = [item for _, cand in drawn for item in cand]
    assert max(losses_pct(baseline, candidate).values()) == pytest.approx(loss_pct, abs=0.25)


def test_a_loss_that_no_level_reaches_is_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="not between the levels"):
        pool.mixture(40.0)


def test_the_baseline_against_itself_loses_nothing_although_the_seeds_differ(pool: Pool) -> None:
    shifted = replace(pool, b=[replace(item, dnsmos_ovrl=2.7, dnsmos_p808=3.1) for item in pool.b])
    rng = np.random.default_rng(0)
    drawn = [draws.draw_same(shifted, 200, rng) for _ in range(100)]
    baseline = [item for base, _ in drawn for item in base]
    candidate = [item for _, cand in drawn for item in cand]
    assert max(losses_pct(baseline, candidate).values()) == pytest.approx(0.0, abs=0.25)


def test_exactly_the_asked_utterances_are_ruined(pool: Pool) -> None:
    rng = np.random.default_rng(0)
    _, candidate = draws.draw_ruined(pool, 50, ["loop", "silence", "loop"], rng)
    assert sum(bool(item.guards) for item in candidate) == 3
    assert len({item.utterance_id for item in candidate}) == 50


def test_a_judgement_stops_at_the_look_that_settles_it(pool: Pool) -> None:
    baseline = [replace(item, utterance_id=f"{i}") for i, item in enumerate(pool.a)]
    broken = [replace(item, dnsmos_p808=2.0) for item in baseline]
    verdict, spent = draws.judge(baseline, broken, GateConfig())
    assert (verdict.status, spent) == ("FAIL", 8)
    assert draws.judge(baseline, baseline, GateConfig())[1] == 60


def test_scores_that_cannot_be_compared_are_no_rejection(pool: Pool) -> None:
    other = [replace(item, provenance="another judge") for item in pool.a]
    with pytest.raises(ValueError, match="cannot be compared"):
        draws.judge(list(pool.a), other, GateConfig())


def test_five_prompts_without_a_bound_accept_half_of_what_is_at_the_budget(pool: Pool) -> None:
    rate = draws.accepts_by_points(pool, 5.0, 5, draws.MOS, n_draws=4000, seed=0)
    assert 0.3 < rate < 0.7
    assert draws.accepts_by_points(pool, 0.0, 5, draws.MOS, n_draws=4000, seed=0) > 0.9


def test_blend_keeps_silence_silent_and_the_sound_where_it_was() -> None:
    sound = np.concatenate([np.zeros(RATE, np.float32), voice(2.0)])
    assert blend(sound, 0.0) == pytest.approx(sound)
    error = [float(np.square(blend(sound, s) - sound).sum()) for s in (0.1, 0.3, 1.0)]
    assert error == sorted(error)
    damaged = blend(sound, 1.0)
    assert np.abs(damaged[: RATE // 2]).max() < 1e-3 * np.abs(damaged).max()
    lag = int(np.argmax(np.correlate(damaged, sound, "full"))) - (len(sound) - 1)
    assert lag == 0


def test_blend_refuses_a_strength_beyond_its_range() -> None:
    with pytest.raises(ValueError, match="outside"):
        blend(voice(0.5), 1.5)


def test_ruins_are_what_they_say() -> None:
    sound = voice(4.0)
    ruined = {kind: ruin(sound, kind, "p1") for kind in RUINS}
    assert not ruined["silence"].any()
    assert len(ruined["cut_in_half"]) == len(sound) // 2
    assert len(ruined["loop"]) > len(sound)
    assert np.mean(ruined["noise_burst"] != sound) == pytest.approx(0.25, abs=0.01)
    assert np.array_equal(ruined["loop"], ruin(sound, "loop", "p1"))


def test_the_strength_is_read_between_the_points_of_a_curve() -> None:
    curve = [(0.0, 0.5), (0.1, 0.3), (0.2, 4.5), (0.4, 12.5)]
    assert strength_for(2.5, curve) == pytest.approx(0.15)
    with pytest.raises(CalibrationError, match="outside"):
        strength_for(20.0, curve)


def test_the_seeds_are_shared_out_so_that_neither_side_was_luckier() -> None:
    lucky = [replace(s, wer_errors=i % 5 == 0) for i, s in enumerate(side(3.1, 3.5, 1))]
    other = [replace(s, wer_errors=i % 3 == 0) for i, s in enumerate(side(3.0, 3.6, 2))]
    assert worse_loss_pct(lucky, other) > 2
    a, b = swapped(lucky, other, balanced_swaps(lucky, other))
    assert abs(worse_loss_pct(a, b)) < 0.3
    errors = [sum(s.wer_errors or 0 for s in half) for half in (a, b)]
    assert abs(errors[0] - errors[1]) <= 2  # of 600 words
    assert sorted(s.dnsmos_ovrl for s in (*a, *b)) == sorted(  # type: ignore[type-var]
        s.dnsmos_ovrl for s in (*lucky, *other)
    )


def test_what_one_seed_ruined_by_chance_is_shared_out() -> None:
    whole, other = side(3.1, 3.5, 1), side(3.0, 3.6, 2)
    ruined = [replace(s, guards=("loop: 0.99",)) if i < 6 else s for i, s in enumerate(other)]
    a, b = swapped(whole, ruined, balanced_swaps(whole, ruined))
    assert [sum(bool(s.guards) for s in half) for half in (a, b)] == [3, 3]
    assert abs(worse_loss_pct(a, b)) < 0.3


def test_a_score_file_gives_back_what_the_gate_looks_at(tmp_path: Path) -> None:
    given = replace(
        scores(3.123456, 3.5), guards=("loop: 0.99",), failures={"wer": "x"}, transcript="said"
    )
    path = tmp_path / "scores.jsonl.gz"
    scorefile.write(path, {"n": 1}, {"a": [given]})
    header, found = scorefile.read(path)
    assert header == {"n": 1}
    assert found == {"a": [scorefile.as_kept(given)]}
    assert found["a"][0].dnsmos_ovrl == pytest.approx(given.dnsmos_ovrl, abs=1e-4)
    assert found["a"][0].guards == given.guards
    assert found["a"][0].failures == given.failures
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(scorefile.ScoreFileError, match=r"scores\.jsonl\.gz does not read"):
        scorefile.read(path)


def test_a_collection_goes_on_where_it_ended_and_takes_no_other_judges_scores(
    tmp_path: Path,
) -> None:
    path, seconds = tmp_path / "c.jsonl.gz", {"score": 1.0}
    first = Collection(path, {"identity": {"judge": 1}, "same_words": None})
    first.add(BASELINE, side(3.0, 3.5, 1), seconds)
    first.header["refused"]["fp8"] = "no such GPU"
    first.header["failed"]["bf16"] = "a crash"
    first.save()
    again = Collection(path, {"identity": {"judge": 1}, "same_words": None})
    assert set(CONFIGURATIONS) - set(again.missing()) == {BASELINE, "fp8"}
    assert again.scores == first.scores
    with pytest.raises(scorefile.ScoreFileError, match="of another voice, judge or device"):
        Collection(path, {"identity": {"judge": 2}, "same_words": None})


def test_the_confusion_table_tells_good_from_bad() -> None:
    baseline = side(3.0, 3.5, 1) + [
        replace(item, utterance_id=item.utterance_id.replace(".0", ".1"))
        for item in side(3.0, 3.5, 5)
    ]
    bad = [replace(item, dnsmos_p808=0.8 * (item.dnsmos_p808 or 0)) for item in baseline]
    rows = confusion.judge_all(
        {BASELINE: baseline, "good": baseline, "bad": bad}, 40, 5, GateConfig()
    )
    assert {row["name"]: row["truth"] for row in rows} == {"good": "good", "bad": "bad"}
    found = confusion.first_draw(rows)
    assert found["table"]["bad"] == {"PASS": 0, "UNDECIDED": 0, "FAIL": 1}
    assert found["good_accepted"]["share"] == 1.0
    assert found["bad_accepted"]["high"] == pytest.approx(0.975)  # 1 - 0.025 ** (1 / 1)
    over_all = confusion.all_draws(rows)
    assert over_all["table"]["good"]["PASS"] == 5
    assert over_all["mean_spent"] == {"bad": 8.0, "good": 40.0}
    with pytest.raises(ValueError, match="needs as many prompts"):
        confusion.judge_all({BASELINE: baseline, "good": baseline}, 61, 5, GateConfig())


def test_a_promise_is_met_missed_or_within_the_noise() -> None:
    row = {"voice": "v", "n": 128, "n_draws": 400, "ruins": "", "loss_pct": 5.0}
    row |= {"mean_spent": 9.0, "rejected": 0.9}
    outcomes = [promises([row | {"accepted": rate}])[0]["outcome"] for rate in (0.04, 0.06, 0.09)]
    assert outcomes == ["met", "noise", "MISSED"]  # two standard errors are 2.2 points


def test_there_are_two_dozen_configurations_and_no_two_are_the_same() -> None:
    canonical = {
        replace(o, sampling=o.sampling.canonical())
        for o in map(Options.from_mapping, CONFIGURATIONS.values())
    }
    assert len(canonical) == len(CONFIGURATIONS) >= 25
