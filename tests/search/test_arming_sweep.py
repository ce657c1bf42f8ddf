"""Arming in whole sweeps, with real processes: once a study, and nothing passes a deaf gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from search.armed import ARMING, read_arming
from search.commands.studies import load_study
from search.config import SweepConfig
from search.events import Event, GateArmed, TrialStarted
from search.record import SweepResult
from search.study import run_sweep
from search.summary import summarise
from tests.search import fakes
from tests.search.armer_fixtures import SWEEP


def run(
    config: SweepConfig, root: Path, scorer: fakes.FakeScorer, on_event: Callable[[Event], None]
) -> SweepResult:
    return run_sweep(config, root=root, on_event=on_event, scorer=scorer)


@pytest.mark.slow
def test_a_sweep_arms_its_gate_once(
    tmp_path: Path, toy_sweep: Callable[[str], SweepConfig]
) -> None:
    root, events = tmp_path / "mlruns", list[Event]()
    result = run(toy_sweep(SWEEP), root, fakes.FakeScorer(), events.append)
    assert [record.role for record in result.records] == ["baseline", "arming", "recipe"]
    (armed,) = [event for event in events if isinstance(event, GateArmed)]
    assert armed.arming.armed
    assert result.arming == armed.arming.to_mapping()
    again = result.records[1]
    # Only its sound is asked for: nothing is timed, rendered or kept to screen candidates with.
    assert set(again.phases) == {"load", "compile", "synthesize", "judge"}
    assert "latency_p50_s" not in again.metrics
    # The canaries are judged beside the second hearing, so the longer of the two is what it took.
    hearing_s = sum(again.phases.values())
    assert armed.seconds == pytest.approx(max(hearing_s, armed.arming.seconds))
    assert read_arming(root / "a") == {
        "key": json.loads((root / "a" / ARMING).read_text())["key"],
        "seconds": armed.seconds,
        "arming": result.arming,
    }
    # The same prompts with other seeds, so the tones differ; nothing else of the canaries is kept.
    assert len(again.utterances) == 9
    assert {p.name for p in (root / "a" / "trials").iterdir()} == {
        record.folder_name for record in result.records
    }
    assert result.unconfirmed == result.records[2]
    # A second sitting runs nothing, scores nothing and says it again.
    scorer, told = fakes.FakeScorer(), list[Event]()
    resumed = run(toy_sweep(SWEEP), root, scorer, told.append)
    assert scorer.n_scored == 0
    assert not [event for event in told if isinstance(event, TrialStarted)]
    assert [event for event in told if isinstance(event, GateArmed)] == [armed]
    assert resumed.records == result.records


@pytest.mark.slow
def test_nothing_passes_a_gate_that_is_deaf(
    tmp_path: Path, toy_sweep: Callable[[str], SweepConfig]
) -> None:
    root, events = tmp_path / "mlruns", list[Event]()
    result = run(toy_sweep(SWEEP), root, fakes.FakeScorer(deaf_to=["low_pass"]), events.append)
    recipe = result.records[2]
    assert recipe.verdict is not None
    assert recipe.verdict["status"] == "UNARMED"
    assert "It accepts a low-pass at 3.6 kHz (n=9)." in recipe.verdict["reasons"]
    assert not recipe.accepted
    assert (result.winner, result.unconfirmed, result.front) == (None, None, ())
    said = summarise(result).sentences[0]
    assert said.startswith("Nothing won: the gate is not armed on this baseline, so nothing can")
    assert "It accepts a low-pass at 3.6 kHz (n=9). Give it more prompts (prompts.n is 9)" in said
    # Who reads the study later is told the same.
    shown, _ = load_study(root, "a")
    assert (shown.arming, shown.not_confirmed) == (result.arming, result.not_confirmed)
