"""Each guard on audio that trips it and on audio that nearly does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from evaluation.content_guards import length_trips, token_trips, transcript_trips
from evaluation.features import QUIETEST_DBFS, measure_features
from evaluation.guards import (
    Limits,
    RelativeLimits,
    clip_trips,
    floor_rise_db,
    relative_trips,
)
from evaluation.loops import (
    compression_ratio,
    lag_correlation,
    longest_repeat,
    longest_token_repeat,
)
from evaluation.scores import UtteranceScores
from tests.evaluation.sounds import RATE, voice

Samples = npt.NDArray[np.float32]


def names(samples: npt.ArrayLike, n_truncated: int = 0) -> list[str]:
    """Return the names of the guards that a clip trips."""
    features = measure_features(np.asarray(samples, np.float32))
    return [trip.partition(":")[0] for trip in clip_trips(features, n_truncated, Limits())]


def speech(index: int = 0) -> Samples:
    """Return a sentence of the teacher's voice."""
    path = Path(__file__).parent / "speech" / f"rms-{index}.flac"
    sound: Samples = soundfile.read(path, dtype="float32")[0]
    return sound


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_speech_trips_nothing(seed: int) -> None:
    assert names(voice(4.0, seed)) == []


def test_empty_and_not_finite() -> None:
    assert names([]) == ["empty"]
    sound = voice(1.0)
    sound[5] = np.nan
    assert names(sound) == ["finite"]
    sound[5] = -np.inf
    assert names(sound) == ["finite"]


def test_truncation_is_told_beside_the_rest() -> None:
    assert names(voice(), n_truncated=1) == ["truncated"]
    assert names([], n_truncated=1) == ["truncated", "empty"]


