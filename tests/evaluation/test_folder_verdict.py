"""One folder against another, look by look, with a stand-in that hears the level of a clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evaluation.canaries import CANARIES
from evaluation.folder_verdict import NOT_AGAIN, NOT_ARMED, FolderVerdict, judge_folders
from evaluation.folders import Inputs, check_folders
from evaluation.gate import GateConfig
from evaluation.scores import Clip, UtteranceScores
from evaluation.texts import read_texts
from tests.evaluation.sounds import voice, write

N = 24
RATE = 24_000
GOOD, POOR = 0.5, 0.25
DAMAGES = {canary.name for canary in CANARIES if not canary.harmless}


class Level:
    """Scores a clip by its peak, and a canary by its name.

    Args:
        deaf_to: Damage that it does not hear.
    """

    def __init__(self, deaf_to: str = "") -> None:
        self.deaf_to = deaf_to
        self.asked: list[str] = []
        self.rates: set[int] = set()
        self.paired: list[Clip] = []

    def score(
        self,
        clips: Sequence[Clip],
        *,
        metrics: Sequence[str] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[UtteranceScores]:
        self.asked += [clip.utterance_id for clip in clips]
        found = [self.one(clip) for clip in clips]
        if on_progress is not None and clips:
            on_progress(len(clips), len(clips))
        return found

    def one(self, clip: Clip) -> UtteranceScores:
        samples, rate = soundfile.read(clip.wav_path)
        self.rates.add(rate)
        self.paired += [clip] if clip.render_path else []
        name, is_copy, _ = clip.utterance_id.partition("/")
        spoilt = bool(is_copy) and name in DAMAGES - {self.deaf_to}
        is_good = np.abs(samples).max() > 0.35 or bool(is_copy)
        mos = (3.2 if is_good else 2.6) + 0.01 * (sum(clip.utterance_id.encode()) % 7)
        return UtteranceScores(
            utterance_id=clip.utterance_id,
            duration_s=len(samples) / rate,
            dnsmos_ovrl=1.5 if spoilt else mos,
            dnsmos_p808=1.5 if spoilt else mos,
            wer_errors=0,
            wer_words=5,
            transcript="five words in all here",
            noise_floor_dbfs=-60.0,
            guards=("loop: spoilt",) if spoilt else (),
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of 24 utterances at 24 kHz: good ones, good ones again, poor ones."""
    folder = tmp_path_factory.mktemp("folders")
    names = [f"u{i:02d}" for i in range(N)]
    lines = [f"{name}\tfive words in all here\n" for name in names]
    (folder / "said.tsv").write_text("".join(lines), encoding="utf-8")
    sides = (("base", GOOD, 0), ("again", GOOD, 100), ("good", GOOD, 200), ("poor", POOR, 300))
    for side, peak, seed in sides:
        (folder / side).mkdir()
        for i, name in enumerate(names):
            samples = voice(0.6, seed=seed + i, peak=peak)
            write(folder / side / f"{name}.wav", samples, rate=RATE, subtype="PCM_24")
    return folder


def inputs(place: Path, candidate: str = "good", again: str | None = "again") -> Inputs:
    texts = place / "said.tsv"
    return check_folders(
        read_texts(texts), texts, baseline=place / "base", candidate=place / candidate,
        again=place / again if again else None,
    )  # fmt: skip


@pytest.mark.parametrize(("min_n", "n"), [(2, 8), (12, 12), (24, 24)])
def test_nothing_is_rejected_on_fewer_than_min_n(place: Path, min_n: int, n: int) -> None:
    given = inputs(place, "poor", again=None)
    found = judge_folders(given, GateConfig(min_n=min_n), Level())
    assert [(look.n, look.status) for look in found.looks] == [(n, "FAIL")]


def judged(given: Inputs, scorer: Level | None = None, **further: bool) -> FolderVerdict:
    return judge_folders(given, GateConfig(), scorer or Level(), **further)


def test_a_good_candidate_passes_at_the_last_look_by_an_armed_gate(place: Path) -> None:
    scorer = Level()
    found = judged(inputs(place), scorer)
    assert found.verdict.status == "PASS"
    assert [(look.n, look.status) for look in found.looks] == [
        (8, "UNDECIDED"), (16, "UNDECIDED"), (24, "PASS"),
    ]  # fmt: skip
    assert found.arming is not None
    assert found.arming.armed
    assert found.again is not None
    assert found.again.status == "PASS"
    assert scorer.rates == {16_000}
    assert NOT_AGAIN not in found.verdict.summary


def test_a_poor_one_is_rejected_at_the_first_look_and_costs_no_arming(place: Path) -> None:
    scorer = Level()
    found = judged(inputs(place, "poor", again=None), scorer)
    assert (found.verdict.status, found.verdict.n) == ("FAIL", 8)
    assert [(look.n, look.status) for look in found.looks] == [(8, "FAIL")]
    assert len(found.baseline) == N
    assert len(found.candidate) == 8
    assert found.arming is None
    assert len(scorer.asked) == N + 8


