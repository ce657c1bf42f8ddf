"""DNSMOS: the official score to the fifth place, and the robust one that the gate rests on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from evaluation.errors import MetricError
from evaluation.metrics.base import MetricSettings, Subject
from evaluation.metrics.dnsmos import Dnsmos
from evaluation.metrics.onnx_weights import read_constants
from evaluation.metrics.windows import (
    HOP,
    N_PHASES,
    WINDOW,
    active_level,
    even_windows,
    levelled,
    official_windows,
)
from evaluation.scores import Clip
from tests.evaluation.sounds import RATE, voice

Samples = npt.NDArray[np.float32]
SPEECH = Path(__file__).parent / "speech"


@pytest.fixture(scope="module")
def dnsmos() -> Dnsmos:
    return Dnsmos(MetricSettings(asr="none"))


def speech(seconds: float) -> Samples:
    """Return so much of the teacher's voice, sentence after sentence."""
    sentences = [soundfile.read(path, dtype="float32")[0] for path in sorted(SPEECH.glob("*.flac"))]
    sound: Samples = np.concatenate(sentences)
    return sound[: round(seconds * RATE)]


@pytest.mark.parametrize(("seconds", "n_windows"), [(2.7517, 2), (2.76, 2), (11.4, 2), (9.5, 1)])
def test_the_official_score_is_that_of_speechmos(
    dnsmos: Dnsmos, seconds: float, n_windows: int
) -> None:
    from speechmos import dnsmos as official

    sound = speech(seconds)
    assert len(official_windows(sound)[1]) == n_windows
    theirs = official.run(sound, RATE)
    ours = dnsmos.official(sound)
    assert set(ours) == {"ovrl", "p808", "sig", "bak"}
    for name in ours:
        assert ours[name] == pytest.approx(theirs[f"{name}_mos"], abs=1e-5)


@pytest.mark.parametrize("seconds", [4.003, 10.9])
def test_the_robust_score_is_the_official_networks_over_even_windows(
    dnsmos: Dnsmos, seconds: float
) -> None:
    """Held against speechmos too: each window by itself is one that it scores officially."""
    from speechmos import dnsmos as official

    looped, starts = even_windows(levelled(speech(seconds)))
    windows = [looped[start : start + WINDOW] for start in starts]
    assert max(float(np.abs(window).max()) for window in windows) <= 1  # or speechmos would raise
    theirs = [official.run(window, RATE) for window in windows]
    for name, ours in dnsmos.score(speech(seconds)).items():
        heard = theirs if name == "p808" else theirs[::2]
        mean = float(np.mean([each[f"{name}_mos"] for each in heard]))
        assert ours == pytest.approx(mean, abs=1e-5)


def test_the_metric_gives_the_robust_score(dnsmos: Dnsmos) -> None:
    sound = speech(3.0)
    clip = Clip(utterance_id="a", wav_path=Path("a.wav"), reference="any")
    expected = {f"dnsmos_{name}": value for name, value in dnsmos.score(sound).items()}
    assert dnsmos(Subject(clip=clip, samples=sound)) == expected


@pytest.mark.parametrize("gain_db", [-30.0, -6.0, 2.0])
def test_a_gain_alone_changes_nothing_but_the_rounding(dnsmos: Dnsmos, gain_db: float) -> None:
    sound = speech(4.0)
    louder = (10 ** (gain_db / 20) * sound.astype(np.float64)).astype(np.float32)
    before, after = dnsmos.score(sound), dnsmos.score(louder)
    for name in before:
        assert after[name] == pytest.approx(before[name], abs=1e-5)


def test_the_official_score_moves_with_a_gain(dnsmos: Dnsmos) -> None:
    """Or nobody would need the robust one."""
    sound = speech(2.0)
    assert abs(dnsmos.official(0.1 * sound)["ovrl"] - dnsmos.official(sound)["ovrl"]) > 0.1


def test_noise_in_the_tail_is_heard_where_the_official_score_is_deaf(dnsmos: Dnsmos) -> None:
    sound = speech(10.9)
    noisy = sound.copy()
    burst = 0.2 * np.random.default_rng(0).standard_normal(RATE)
    noisy[-RATE:] = np.clip(noisy[-RATE:] + burst, -1, 1)
    assert dnsmos.official(noisy) == dnsmos.official(sound)
    for name, loss in (("ovrl", 0.2), ("p808", 0.1)):
        assert dnsmos.score(noisy)[name] < dnsmos.score(sound)[name] - loss


