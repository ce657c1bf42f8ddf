"""A gate that is not armed: what is said of it, and that nothing passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.arming import Arming
from evaluation.gate import decide
from evaluation.scores import Clip
from evaluation.verdict import GateConfig
from search import cli, facts, ranking
from search.armed import why_nothing_passes
from search.config import SweepConfig
from search.events import GateArmed
from search.judging import Brief, Judging
from search.live import armed_line
from search.reference import Reference
from search.scoring import Scoring
from tests.evaluation.sounds import voice, write
from tests.search import fakes, record_fixtures
from tests.search.armer_fixtures import SWEEP
from tests.search.test_command_sweep import fake_sweep


def arming(*missed: str) -> Arming:
    return Arming(
        armed=not missed, missed=missed, again=decide([], [], GateConfig()),
        sigma_pct={"dnsmos_ovrl": 4.8, "dnsmos_p808": 3.7}, canaries=(), n=32, n_small_loss=18,
        n_judged=0, seconds=30.0,
    )  # fmt: skip


def test_what_a_person_reads() -> None:
    line = armed_line(GateArmed(arming=arming(), seconds=75.0))
    assert line.startswith(
        "the gate is armed: the baseline passes against itself (sigma OVRL 4.8 %"
    )
    assert line.endswith("accepting a true loss of 2 % takes n=18 (1:15)")
    unarmed = armed_line(GateArmed(arming=arming("It accepts noise."), seconds=75.0))
    assert unarmed == (
        "the gate is UNARMED: It accepts noise. Nothing can pass in this sweep. (1:15)"
    )


def test_what_the_tracker_is_told() -> None:
    result = record_fixtures.result(arming=arming("It accepts noise.").to_mapping())
    assert facts.sweep_tags(result)["armed"] == "false"
    assert facts.sweep_tags(result)["unarmed"] == "It accepts noise."
    assert ("arming/dnsmos_ovrl_sigma_pct", 4.8, 0) in facts.sweep_metrics(result)
    armed = facts.sweep_tags(record_fixtures.result(arming=arming().to_mapping()))
    assert (armed["armed"], "unarmed" in armed) == ("true", False)
    assert facts.sweep_tags(record_fixtures.result())["armed"] == "not tried"


def test_the_command_ends_in_1_and_keeps_the_arming_with_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = arming("It accepts noise.").to_mapping()
    why = why_nothing_passes(kept, 32)
    tried = tuple(r for r in record_fixtures.records() if not r.accepted)
    result = record_fixtures.result(tried, arming=kept, not_confirmed=why)
    told: dict[str, str] = {}
    fake_sweep(monkeypatch, lambda *_, **__: result)
    monkeypatch.setattr("search.tracking.Tracking.finish", lambda _, __, texts: told.update(texts))
    (tmp_path / "toy.yaml").write_text("study: toy\nprompts: {path: prompts.tsv}\n")
    words = ["sweep", str(tmp_path / "toy.yaml"), "--root", str(tmp_path / "runs"), "--plain"]
    assert cli.main(words) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "the gate is not armed on this baseline, so nothing can pass. It accepts noise." in said
    assert json.loads(told["arming.json"]) == kept


def test_only_an_unarmed_gate_explains_itself() -> None:
    assert why_nothing_passes(None, 32) == why_nothing_passes(arming().to_mapping(), 32) == ""
    assert "It accepts noise." in why_nothing_passes(arming("It accepts noise.").to_mapping(), 32)


def test_an_unarmed_trial_is_no_contender_and_no_bad_example(
    toy_sweep: Callable[[str], SweepConfig],
) -> None:
    config = toy_sweep(SWEEP)
    verdict = record_fixtures.verdict() | {"status": "UNARMED"}
    record = record_fixtures.record(1, verdict=verdict, latency=0.01)
    assert ranking.contenders(("latency_p50_s",), [record], record_fixtures.baseline()) == []
    graded = ranking.constraints(config, "completed", record.metrics, verdict)["gate"]
    failed = record_fixtures.verdict("FAIL")
    worse = ranking.constraints(config, "completed", record.metrics, failed)["gate"]
    assert 0 < graded < worse


def test_every_pass_after_an_unarmed_gate_is_unarmed(tmp_path: Path) -> None:
    scores = [
        fakes.FakeScorer()._one(clip) for clip in clips_of(tmp_path)
    ]  # a baseline that equals the candidate
    brief = Brief(
        folder=tmp_path, references=dict.fromkeys(s.utterance_id for s in scores),  # type: ignore[arg-type]
        gate=GateConfig(), reference=Reference(scores=tuple(scores)), unarmed=("It is deaf.",),
    )  # fmt: skip
    with Scoring(fakes.FakeScorer()) as scoring:
        judging = Judging(brief, scoring, lambda phase: None)
        verdict = judging.decide(scores, complete=True)
        early = judging.decide(scores, complete=False)
    assert verdict is not None
    assert early is not None
    assert (verdict.status, verdict.reasons[-1]) == ("UNARMED", "It is deaf.")
    assert early.status == "UNDECIDED"


def clips_of(folder: Path) -> list[Clip]:
    wav = write(folder / "a.wav", voice(1.0))
    return [Clip(utterance_id=f"u{i}", wav_path=wav, reference="say la") for i in range(9)]