@pytest.mark.parametrize("damage", ["low_pass", "mu_law"])
def test_a_gate_that_misses_damage_lets_nothing_pass(place: Path, damage: str) -> None:
    found = judged(inputs(place), Level(deaf_to=damage))
    assert found.verdict.status == "UNARMED"
    assert found.arming is not None
    assert not found.arming.armed
    what = next(canary.what for canary in CANARIES if canary.name == damage)
    assert any(what in reason for reason in found.verdict.reasons)


def test_what_was_left_out_is_in_the_verdicts_sentence(place: Path) -> None:
    armed = judged(inputs(place, again=None))
    assert armed.verdict.summary.endswith(NOT_AGAIN)
    assert armed.again is None
    bare = judged(inputs(place, again=None), arming=False)
    assert bare.verdict.status == "PASS"
    assert bare.arming is None
    assert bare.verdict.summary.endswith(f"{NOT_AGAIN} {NOT_ARMED}")


def test_a_baseline_that_fails_against_itself_lets_nothing_pass(place: Path) -> None:
    found = judged(inputs(place, "good", "poor"), arming=False)
    assert found.verdict.status == "UNARMED"
    assert "does not pass against itself" in found.verdict.reasons[1]


def test_a_rejection_by_a_gate_that_rejects_the_baseline_too_says_so(
    place: Path, tmp_path: Path
) -> None:
    for path in (place / "poor").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    texts = place / "said.tsv"
    sides = {"baseline": place / "base", "candidate": place / "poor"}
    fair = judged(check_folders(read_texts(texts), texts, **sides, again=place / "again"))
    assert fair.verdict.status == "FAIL"
    assert "against itself" not in fair.verdict.summary
    unfair = judged(check_folders(read_texts(texts), texts, **sides, again=tmp_path))
    assert unfair.verdict.status == "FAIL"
    assert "The baseline does not pass against itself: FAIL: " in unfair.verdict.summary


def test_an_unfit_baseline_is_ungated_before_the_candidate_is_heard(place: Path) -> None:
    class Lost(Level):
        def one(self, clip: Clip) -> UtteranceScores:
            return UtteranceScores(utterance_id=clip.utterance_id, failures={"audio": "lost"})

    scorer = Lost()
    found = judged(inputs(place), scorer)
    assert found.verdict.status == "UNGATED"
    assert "unfit" in found.verdict.reasons[0]
    assert found.looks == found.candidate == ()
    assert len(scorer.asked) == N


@pytest.mark.parametrize(("errors", "is_named"), [(4, True), (0, False)])
def test_a_baseline_that_only_the_recogniser_ruins_is_told_so(
    place: Path, errors: int, is_named: bool
) -> None:
    class Deaf(Level):
        def one(self, clip: Clip) -> UtteranceScores:
            guards = () if errors else ("loop: x",)
            return replace(super().one(clip), wer_errors=errors, guards=guards)

    found = judged(inputs(place), Deaf())
    assert found.verdict.status == "UNGATED"
    assert "24 of 24 baseline utterances are bad" in found.verdict.reasons[1]
    said = "The recogniser gets 80 % of the baseline's own words wrong"
    assert any(reason.startswith(said) for reason in found.verdict.reasons) is is_named


def test_renderings_are_paired_only_when_they_are_said_to_be_aligned(place: Path) -> None:
    plain, aligned = Level(), Level()
    judged(inputs(place), plain, arming=False)
    judged(inputs(place), aligned, arming=False, aligned=True)
    assert plain.paired == []
    assert len(aligned.paired) == N
    for clip in aligned.paired:
        assert clip.render_path == clip.wav_path
        assert clip.baseline_render_path is not None
        assert (clip.baseline_render_path.parent.name, clip.wav_path.parent.name) == (
            "baseline", "candidate",
        )  # fmt: skip


def test_progress_counts_up_to_all_of_each_part(place: Path) -> None:
    told: list[tuple[str, int, int]] = []
    judge_folders(inputs(place), GateConfig(), Level(), on_progress=lambda *step: told.append(step))
    parts = list(dict.fromkeys(what for what, _, _ in told))
    assert parts == ["baseline", "candidate", "baseline again", "copies of the baseline"]
    for part in parts[:3]:
        counts = [done for what, done, total in told if what == part and total == N]
        assert counts == sorted(counts)
        assert (counts[0], counts[-1]) == (0, N)


def test_the_same_files_twice_are_said_to_be_the_same(place: Path, tmp_path: Path) -> None:
    for path in (place / "base").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    texts = place / "said.tsv"
    same = check_folders(read_texts(texts), texts, baseline=place / "base", candidate=tmp_path)
    found = judged(same, arming=False)
    assert found.verdict.status == "PASS"
    assert "Every file is the baseline's own" in found.verdict.summary
