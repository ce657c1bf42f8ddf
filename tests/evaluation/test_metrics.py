from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from evaluation import asr
from evaluation.errors import AudioError, MetricError
from evaluation.metrics import registry
from evaluation.metrics.base import Metric, MetricSettings, Subject
from evaluation.metrics.guards import GuardMetric
from evaluation.metrics.pesq import TeacherForcedPesq, are_aligned
from evaluation.metrics.wer import WordErrors, count_word_errors
from evaluation.prompts import load_prompts
from evaluation.scores import Clip, UtteranceScores
from tests.evaluation.sounds import RATE, voice, write

SETTINGS = MetricSettings(asr="none")
SPEECH = Path(__file__).parent / "speech"
PROMPTS = Path(__file__).parents[2] / "configs" / "prompts" / "english.tsv"


def speech() -> npt.NDArray[np.float32]:
    """Return a sentence of the teacher's voice."""
    sound: npt.NDArray[np.float32] = soundfile.read(SPEECH / "rms-0.flac", dtype="float32")[0]
    return sound


def subject(samples: npt.ArrayLike, **fields: object) -> Subject:
    clip = Clip(utterance_id="a", wav_path=Path("a.wav"), **{"reference": "two cats", **fields})  # type: ignore[arg-type]
    return Subject(clip=clip, samples=np.asarray(samples, np.float32))


@pytest.fixture
def pesq() -> TeacherForcedPesq:
    return TeacherForcedPesq(SETTINGS)


def test_pesq_of_equals_is_the_top_of_the_scale(pesq: TeacherForcedPesq) -> None:
    assert pesq.score(voice(3.0), voice(3.0)) == pytest.approx(4.6439, abs=1e-3)


def test_pesq_falls_with_damage(pesq: TeacherForcedPesq) -> None:
    sound = voice(3.0)
    noise = np.random.default_rng(0).standard_normal(len(sound)).astype(np.float32)
    slight, strong = (pesq.score(sound, sound + level * noise) for level in (0.001, 0.02))
    assert 1.0 <= strong < slight < 4.64


@pytest.mark.parametrize(
    ("reference", "degraded", "reason"),
    [
        (voice(31.0), voice(31.0), "the rendering has 31.00 s"),
        (voice(90.0), voice(90.0), "the rendering has 90.00 s"),
        (voice(0.2), voice(0.2), "the rendering has 0.20 s"),
        (np.zeros(0, np.float32), np.zeros(0, np.float32), "0.00 s"),
        (voice(1.0), np.zeros(RATE, np.float32), "the rendering is silent"),
        (np.zeros(RATE, np.float32), voice(1.0), "the reference is silent"),
        (voice(1.0), np.full(RATE, np.nan, np.float32), "NaN"),
    ],
)
def test_pesq_refuses_before_the_library_is_called(
    pesq: TeacherForcedPesq,
    monkeypatch: pytest.MonkeyPatch,
    reference: npt.NDArray[np.float32],
    degraded: npt.NDArray[np.float32],
    reason: str,
) -> None:
    def never(*_: object) -> float:
        raise AssertionError("pesq was called")

    monkeypatch.setattr(pesq, "_pesq", never)
    with pytest.raises(MetricError, match=reason):
        pesq.score(reference, degraded)


def test_pesq_compares_the_two_renderings_and_not_the_clip(
    pesq: TeacherForcedPesq, tmp_path: Path
) -> None:
    first = write(tmp_path / "baseline.wav", voice(2.0, 1))
    second = write(tmp_path / "candidate.wav", voice(2.0, 1)[:-80])
    clip = subject(voice(5.0, 9), render_path=second, baseline_render_path=first)
    assert pesq(clip)["pesq_wb"] == pytest.approx(4.64, abs=0.05)


def test_pesq_of_what_is_not_aligned_is_called_so(pesq: TeacherForcedPesq, tmp_path: Path) -> None:
    """And never ``pesq_wb``: the same voice at another tempo scores as badly as a ruined one."""
    sound = speech()
    slower = np.interp(np.arange(0, len(sound) - 1, 0.96), np.arange(len(sound)), sound)
    first = write(tmp_path / "baseline.wav", sound)
    for other in (slower, slower[: len(sound)], sound[:-200], sound[::-1]):
        second = write(tmp_path / "candidate.wav", other)
        found = pesq(subject(sound, render_path=second, baseline_render_path=first))
        assert list(found) == ["pesq_wb_unaligned"]
    assert "pesq_wb_unaligned" not in {item.name for item in dataclasses.fields(UtteranceScores)}