@pytest.mark.parametrize("n_samples", [4000, 64_000, WINDOW - 1, WINDOW, WINDOW + 1, 174_400])
def test_every_sample_is_looked_at_as_often_as_any_other(n_samples: int) -> None:
    sound = np.arange(1, n_samples + 1, dtype=np.float32)
    looped, starts = even_windows(sound)
    assert all(start % HOP == 0 for start in starts)
    for phases in (starts, starts[::2]):
        seen = np.zeros(n_samples)
        for start in phases:
            window = looped[start : start + WINDOW]
            places = np.arange(start, start + WINDOW) % n_samples
            np.testing.assert_array_equal(window, sound[places])
            np.add.at(seen, places, 1)
        assert seen.min() >= N_PHASES
        assert seen.max() - seen.min() <= len(phases)


def test_the_level_is_that_of_what_is_said() -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE).astype(np.float32)
    assert active_level(tone) == pytest.approx(1 / np.sqrt(2), rel=1e-3)
    paused = np.concatenate([tone, np.zeros(RATE, np.float32), tone])
    assert active_level(paused) == pytest.approx(active_level(tone), rel=0.02)
    assert 20 * np.log10(active_level(levelled(0.01 * tone))) == pytest.approx(-26.0, abs=1e-3)
    click = np.zeros(RATE, np.float32)
    click[5000] = 0.5
    assert active_level(levelled(click)) == pytest.approx(10 ** (-26 / 20), rel=1e-3)


def test_dnsmos_is_deterministic_and_tells_damage(dnsmos: Dnsmos) -> None:
    sound = speech(9.1)
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(sound))
    clean = dnsmos.score(sound)
    assert dnsmos.score(sound) == clean
    assert dnsmos.score((sound + noise).clip(-1, 1).astype(np.float32))["bak"] < clean["bak"]


UNFIT: list[tuple[npt.ArrayLike, str]] = [
    ([], "too short"),
    (np.zeros(3999), "too short"),
    (np.zeros((2, 8000)), "one channel"),
    (np.full(8000, np.nan), "NaN"),
    (np.full(8000, 1.01), r"\[-1, 1\]"),
]


@pytest.mark.parametrize(("samples", "reason"), UNFIT)
def test_what_would_hang_or_mislead_it_is_refused(
    dnsmos: Dnsmos, samples: npt.ArrayLike, reason: str
) -> None:
    for score in (dnsmos.score, dnsmos.official):
        with pytest.raises(MetricError, match=reason):
            score(np.asarray(samples, np.float32))


def test_digital_silence_is_refused_although_officially_it_scores_well(dnsmos: Dnsmos) -> None:
    silence = np.zeros(2 * RATE, np.float32)
    assert dnsmos.official(silence)["bak"] > 3
    with pytest.raises(MetricError, match="digital silence"):
        dnsmos.score(silence)


def test_the_shortest_clip_is_scored(dnsmos: Dnsmos) -> None:
    assert all(1 <= value <= 5 for value in dnsmos.score(voice(0.25)).values())


def test_dnsmos_names_the_networks_and_the_method_it_used(dnsmos: Dnsmos) -> None:
    found = dnsmos.provenance()
    assert len(found["dnsmos.p835_onnx_sha256"]) == len(hashlib.sha256().hexdigest())
    assert {"speechmos", "onnxruntime", "librosa", "dnsmos.p808_onnx_sha256"} < set(found)
    assert found["dnsmos.method"] == "level -26 dBFS, 3 and 6 phases, whole clip"


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_a_network_that_cannot_be_read_is_named(
    dnsmos: Dnsmos, tmp_path: Path, damage: str
) -> None:
    whole = dnsmos._paths["p835"].read_bytes()
    content = {"text": b"not a network", "cut": whole[: len(whole) // 2], "empty": b""}[damage]
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    with pytest.raises(MetricError, match=r"network\.onnx: not an ONNX network"):
        read_constants(path)
