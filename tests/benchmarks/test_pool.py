"""How a pool is built: in turns, condition by condition, and what a cut run leaves."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gate import pool, scorefile
from benchmarks.gate.balance import balanced_swaps
from benchmarks.gate.batched import with_opinion, with_words
from benchmarks.gate.deadline import Deadline, OutOfTimeError
from benchmarks.gate.draws import Pool
from benchmarks.gate.voices import Spoken, VoiceMissingError
from evaluation.prompts import Prompt
from evaluation.scores import UtteranceScores

PROMPTS = [Prompt(id=f"p{i}", text="w" * (9 - i), reference="w") for i in range(8)]


class Counting:
    """Scores by the loudest sample: the damage is quieter, the ruined are silent or louder.

    Args:
        n_scored: Conditions until the time is up.
        missing: A voice that is not installed.
    """

    def __init__(self, n_scored: int = 99, missing: str = "") -> None:
        self.left, self.voice_missing = n_scored, missing
        self.seeds: list[int] = []

    def speak(self, voice: str, prompts: Sequence[Prompt], seed: int) -> list[Spoken]:
        if voice == self.voice_missing:
            raise VoiceMissingError("left out, install it to have this voice")
        self.seeds.append(seed)
        drawn = random.Random(seed)
        return [
            Spoken(samples=np.full(8_000, drawn.uniform(0.78, 0.8), np.float32)) for _ in prompts
        ]

    def score(self, prompts: Sequence[Prompt], spoken: Sequence[Spoken]) -> list[UtteranceScores]:
        if not self.left:
            raise OutOfTimeError
        self.left -= 1
        return self.opinions(prompts, spoken)

    def opinions(
        self, prompts: Sequence[Prompt], spoken: Sequence[Spoken]
    ) -> list[UtteranceScores]:
        levels = [float(np.mean(s.samples)) for s in spoken]
        return [
            UtteranceScores(
                utterance_id=p.id, duration_s=1.0, dnsmos_ovrl=4 * loud, dnsmos_p808=3 * loud,
                wer_errors=0, wer_words=10, noise_floor_dbfs=-60.0,
            )
            for p, loud in zip(prompts, levels, strict=True)
        ]  # fmt: skip

    def provenance(self) -> dict[str, Any]:
        return {"judge": "made"}

    def agreement(self) -> dict[str, Any] | None:
        return {"same": 8}


@pytest.fixture(autouse=True)
def _plain_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def quieter(samples: np.ndarray, strength: float) -> np.ndarray:
        return (samples * (1 - strength)).astype(np.float32)

    monkeypatch.setattr(pool, "blend", quieter)
    monkeypatch.setattr(pool, "ruin", lambda samples, *_: 0 * samples)


def test_several_turns_are_other_utterances_of_the_same_prompts() -> None:
    assert [p.id for p in pool.utterances(PROMPTS, 1)] == [p.id for p in PROMPTS]
    twice = pool.utterances(PROMPTS, 2)
    assert len({p.id for p in twice}) == 16
    assert [len(p.text) for p in twice] == sorted(len(p.text) for p in PROMPTS for _ in "ab")


def test_a_pool_is_both_seeds_three_strengths_and_the_ruined(tmp_path: Path) -> None:
    path, scorer = tmp_path / "pool-x.jsonl.gz", Counting()
    pool.build("x", pool.utterances(PROMPTS, 2), scorer, path)
    found = Pool.read(path)
    assert (found.n, len(found.levels), found.header["missing"]) == (16, 4, 0)
    assert scorer.seeds == [1_000, 2_000]  # 16 utterances further on they have not met
    assert found.losses[1:].max(axis=1) == pytest.approx(pool.LOSSES_PCT, abs=1.0)
    assert found.header["agreement"] == {"same": 8}
    assert all(item.dnsmos_ovrl == 0 for item in found.ruined)


@pytest.mark.parametrize(("n_scored", "missing"), [(2, 4), (3, 3), (5, 1)])
def test_a_run_that_is_cut_keeps_what_it_has_and_is_no_pool(
    tmp_path: Path, n_scored: int, missing: int
) -> None:
    path = tmp_path / "pool-x.jsonl.gz"
    with pytest.raises(OutOfTimeError):
        pool.build("x", PROMPTS, Counting(n_scored), path)
    header, conditions = scorefile.read(path)
    assert (header["missing"], len(conditions)) == (missing, n_scored)
    assert list(conditions)[:3] == ["a", "b", "ruined"][:n_scored]
    assert not pool.is_whole(path)
    with pytest.raises(scorefile.ScoreFileError, match=f"lacks {missing} conditions"):
        Pool.read(path)


def test_what_is_missing_and_what_was_cut_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = argparse.Namespace(out=tmp_path, n_prompts=8, turns=1)
    pool.build_all(["flite_rms", "embedded", "flite_slt"], Counting(4, "flite_rms"), args)
    said = capsys.readouterr().out
    assert "flite_rms: left out, install it" in said
    assert "pool-embedded.jsonl.gz: cut, the time is up; 2 conditions are missing" in said
    assert "flite_slt" not in said


def test_a_deadline_that_has_passed_stops_the_work() -> None:
    Deadline.after(60).check(1, 2)
    with pytest.raises(OutOfTimeError):
        Deadline.after(-1).check(1, 2)


def test_each_kind_of_ruin_is_shared_out_by_itself() -> None:
    """A loop does not make up for a word that was lost, so neither may stand against the other."""
    drawn = random.Random(0)
    whole = [
        UtteranceScores(
            utterance_id=f"{i}", duration_s=1.0, dnsmos_ovrl=drawn.uniform(2.9, 3.1),
            dnsmos_p808=drawn.uniform(3.4, 3.6), wer_errors=0, wer_words=10,
        )
        for i in range(60)
    ]  # fmt: skip
    loops = [replace(s, guards=("loop: 0.99",)) if i < 4 else s for i, s in enumerate(whole)]
    other = [replace(s, wer_errors=9) if 4 <= i < 8 else s for i, s in enumerate(loops)]
    a, b = pool.swapped(whole, other, balanced_swaps(whole, other))
    for half in (a, b):
        assert sum(bool(s.guards) for s in half) == 2
        assert sum((s.wer_errors or 0) > 5 for s in half) == 2


def test_batches_add_to_the_guards_what_the_judge_would() -> None:
    guarded = UtteranceScores(utterance_id="x", guards=("loop: 0.99",))
    heard = with_words(with_opinion(guarded, {"ovrl": 3.0, "p808": 3.5}), "a b", "a c")
    assert (heard.dnsmos_ovrl, heard.dnsmos_p808) == (3.0, 3.5)
    assert (heard.wer_errors, heard.wer_words, heard.guards) == (1, 2, ("loop: 0.99",))
    assert with_opinion(guarded, {}).failures == {"dnsmos": "unfit audio"}
    looping = with_words(guarded, "a b", "a b " * 12)
    assert any(guard.startswith("repeated_words") for guard in looping.guards)
