"""A gate is armed only when it tells good from bad, and says what it missed otherwise."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluation.arming import Arming, arm
from evaluation.canaries import CANARIES, select
from evaluation.judge import Judge
from evaluation.scores import Clip, UtteranceScores
from evaluation.statistics import required_n
from evaluation.verdict import GateConfig
from tests.evaluation.ears import UNSEEN, Ears
from tests.evaluation.sounds import voice, write

SPEECH = Path(__file__).parent / "speech"
N = 16
DAMAGES = tuple(canary.name for canary in CANARIES if not canary.harmless)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("baseline")
    return [
        Clip(
            utterance_id=f"u{i}", reference="say la",
            wav_path=write(folder / f"{i}.wav", voice(2.0, seed=i)),
        )
        for i in range(N)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def baseline(clips: list[Clip]) -> list[UtteranceScores]:
    ears = Ears()
    return ears.score(clips)


def try_out(
    clips: Sequence[Clip], baseline: Sequence[UtteranceScores], ears: Ears, **how: object
) -> Arming:
    # Every look at the clock costs a second.
    ticks = itertools.count(100.0)
    again = how.pop("again", baseline)
    config = how.pop("config", GateConfig())
    return arm(clips, baseline, again, ears, config, clock=lambda: next(ticks), **how)  # type: ignore[arg-type]


def test_a_gate_that_tells_good_from_bad_is_armed(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    ears = Ears()
    found = try_out(clips, baseline, ears)
    assert (found.armed, found.missed) == (True, ())
    assert found.again is not None
    assert found.again.status == "PASS"
    said = {canary.name: (canary.status, canary.n) for canary in found.canaries}
    assert said.pop("gain_down") == said.pop("gain_up") == ("PASS", N)
    assert set(said) == set(DAMAGES)
    reasons = {canary.name: canary.reason for canary in found.canaries}
    assert "newly ruined (u0: edge_silence" in reasons["silent_tail"]
    assert reasons["low_pass"].startswith("OVRL loses")
    # One ruined utterance of eight is more than sixteen of them could ever make up for.
    assert said.pop("tail") == ("UNDECIDED", 8)
    assert set(said.values()) == {("FAIL", 8)}
    assert (found.n, found.seconds) == (N, 1.0)
    assert "10 kinds of damage and accepts 2 harmless" in found.summary
    # What the guards reject is not asked of the networks; what is left costs one look.
    assert ("silent_tail", "all") not in ears.asked
    assert [a for a in ears.asked if a[0] == "low_pass"] == 8 * [("low_pass", "guards")] + 8 * [
        ("low_pass", "all")
    ]
    assert found.n_judged == sum(metrics == "all" for _, metrics in ears.asked)


def test_it_says_what_the_final_judgement_needs(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    again = list(baseline)
    again[3] = dataclasses.replace(again[3], guards=("loop: x",))
    allowed, canaries = GateConfig(max_bad_rate=0.3), select(["mu_law"])
    found = try_out(clips, baseline, Ears(), again=again, config=allowed, canaries=canaries)
    assert found.plan is not None
    assert (found.plan.n_pairs, found.plan.n_alone) == (N, 1)
    assert found.armed
    own = "1 of 16 pairs are ruined on one hearing alone (up to 22.2 % cannot be ruled out)"
    assert f"; {own}: accepting that loss 95 times in 100 takes n={found.plan.n}" in found.summary
    enough = dataclasses.replace(found, n_final=found.plan.n)
    assert f"; {own}" in enough.summary
    assert "times in 100" not in enough.summary
    alone = try_out(clips, baseline, Ears(), again=None, canaries=select(["mu_law"]))
    assert alone.plan is None
    assert "on one hearing alone" not in alone.summary


def test_an_arming_reads_back_from_json(clips: list[Clip], baseline: list[UtteranceScores]) -> None:
    found = try_out(clips, baseline, Ears(deaf_to=["low_pass"]), canaries=select(["low_pass"]))
    assert Arming.from_mapping(json.loads(json.dumps(found.to_mapping()))) == found
    alone = try_out(clips, baseline, Ears(), again=None, canaries=select(["mu_law"]))
    assert Arming.from_mapping(json.loads(json.dumps(alone.to_mapping()))) == alone


def test_the_audio_of_the_canaries_is_removed(
    clips: list[Clip], baseline: list[UtteranceScores], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ears = Ears()
    try_out(clips, baseline, ears)
    assert ears.places
    assert all(place.parent == tmp_path for place in ears.places)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", UNSEEN)
def test_a_gate_that_is_deaf_to_damage_is_unarmed_and_says_so(
    clips: list[Clip], baseline: list[UtteranceScores], name: str
) -> None:
    found = try_out(clips, baseline, Ears(deaf_to=[name]))
    (canary,) = select([name])
    assert not found.armed
    assert found.missed == (f"It accepts {canary.what} (n=16).",)
    assert found.summary == f"the gate is UNARMED: It accepts {canary.what} (n=16)."


def test_a_gate_that_takes_a_gain_for_damage_is_unarmed(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    found = try_out(clips, baseline, Ears(touchy=["gain_down"]))
    (missed,) = found.missed
    assert missed.startswith("It does not accept a gain of -6 dB (FAIL, n=8): OVRL loses 26")


def test_damage_that_cannot_be_judged_is_missed(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    class Silent(Ears):
        def one(self, clip: Clip, metrics: Sequence[str] | None) -> UtteranceScores:
            found = super().one(clip, metrics)
            return dataclasses.replace(found, dnsmos_ovrl=None)

    found = try_out(clips, baseline, Silent(deaf_to=UNSEEN), canaries=select(["reversed"]))
    (missed,) = found.missed
    assert missed.startswith("It cannot judge speech played backwards (UNGATED, n=16)")


@pytest.mark.parametrize("metric", ["wer", "guards", "audio"])
def test_a_metric_that_fails_on_every_copy_proves_no_damage(
    clips: list[Clip], baseline: list[UtteranceScores], metric: str
) -> None:
    class Dead(Ears):
        def one(self, clip: Clip, metrics: Sequence[str] | None) -> UtteranceScores:
            found = super().one(clip, metrics)
            lost = {"wer": ("wer_errors",), "audio": ("duration_s",)}.get(metric, ())
            failures = {metric: "it crashed"}
            return dataclasses.replace(found, failures=failures, **dict.fromkeys(lost))  # type: ignore[arg-type]

    ears = Dead(deaf_to=["reversed"])
    found = try_out(clips, baseline, ears, canaries=select(["reversed", "low_pass"]))
    said = {canary.name: canary for canary in found.canaries}
    # What the others hear counts as ever.
    assert (said["low_pass"].status, said["low_pass"].is_right) == ("FAIL", True)
    assert (said["reversed"].is_right, said["reversed"].failures) == (False, {metric: N})
    (missed,) = found.missed
    assert missed == (
        f"It cannot judge speech played backwards: {metric} failed on 16 of 16 utterances, which "
        "proves no damage (what is left accepts it)."
    )


@pytest.mark.parametrize("names", [(), ("gain_up",)])
def test_a_gate_that_turns_nothing_down_is_not_armed_by_that(
    clips: list[Clip], baseline: list[UtteranceScores], names: tuple[str, ...]
) -> None:
    chosen = tuple(canary for canary in CANARIES if canary.name in names)
    with pytest.raises(ValueError, match="without a damaging canary nothing is tested"):
        try_out(clips, baseline, Ears(), canaries=chosen)


def test_a_gain_on_a_voice_at_full_scale_is_not_counted(tmp_path: Path) -> None:
    loud = [
        Clip(
            utterance_id=f"u{i}", reference="say la",
            wav_path=write(tmp_path / f"{i}.wav", voice(2.0, seed=i, peak=0.999)),
        )
        for i in range(8)
    ]  # fmt: skip
    ears = Ears()
    chosen = select(["mu_law", "gain_down", "gain_up"])
    found = try_out(loud, ears.score(loud), ears, canaries=chosen)
    assert found.missed == ()
    assert {c.name: c.is_moot for c in found.canaries} == {
        "mu_law": False, "gain_down": False, "gain_up": True,
    }  # fmt: skip
    assert "accepts 1 harmless changes" in found.summary
    assert found.summary.endswith("; not tried, for it changes nothing here: a gain of +3 dB")


def test_a_harmless_copy_may_pass_on_fewer_utterances(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    found = try_out(clips, baseline, Ears(), harmless_n=8)
    assert found.armed
    assert [c.n for c in found.canaries if c.harmless] == [8, 8]


def test_what_an_early_pass_left_out_must_pass_the_guards(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    class Late(Ears):
        def one(self, clip: Clip, metrics: Sequence[str] | None) -> UtteranceScores:
            found = super().one(clip, metrics)
            is_last = clip.utterance_id == f"gain_down/u{N - 1}"
            return dataclasses.replace(found, guards=("clipping: x",)) if is_last else found

    ears = Late()
    found = try_out(clips, baseline, ears, harmless_n=8)
    (missed,) = found.missed
    assert missed.startswith("It does not accept a gain of -6 dB (UNDECIDED, n=16): 1 of 16 ")
    assert "newly ruined (u15: clipping: x)" in missed
    # The networks and the recogniser are asked no more often than before.
    assert sum(a == ("gain_down", "all") for a in ears.asked) == 8
    assert sum(a == ("gain_down", "guards") for a in ears.asked) == N - 8


def test_a_baseline_that_is_worse_the_second_time_is_unarmed(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    worse = [dataclasses.replace(s, dnsmos_p808=2.0) for s in baseline]
    found = try_out(clips, baseline, Ears(), again=worse, canaries=select(["mu_law"]))
    (missed,) = found.missed
    assert missed.startswith("The baseline heard again is rejected (n=16): P808 loses 40")
    assert "It takes" not in missed


def test_a_baseline_of_too_wide_a_spread_is_told_what_would_do(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    # Alternately 0.8 better and worse than 3.2 or so: a sigma of about 26 %.
    again = [
        dataclasses.replace(s, dnsmos_ovrl=(s.dnsmos_ovrl or 0) + (0.8 if i % 2 else -0.8))
        for i, s in enumerate(baseline)
    ]
    found = try_out(clips, baseline, Ears(), again=again, canaries=select(["mu_law"]))
    (missed,) = found.missed
    sigma = found.sigma_pct["dnsmos_ovrl"]
    assert sigma == pytest.approx(27, abs=1)
    assert found.n_small_loss == required_n(sigma, 2.0)
    # Half the time the mean is above zero: the n advised is for 95 of a hundred.
    assert missed.startswith("The baseline heard again cannot be told from a worse one (n=16): ")
    n = required_n(sigma, 0.0, power=0.95)
    assert found.again is not None
    lower = next(b.lower_pct for b in found.again.bounds if b.metric == "dnsmos_ovrl")
    assert missed.endswith(f"It takes about n={n}, or a gate with mos_budget_pct 12.")
    assert -12 < lower < -11.9
    wider = GateConfig(mos_budget_pct=float(missed.rpartition(" ")[2].rstrip(".")))
    again_armed = try_out(
        clips, baseline, Ears(), again=again, config=wider, canaries=select(["mu_law"])
    )
    assert again_armed.armed


def test_no_n_is_advised_when_more_utterances_need_not_settle_it(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    spread = [
        dataclasses.replace(s, dnsmos_ovrl=(s.dnsmos_ovrl or 0) + (0.8 if i % 2 else -0.8))
        for i, s in enumerate(baseline)
    ]
    spread[3] = dataclasses.replace(spread[3], guards=("loop: x",))
    found = try_out(clips, baseline, Ears(), again=spread, canaries=select(["mu_law"]))
    (missed,) = found.missed
    assert "n=" not in missed.partition(" It takes ")[2]
    assert " It takes a gate with mos_budget_pct 12, max_bad_rate 0." in missed
    setting = {k: float(v) for k, v in re.findall(r"(\w+_\w+) ([\d.]+\d)", missed)}
    wider = GateConfig(**setting)  # type: ignore[arg-type]
    armed = try_out(
        clips, baseline, Ears(), again=spread, config=wider, canaries=select(["mu_law"])
    )
    assert armed.armed


def test_a_noise_floor_that_wanders_is_told_what_would_do(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    again = [
        dataclasses.replace(s, noise_floor_dbfs=(s.noise_floor_dbfs or 0) + (9 if i % 2 else -8))
        for i, s in enumerate(baseline)
    ]
    found = try_out(clips, baseline, Ears(), again=again, canaries=select(["mu_law"]))
    (missed,) = found.missed
    assert found.again is not None
    floor = next(b for b in found.again.bounds if b.metric == "noise_floor_dbfs")
    n = required_n(floor.sigma_pct, 0.0, budget_pct=3.0, power=0.95)
    assert n > N
    assert f" It takes about n={n}, or a gate with noise_floor_rise_db " in missed
    wider = GateConfig(noise_floor_rise_db=float(missed.rpartition(" ")[2].rstrip(".")))
    armed = try_out(clips, baseline, Ears(), again=again, config=wider, canaries=select(["mu_law"]))
    assert armed.armed


def test_a_gate_that_allows_no_small_loss_needs_no_n_for_it(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    strict = GateConfig(mos_budget_pct=2.0)
    found = try_out(clips, baseline, Ears(), config=strict, canaries=select(["mu_law"]))
    assert found.n_small_loss is None


def test_a_recogniser_that_cannot_follow_the_voice_is_named(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    lost = [dataclasses.replace(s, wer_errors=9) for s in baseline]  # of 8 words
    found = try_out(clips, lost, Ears(deaf_to=["low_pass"]), canaries=select(["low_pass"]))
    assert found.missed[-1].startswith(
        "The recogniser gets 100 % of the baseline's own words wrong"
    )
    armed = try_out(clips, lost, Ears(), canaries=select(["low_pass"]))
    assert (armed.armed, armed.missed) == (True, ())


def curated(text: str) -> str:
    return " ".join(text.replace(",", "").replace(".", "").split())


@pytest.mark.slow
def test_the_real_judge_arms_on_real_speech() -> None:
    texts = json.loads((SPEECH / "sentences.json").read_text(encoding="utf-8"))
    spoken = [
        Clip(utterance_id=name, wav_path=SPEECH / name, reference=curated(text))
        for name, text in texts.items()
    ]
    chosen = select(["low_pass", "silent_tail", "reversed", "gain_down"])
    with Judge("embedded") as judge:
        scores = judge.score(spoken)
        found = arm(spoken, scores, scores, judge, GateConfig(min_n=4), canaries=chosen)
    assert found.missed == ()
    said = {canary.name: canary.status for canary in found.canaries}
    assert said["silent_tail"] == "FAIL"
    assert said["gain_down"] == "PASS"
    assert found.n_judged == 3 * len(spoken)


def test_no_canary_is_turned_down_on_fewer_than_min_n(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    for min_n in (2, 12):
        found = arm(clips, baseline, baseline, Ears(), GateConfig(min_n=min_n))
        turned_down = [canary for canary in found.canaries if canary.status == "FAIL"]
        assert turned_down
        assert min(canary.n for canary in turned_down) == max(8, min_n)


def test_clips_and_scores_must_be_of_the_same_utterances(
    clips: list[Clip], baseline: list[UtteranceScores]
) -> None:
    with pytest.raises(ValueError, match="not of the same utterances"):
        try_out(clips[1:], baseline, Ears())
    with pytest.raises(ValueError, match="at least one utterance"):
        try_out([], [], Ears())