@pytest.mark.parametrize("seconds", [0.3, 0.9, 3.4])
def test_damage_does_not_unalign(seconds: float) -> None:
    sound = speech()[RATE // 4 :][: round(seconds * RATE)]
    noise = np.random.default_rng(0).standard_normal(len(sound))
    damaged = {
        "noise at 0 dB": sound + sound.std() * noise,
        "five levels": np.round(10 * sound) / 10,
        "clipped": np.clip(sound, -0.05, 0.05),
        "quieter": 0.1 * sound,
        "shorter by 5 ms": sound[:-80],
    }
    for name, other in damaged.items():
        assert are_aligned(sound, other.astype(np.float32)), name


@pytest.mark.parametrize(("shift_s", "aligned"), [(0.04, True), (0.08, False), (0.2, False)])
def test_a_shift_is_told_by_its_size(shift_s: float, aligned: bool) -> None:
    sound = speech()
    shift = round(shift_s * RATE)
    assert are_aligned(sound[shift:], sound[: len(sound) - shift]) == aligned


def test_pesq_does_not_apply_without_renderings_and_refuses_half_of_them(
    pesq: TeacherForcedPesq, tmp_path: Path
) -> None:
    assert pesq(subject(voice(1.0))) == {}
    with pytest.raises(MetricError, match="both renderings"):
        pesq(subject(voice(1.0), render_path=tmp_path / "a.wav"))
    with pytest.raises(AudioError, match="cannot be read"):
        pesq(
            subject(
                voice(1.0), render_path=tmp_path / "a.wav", baseline_render_path=tmp_path / "b.wav"
            )
        )


@pytest.mark.parametrize(
    ("reference", "transcript", "counts"),
    [
        ("the cat sat on the mat", "The cat sat on the mat.", (0, 6)),
        ("the cat sat on the mat", "the cat sat on a mat", (1, 6)),  # substitution
        ("the cat sat", "the cat", (1, 3)),  # deletion
        ("the cat", "the big fat cat", (2, 2)),  # insertions
        ("the cat sat", "", (3, 3)),
        ("yes", "no no no no", (4, 1)),  # above one
        ("it's three thirty", "It is 330", (0, 3)),
        ("colour", "color", (0, 1)),
        ("mister o'neil paid twenty one dollars today", "Mr. O'Neil paid $21 today", (0, 6)),
        ("the f b i called at six forty five", "The FBI called at 6:45", (0, 7)),
        ("the f b i called", "the f bi called", (0, 5)),
        ("the f b i called", "the bi called", (3, 5)),  # the f is lost, and so is the spacing
        ("the fan is on", "the fan", (2, 4)),  # what is lost is no space
        ("a man", "an man", (1, 2)),
        ("left right", "right left", (2, 2)),
    ],
)
def test_word_errors(reference: str, transcript: str, counts: tuple[int, int]) -> None:
    assert count_word_errors(reference, transcript) == counts


def test_each_curated_reference_can_be_counted() -> None:
    """And is said rightly by whoever says it word for word, or as a person writes the text."""
    prompts = load_prompts(PROMPTS)
    differing = set()
    for prompt in prompts:
        assert count_word_errors(prompt.reference, prompt.reference)[0] == 0
        errors, words = count_word_errors(prompt.reference, prompt.text)
        assert words >= 1
        if errors:
            differing.add(prompt.stratum)
    assert differing == {"numbers_dates", "abbreviations"}  # "3/4 cup", "Ltd.": said in full


@pytest.mark.parametrize("reference", ["", "  ", "Hmm.", "..."])
def test_a_reference_that_is_empty_once_normalised_is_refused(reference: str) -> None:
    with pytest.raises(MetricError, match="is empty once normalised"):
        count_word_errors(reference, "anything")


class Parrot:
    """A recogniser that always hears the same."""

    def __init__(self) -> None:
        self.provenance = {"asr": "parrot"}

    def transcribe(self, samples: npt.NDArray[np.float32]) -> str:
        return "Two, cat."


def test_word_errors_of_a_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr, "load", lambda name: Parrot())
    metric = WordErrors(SETTINGS)
    found = metric(subject(voice(1.0)))
    assert found == {"transcript": "Two, cat.", "wer_errors": 1, "wer_words": 2}
    assert metric.provenance()["asr"] == "parrot"
    for samples in ([], [np.nan] * 8000):
        with pytest.raises(MetricError, match="finite"):
            metric(subject(samples))


def test_guards_as_a_metric() -> None:
    metric = GuardMetric(SETTINGS)
    assert metric(subject(voice(2.0)))["guards"] == ()
    trips = metric(subject(voice(2.0), n_truncated=1))["guards"]
    assert trips == ("truncated: 1 sentences at the token cap",)
    assert "noise_floor_dbfs" not in metric(subject([]))


def test_each_built_in_metric_loads_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asr, "load", lambda name: Parrot())
    for name in registry.BUILTIN:
        assert isinstance(registry.load(name, SETTINGS), Metric)