@pytest.mark.parametrize(("seconds", "trips"), [(0.24, ["too_short"]), (0.26, []), (0.01, None)])
def test_too_short(seconds: float, trips: list[str] | None) -> None:
    found = names(voice(4.0)[RATE // 16 :][: round(seconds * RATE)])
    assert found == (["too_short"] if trips is None else trips)


@pytest.mark.parametrize(("dbfs", "trips"), [(-51.0, ["level"]), (-49.0, [])])
def test_too_quiet(dbfs: float, trips: list[str]) -> None:
    sound = voice()
    gain = 10 ** ((dbfs - measure_features(sound).active_dbfs) / 20)
    assert names(gain * sound) == trips


def test_digital_silence_is_too_quiet() -> None:
    assert "level" in names(silence(2.0))
    assert measure_features(silence(2.0)).active_dbfs == QUIETEST_DBFS


def hiss(seconds: float, seed: int = 0) -> Samples:
    noise = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return noise.clip(-0.9, 0.9).astype(np.float32)


@pytest.mark.parametrize(("noise_s", "trips"), [(14.0, True), (6.0, False)])
def test_noise_is_not_voice(noise_s: float, trips: bool) -> None:
    """In one piece, so that it is a burst in any case."""
    found = names(np.concatenate([voice(3.0), hiss(noise_s)]))
    assert ("voiced" in found) == trips
    assert "noise_burst" in found


def breath(seconds: float) -> Samples:
    """Return noise that is as loud as speech and falls by 6 dB an octave above 500 Hz."""
    spectrum = np.fft.rfft(hiss(seconds))
    hertz = np.fft.rfftfreq(round(seconds * RATE), 1 / RATE)
    spectrum /= 1 + hertz / 500.0
    shaped = np.fft.irfft(spectrum, round(seconds * RATE))
    return (0.1 * shaped / shaped.std()).astype(np.float32)


@pytest.mark.parametrize(("noise_s", "trips"), [(0.2, ["noise_burst"]), (0.1, [])])
def test_a_burst_of_white_noise(noise_s: float, trips: list[str]) -> None:
    assert names(np.concatenate([voice(3.0, 1), hiss(noise_s), voice(3.0, 2)])) == trips


@pytest.mark.parametrize(("noise_s", "trips"), [(0.8, ["noise_burst"]), (0.5, [])])
def test_a_burst_of_noise_that_is_not_white(noise_s: float, trips: list[str]) -> None:
    assert names(np.concatenate([voice(3.0, 1), breath(noise_s), voice(3.0, 2)])) == trips


@pytest.mark.parametrize(("level", "trips"), [(0.4, ["noise_burst"]), (0.02, [])])
def test_a_burst_of_noise_on_top_of_speech(level: float, trips: list[str]) -> None:
    sound = voice(4.0, 1)
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE // 2)
    sound[RATE : RATE + len(noise)] += (level / 0.1 * noise).astype(np.float32)
    assert [name for name in names(sound.clip(-0.99, 0.99)) if name != "flat_runs"] == trips


@pytest.mark.parametrize(("pause_s", "trips"), [(1.65, ["silence"]), (1.3, [])])
def test_a_hole_in_the_speech(pause_s: float, trips: list[str]) -> None:
    assert names(np.concatenate([voice(2.0, 1), silence(pause_s), voice(2.0, 2)])) == trips


@pytest.mark.parametrize(("tail_s", "trips"), [(1.65, ["edge_silence"]), (1.3, [])])
def test_a_silent_head_or_tail(tail_s: float, trips: list[str]) -> None:
    assert names(np.concatenate([voice(3.0), silence(tail_s)])) == trips
    assert names(np.concatenate([silence(tail_s), voice(3.0)])) == trips


@pytest.mark.parametrize(("share", "trips"), [(0.0015, True), (0.0007, False)])
def test_samples_at_full_scale(share: float, trips: bool) -> None:
    sound = voice()
    places = np.random.default_rng(0).choice(len(sound), round(share * len(sound)), replace=False)
    sound[places] = 1.0
    assert ("clipping" in names(sound)) == trips


@pytest.mark.parametrize(("level", "trips"), [(0.5, ["flat_runs"]), (0.98, [])])
def test_clipping_that_was_scaled_down(level: float, trips: list[str]) -> None:
    sound = voice(peak=0.9)
    assert names(0.5 * np.clip(sound, -0.9 * level, 0.9 * level)) == trips


def test_a_loop_in_the_sound() -> None:
    sound = voice(5.0, 3)
    phrase = sound[RATE : 3 * RATE]
    looped = np.concatenate([sound[: 3 * RATE], phrase, sound[3 * RATE :]])
    assert names(looped) == ["loop"]
    other = voice(2.0, 4)
    assert names(np.concatenate([sound[: 3 * RATE], other, sound[3 * RATE :]])) == []


@pytest.mark.parametrize("tempo", [0.97, 0.98])
def test_a_loop_that_varies_a_little_is_still_one(tempo: float) -> None:
    sound = speech()
    slower = np.interp(np.arange(0, len(sound) - 1, tempo), np.arange(len(sound)), sound)
    noise = 0.002 * np.random.default_rng(0).standard_normal(len(slower))
    assert "loop" in names(np.concatenate([sound, slower + noise]))
    assert lag_correlation(sound) < 0.6


def test_lag_correlation_of_what_cannot_loop_is_zero() -> None:
    assert lag_correlation(voice(1.0)) == 0.0
    assert lag_correlation(silence(4.0)) == 0.0
    assert lag_correlation(np.zeros(0, np.float32)) == 0.0


@pytest.mark.parametrize(
    ("text", "phrase", "times"),
    [
        ("", "", 0),
        ("one two three", "", 1),
        ("no no no", "no", 3),
        ("and then we go then we go then we go home", "then we go", 3),
        ("No no NO", "no", 3),
    ],
)
def test_longest_repeat(text: str, phrase: str, times: int) -> None:
    found = longest_repeat(text)
    assert (found.phrase, found.times) == (phrase, times)


def test_the_longest_stretch_of_tokens_that_comes_again() -> None:
    assert longest_token_repeat([]) == ()
    assert longest_token_repeat([1, 2, 3]) == ()
    assert longest_token_repeat([1, 2, 3, 9, 1, 2, 8]) == (1, 2)
    assert longest_token_repeat([7, 1, 2, 3, 1, 2, 3, 1, 2, 8]) == (1, 2, 3, 1, 2)
    assert longest_token_repeat([5, 5, 5, 5]) == (5, 5, 5)
    random = np.random.default_rng(0).integers(10_000, size=200).tolist()
    assert len(longest_token_repeat(random)) <= 2
    assert longest_token_repeat([*random, *random]) == tuple(random)


PHRASE = list(range(100, 140))


@pytest.mark.parametrize(
    ("tokens", "trips"),
    [
        ([], False),
        (PHRASE, False),
        (PHRASE + PHRASE[:15], False),  # 0.6 s at 25 tokens a second
        (PHRASE + PHRASE[:25], True),
        ([*PHRASE, 1, 2, 3, *PHRASE], True),
        (PHRASE + [7] * 35 + [8], False),  # a pause
        (PHRASE + [7] * 60 + [8], True),  # stuck
        (PHRASE + PHRASE[:25] + [7] * 35 + [8], True),  # a pause that is longer hides no phrase
        (PHRASE + PHRASE[:15] + [7] * 35 + [8], False),
        (PHRASE + PHRASE[:19] + [7] * 60 + [8], True),
        ([7] * 35 + [8] + PHRASE + [7] * 36 + [9], False),  # two pauses
    ],
)
def test_a_loop_in_the_speech_tokens(tokens: list[int], trips: bool) -> None:
    found = token_trips([tokens], len(tokens) / 25, Limits())
    assert [trip.partition(":")[0] for trip in found] == ["token_loop"] * trips


def test_a_sentence_that_stands_twice_in_the_text_is_no_loop() -> None:
    assert token_trips([PHRASE, PHRASE], 2 * len(PHRASE) / 25, Limits()) == ()


@pytest.mark.parametrize(
    ("seconds", "reference", "trips"),
    [
        (3.9, "yes please do", False),  # 3 x (0.5 + 13 x 0.07) = 4.23
        (4.3, "yes please do", True),
        (1.9, "yes", False),
        (2.2, "yes", True),
        (9.0, "$35.50", False),  # "thirty five dollars and fifty cents"
        (20.0, "$35.50", True),
    ],
)
def test_speech_without_end_is_told_without_a_baseline(
    seconds: float, reference: str, trips: bool
) -> None:
    found = length_trips(seconds, reference, Limits())
    assert [trip.partition(":")[0] for trip in found] == ["runaway"] * trips


def test_compression_ratio() -> None:
    assert compression_ratio("") == 0.0
    assert compression_ratio("the quick brown fox jumps over the lazy dog") < 1.2
    assert compression_ratio("and so on " * 20) > 2.4


@pytest.mark.parametrize(
    ("transcript", "reference", "trips"),
    [
        ("we go home", "we go home", []),
        ("we go we go home", "we go home", []),
        ("we go we go we go home", "we go home", ["repeated_words"]),
        ("no no no", "no no no", []),
        ("no no no no", "no no no", ["repeated_words"]),
        ("and so on " * 20, "and so on", ["transcript_loop", "repeated_words"]),
        ("and so on " * 20, "and so on " * 20, []),
        ("", "we go home", []),
    ],
)
def test_a_loop_in_the_words(transcript: str, reference: str, trips: list[str]) -> None:
    found = transcript_trips(transcript, reference, Limits())
    assert [trip.partition(":")[0] for trip in found] == trips


@pytest.mark.parametrize(
    ("fields", "trips"),
    [
        ({"duration_s": 2.0 * 0.69}, ["duration_ratio"]),
        ({"duration_s": 2.0 * 0.71}, []),
        ({"duration_s": 2.0 * 1.39}, []),
        ({"duration_s": 2.0 * 1.41}, ["duration_ratio"]),
        ({"duration_s": 2.0 * 2.99}, ["duration_ratio"]),
        ({"duration_s": 2.0 * 3.01}, ["runaway"]),
        ({"noise_floor_dbfs": -54.5}, []),
        ({"noise_floor_dbfs": -53.5}, ["noise_floor"]),
        ({"noise_floor_dbfs": None}, []),
        ({"duration_s": None}, []),
    ],
)
def test_guards_beside_the_baseline(fields: dict[str, float | None], trips: list[str]) -> None:
    base = UtteranceScores(utterance_id="a", duration_s=2.0, noise_floor_dbfs=-60.0)
    candidate = dataclasses.replace(base, **fields)  # type: ignore[arg-type]
    found = relative_trips(base, candidate, RelativeLimits())
    assert [trip.partition(":")[0] for trip in found] == trips


def test_a_syllable_more_in_a_one_word_prompt_is_no_lost_word() -> None:
    base = UtteranceScores(utterance_id="a", duration_s=0.5)
    longer = dataclasses.replace(base, duration_s=0.75)
    assert relative_trips(base, longer, RelativeLimits()) == ()
    much_longer = dataclasses.replace(base, duration_s=0.85)
    assert len(relative_trips(base, much_longer, RelativeLimits())) == 1


def test_silence_does_not_stand_for_words_that_are_missing() -> None:
    base = UtteranceScores(utterance_id="a", duration_s=2.2, speech_s=2.0)
    padded = dataclasses.replace(base, duration_s=3.3)
    assert relative_trips(base, padded, RelativeLimits()) == ()
    half = dataclasses.replace(base, speech_s=1.0)
    (trip,) = relative_trips(base, half, RelativeLimits())
    assert trip == "duration_ratio: 0.50 of the baseline's (0.7 to 1.4)"
    mute = dataclasses.replace(base, speech_s=0.0)
    assert len(relative_trips(base, mute, RelativeLimits())) == 1


def test_the_extent_of_speech() -> None:
    sound = np.concatenate([silence(0.5), voice(2.0), silence(1.0)])
    assert measure_features(sound).speech_s == pytest.approx(1.95, abs=0.1)  # it begins with 50 ms
    assert measure_features(silence(2.0)).speech_s == 0.0


@pytest.mark.parametrize("snr_db", [20, 30])
def test_hiss_raises_the_noise_floor(snr_db: int) -> None:
    sound = np.concatenate([voice(3.0), silence(0.6), voice(1.0, 2)])
    assert floor_of(with_hiss(sound, snr_db)) > floor_of(sound) + 6


GAINS_DB = (-20.0, -14.0, -6.0, 3.0, 6.0)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("gain_db", GAINS_DB)
def test_a_gain_neither_raises_the_noise_floor_nor_hides_noise(index: int, gain_db: float) -> None:
    sound = speech(index)
    gain = np.float32(10 ** (gain_db / 20))
    assert floor_of(gain * sound) == pytest.approx(floor_of(sound), abs=0.1)
    noisy = with_hiss(sound, 30)
    rise = floor_of(noisy) - floor_of(sound)
    assert rise > 0.2  # these clips hardly pause
    assert floor_of(gain * noisy) - floor_of(sound) == pytest.approx(rise, abs=0.1)


@pytest.mark.parametrize("gain_db", GAINS_DB)
def test_noise_in_the_pauses_is_heard_at_any_level(gain_db: float) -> None:
    """An absolute clamp let -14 dB hide noise at 30 dB below the speech."""
    sound = np.concatenate([speech(), silence(0.8), speech(1)])
    noisy = np.float32(10 ** (gain_db / 20)) * with_hiss(sound, 30)
    base, candidate = (
        UtteranceScores(utterance_id="a", noise_floor_dbfs=floor_of(clip))
        for clip in (sound, noisy)
    )
    assert floor_rise_db(base, candidate) == pytest.approx(13, abs=2)
    assert "noise_floor" in relative_trips(base, candidate, RelativeLimits())[0]


def test_the_noise_floor_of_digital_silence_is_the_quietest() -> None:
    assert floor_of(silence(2.0)) == QUIETEST_DBFS
    assert floor_of(np.concatenate([silence(2.0), voice(1.0)])) == QUIETEST_DBFS


def test_a_rise_needs_two_floors() -> None:
    base = UtteranceScores(utterance_id="a", noise_floor_dbfs=-60.0)
    with pytest.raises(ValueError, match="'b' has no noise floor"):
        floor_rise_db(base, UtteranceScores(utterance_id="b"))


def floor_of(sound: Samples) -> float:
    return measure_features(sound).noise_floor_dbfs


def with_hiss(sound: Samples, snr_db: float) -> Samples:
    rms = float(np.sqrt(np.mean(sound**2)))
    noise = rms * 10 ** (-snr_db / 20) * np.random.default_rng(0).standard_normal(len(sound))
    return (sound + noise).astype(np.float32)
