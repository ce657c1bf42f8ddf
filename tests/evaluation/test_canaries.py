"""What each canary does to sound, worked out by hand, and what the guards say to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.audio import Samples
from evaluation.canaries import CANARIES, NAMES, Canary, select
from evaluation.guards import floor_rise_db
from evaluation.metrics.base import MetricSettings, Subject
from evaluation.metrics.guards import GuardMetric
from evaluation.scores import Clip, UtteranceScores
from evaluation.tail import new_signs
from evaluation.verdict import GateConfig
from tests.evaluation.sounds import RATE, voice

GUARDS = GuardMetric(MetricSettings(asr="none"))
BY_NAME = {canary.name: canary for canary in CANARIES}


def changed(name: str, samples: Samples, utterance_id: str = "u0") -> Samples:
    return BY_NAME[name].apply(samples, utterance_id)


def tone(hertz: float, seconds: float = 1.0) -> Samples:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def level_db(samples: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def scored(samples: Samples) -> UtteranceScores:
    """Return what the guards measure on a clip."""
    clip = Clip(utterance_id="u0", wav_path=Path("none.wav"), reference="la")
    values: dict[str, Any] = dict(GUARDS(Subject(clip=clip, samples=samples)))
    return UtteranceScores(utterance_id="u0", duration_s=len(samples) / RATE, **values)


def trips(samples: Samples, baseline: Samples) -> set[str]:
    """Return the names of the guards that a clip trips, beside the baseline's and by itself."""
    return set(new_signs(scored(baseline), scored(samples), GateConfig()))


@pytest.mark.parametrize("canary", CANARIES, ids=NAMES)
def test_a_canary_depends_on_the_utterance_alone(canary: Canary) -> None:
    sound = voice(3.0)
    kept = sound.copy()
    once, again, other = (canary.apply(sound, name) for name in ("a", "a", "b"))
    assert once.dtype == np.float32
    assert np.isfinite(once).all()
    assert np.array_equal(once, again)
    assert np.array_equal(sound, kept)
    assert not np.array_equal(once, sound)
    is_random = canary.name in ("noise_20db", "noise_30db", "loop", "tail")
    assert np.array_equal(once, other) is not is_random


@pytest.mark.parametrize("canary", CANARIES, ids=NAMES)
@pytest.mark.parametrize("sound", [voice(0.4), np.zeros(4000, np.float32)], ids=["word", "silence"])
def test_a_canary_takes_what_a_voice_may_say(canary: Canary, sound: Samples) -> None:
    assert np.isfinite(canary.apply(sound, "a")).all()


def test_low_pass_keeps_1_khz_and_takes_6_khz() -> None:
    low, high = tone(1_000.0), tone(6_000.0)
    assert level_db(changed("low_pass", low)) == pytest.approx(level_db(low), abs=0.1)
    assert level_db(changed("low_pass", high)) < level_db(high) - 30


def test_mu_law_leaves_32_levels() -> None:
    assert len(np.unique(changed("mu_law", np.linspace(-1, 1, 9_999, dtype=np.float32)))) == 32


def test_clipping_keeps_the_level_and_shows_nothing_at_full_scale() -> None:
    sound = voice(3.0)
    clipped = changed("clipping", sound)
    assert level_db(clipped) == pytest.approx(level_db(sound), abs=1e-3)
    assert np.abs(clipped).max() < np.abs(sound).max()
    assert trips(clipped, sound) == {"flat_runs"}


@pytest.mark.parametrize("snr_db", [20, 30])
def test_noise_has_its_signal_to_noise_ratio(snr_db: int) -> None:
    sound = voice(3.0)
    added = changed(f"noise_{snr_db}db", sound) - sound
    assert level_db(sound) - level_db(added) == pytest.approx(snr_db, abs=0.1)
    rise = floor_rise_db(scored(sound), scored(sound + added))
    assert rise > GateConfig().noise_floor_rise_db


def test_truncation_keeps_two_thirds() -> None:
    sound = voice(3.0)
    assert np.array_equal(changed("truncation", sound), sound[: 2 * RATE])
    assert trips(changed("truncation", sound), sound) == {"duration_ratio"}


def test_a_loop_says_0_8_s_three_times_more() -> None:
    sound = voice(4.0)
    looped = changed("loop", sound)
    assert len(looped) == len(sound) + 3 * 0.8 * RATE
    assert trips(looped, sound) >= {"loop", "duration_ratio"}


def test_a_silent_tail_is_2_5_s_of_nothing() -> None:
    sound = voice(3.0)
    tailed = changed("silent_tail", sound)
    assert np.array_equal(tailed[: len(sound)], sound)
    assert not tailed[len(sound) :].any()
    assert len(tailed) == 5.5 * RATE
    assert trips(tailed, sound) >= {"edge_silence"}


def test_backwards_trips_no_guard_so_the_words_must_tell() -> None:
    sound = voice(3.0)
    assert np.array_equal(changed("reversed", sound)[::-1], sound)
    assert trips(changed("reversed", sound), sound) == set()


def test_the_tail_ruins_every_eighth_utterance_one_way_or_another() -> None:
    touched = [i for i in range(24) if BY_NAME["tail"].touches(i)]
    assert touched == [0, 8, 16]
    sound = voice(3.0)
    ruined = [changed("tail", sound, f"u{i}") for i in range(12)]
    assert {len(samples) < len(sound) for samples in ruined} == {True, False}
    assert all(trips(samples, sound) & {"duration_ratio", "loop"} for samples in ruined)


@pytest.mark.parametrize(("name", "decibels"), [("gain_down", -6.0), ("gain_up", 3.0)])
def test_gain_changes_the_level_and_nothing_else(name: str, decibels: float) -> None:
    sound = voice(3.0)
    louder = changed(name, sound)
    assert level_db(louder) - level_db(sound) == pytest.approx(decibels, abs=1e-3)
    assert trips(louder, sound) == set()


def test_gain_never_clips() -> None:
    loud = voice(3.0, peak=0.9)
    assert np.abs(changed("gain_up", loud)).max() == pytest.approx(0.99)
    full = voice(3.0, peak=1.0)
    assert np.array_equal(changed("gain_up", full), full)


def test_canaries_are_chosen_by_name() -> None:
    assert select(["all"]) == CANARIES
    assert [c.name for c in select(["gain_up", "mu_law"])] == ["mu_law", "gain_up"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["mulaw"], "there is no canary 'mulaw'; choose from low_pass, mu_law"),
        (["gain_up"], "without a damaging canary nothing is tested"),
        ([], "without a damaging canary nothing is tested"),
    ],
)
def test_a_choice_that_tests_nothing_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(names)
