"""Arming before a sweep: what is run once, what is kept, and what an unarmed gate lets through."""

from __future__ import annotations

import ast
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation import provenance
from evaluation.arming import Arming
from evaluation.canaries import CANARIES
from search import facts, ranking
from search.armed import ARMING, read_arming, why_nothing_passes
from search.arming import AGAIN_SEED, Armer
from search.commands.studies import load_study
from search.config import SweepConfig, load_config
from search.errors import BaselineUnfitError, ConfigError, InfrastructureError
from search.events import Event, GateArmed, TrialStarted
from search.folder import StudyFolder
from search.judging import Brief, Judging
from search.live import armed_line
from search.prompts import CONFIRM_SEED, PromptSet, search_prompts
from search.record import Failure, Role, SweepResult, TrialRecord, write_record
from search.reference import Reference
from search.runner import Runner
from search.scoring import Scoring
from search.space import Candidate
from search.study import run_sweep
from search.summary import summarise
from search.trial import BudgetOverError
from tests.evaluation.sounds import voice, write
from tests.search import fakes, record_fixtures
from tests.search.test_command_sweep import fake_sweep
from tts.options import Options

SWEEP = f"""
study: a
model: tests.search.fakes:FakeVoice
device: cpu
prompts: {{path: prompts.tsv, n: 9}}
space: {{precision: [fp32], quantization: [none], attention: [math], compile: [none, default],
        kv_cache: [dynamic, static], temperature: [{fakes.FINE}]}}
confirm: {{n: 0}}
recipes: [compiled]
budget: {{max_trials: 2}}
"""


@pytest.fixture
def configure(tmp_path: Path) -> Callable[[str], SweepConfig]:
    """Return a function from further YAML lines to a configuration."""
    rows = [f"p{i:02d}\tall\tsay la {i}\tsay la" for i in range(20)]
    table = "\n".join(["id\tstratum\ttext\treference", *rows]) + "\n"
    (tmp_path / "prompts.tsv").write_text(table)

    def make(further: str = "") -> SweepConfig:
        path = tmp_path / "sweep.yaml"
        path.write_text(SWEEP + further)
        return load_config(path)

    return make


def run(
    config: SweepConfig, root: Path, scorer: fakes.FakeScorer, on_event: Callable[[Event], None]
) -> SweepResult:
    return run_sweep(config, root=root, on_event=on_event, scorer=scorer)


@pytest.mark.slow
def test_a_sweep_arms_its_gate_once(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    root, events = tmp_path / "mlruns", list[Event]()
    result = run(configure(""), root, fakes.FakeScorer(), events.append)
    assert [record.role for record in result.records] == ["baseline", "arming", "recipe"]
    (armed,) = [event for event in events if isinstance(event, GateArmed)]
    assert armed.arming.armed
    assert result.arming == armed.arming.to_mapping()
    again = result.records[1]
    # Only its sound is asked for: nothing is timed, rendered or kept to screen candidates with.
    assert set(again.phases) == {"load", "compile", "synthesize", "judge"}
    assert "latency_p50_s" not in again.metrics
    assert armed.seconds == pytest.approx(sum(again.phases.values()) + armed.arming.seconds)
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
    resumed = run(configure(""), root, scorer, told.append)
    assert scorer.n_scored == 0
    assert not [event for event in told if isinstance(event, TrialStarted)]
    assert [event for event in told if isinstance(event, GateArmed)] == [armed]
    assert resumed.records == result.records


@pytest.mark.slow
def test_nothing_passes_a_gate_that_is_deaf(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    root, events = tmp_path / "mlruns", list[Event]()
    result = run(configure(""), root, fakes.FakeScorer(deaf_to=["low_pass"]), events.append)
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


class FakeRunner(Runner):
    """A runner whose trials are made up; the rest is real."""

    def __init__(self, config: SweepConfig, folder: StudyFolder, *endings: object) -> None:
        scoring = Scoring(fakes.FakeScorer())
        self.told: list[Event] = []
        super().__init__(
            config, folder, scoring,
            {"model": "m", "device": "d", "measure": "x"}, {}, "cpu", self.told.append,
        )  # fmt: skip
        self.endings = list(endings)
        self.seeds: list[int] = []

    def attempt(
        self, candidate: Candidate, role: Role, prompts: PromptSet, reference: Reference | None
    ) -> TrialRecord:
        self.seeds = [u.seed for u in prompts.utterances]
        ending = self.endings.pop(0)
        if isinstance(ending, BaseException):
            raise ending
        digest = self.digest(candidate.options, prompts)
        path = self.folder.make_trial(self.next_number, digest)
        return spoken(self, path, digest, role, list(prompts.references), ending)


def spoken(
    runner: Runner, path: Path, digest: str, role: str, names: list[str], ending: object
) -> TrialRecord:
    """Write a trial's audio and what is known of it, and return its record."""
    (path / "audio").mkdir()
    clips = {}
    for i, name in enumerate(names):
        write(path / "audio" / f"{i}.wav", voice(1.0, seed=i))
        clips[name] = {"wav": f"audio/{i}.wav", "n_truncated": 0, "n_tokens": 0, "tokens": []}
    (path / "clips.json").write_text(json.dumps({"clips": clips, "renders": {}}))
    references = dict.fromkeys(names, "say la")
    failure = ending if isinstance(ending, Failure) else None
    brief = Brief(folder=path, references=references, gate=runner.config.gate, reference=None)
    with Scoring(fakes.FakeScorer()) as scoring:
        judging = Judging(brief, scoring, lambda phase: None)
        judging.collected.clips |= clips
        scores, _ = judging.finish()
    return record_fixtures.record(
        runner.next_number, study="a", role=role, digest=digest, verdict=None, failure=failure,
        options=Options(), utterances=tuple(score.to_mapping() for score in scores),
    )  # fmt: skip


FINE = "fine"


def armer(runner: FakeRunner) -> Armer:
    prompts = search_prompts(runner.config)
    digest = runner.digest(Options(), prompts)
    baseline = runner.known(digest)
    if baseline is None:
        path = runner.folder.make_trial(0, digest)
        baseline = spoken(runner, path, digest, "baseline", list(prompts.references), FINE)
        write_record(path, baseline)
        runner.records.append(baseline)
    return Armer(runner, baseline, prompts)


def test_other_seeds_than_the_search_and_the_confirmation(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        runner = FakeRunner(configure(""), folder, FINE)
        found = armer(runner).arm()
    assert found is not None
    assert found.armed
    assert runner.unarmed == ()
    assert runner.seeds == [AGAIN_SEED + i for i in range(9)]
    assert max(runner.seeds) < CONFIRM_SEED


def test_a_second_sitting_hears_and_tries_nothing_again(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        first = armer(FakeRunner(configure(""), folder, FINE)).arm()
        runner = FakeRunner(configure(""), folder)
        assert armer(runner).arm() == first
        assert runner.scoring.scorer.n_scored == 0  # type: ignore[attr-defined]
        # A sitting that was killed between the two finds the second hearing on disk.
        (folder.path / ARMING).unlink()
        runner = FakeRunner(configure(""), folder)
        found = armer(runner).arm()
    assert found is not None
    assert found.canaries == first.canaries  # type: ignore[union-attr]
    assert runner.scoring.scorer.n_scored == found.n_judged + n_screened()  # type: ignore[attr-defined]


def n_screened() -> int:
    """Return the copies of damage that the guards are asked about, all at the first look of 8."""
    return sum(sum(c.touches(i) for i in range(8)) for c in CANARIES if not c.harmless)


def test_other_canaries_are_another_arming(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        armer(FakeRunner(configure(""), folder, FINE)).arm()
        fewer = configure("arming: {canaries: [low_pass, gain_up]}\n")
        found = armer(FakeRunner(fewer, folder)).arm()
    assert found is not None
    assert [canary.name for canary in found.canaries] == ["low_pass", "gain_up"]


@pytest.mark.parametrize("name", ["gate.py", "canaries.py", "length_and_noise.py"])
def test_a_gate_of_other_code_is_armed_anew(
    tmp_path: Path, configure: Callable[[str], SweepConfig], monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:  # fmt: skip
    edited = Path(shutil.copytree(provenance.ROOM, tmp_path / "evaluation"))
    with (edited / name).open("a", encoding="utf-8") as file:
        file.write("# another line\n")
    real = provenance.code_digest
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        before = armer(FakeRunner(configure(""), folder)).key
        assert armer(FakeRunner(configure(""), folder)).key == before
        monkeypatch.setattr("search.arming.code_digest", lambda names: real(edited, names))
        assert armer(FakeRunner(configure(""), folder)).key != before


def test_no_code_of_the_gate_is_left_out() -> None:
    """Whatever arming imports of this room, however far, is counted here or with the scores."""
    waiting, known = ["arming.py"], set[str]()
    while waiting:
        name = waiting.pop()
        known.add(name)
        for node in ast.walk(ast.parse((provenance.ROOM / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evaluation"):
                modules = (node.module or "").split(".")[1:] or [alias.name for alias in node.names]
                found = f"{modules[0]}.py"
                waiting += [found] if found not in {*known, *provenance.CODE} else []
    shapes = {"scores.py", "errors.py"}
    assert known - shapes <= set(provenance.GATE_CODE)
    assert all((provenance.ROOM / name).exists() for name in provenance.GATE_CODE)


def test_it_can_be_left_out(tmp_path: Path, configure: Callable[[str], SweepConfig]) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        runner = FakeRunner(configure("arming: {enabled: false}\n"), folder)
        assert armer(runner).arm() is None
        assert (runner.told, runner.unarmed) == ([], ())


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        (
            Failure(phase="synthesize", kind="crash", message="died of SIGSEGV"),
            r"failed when it was heard again with other seeds \(crash in synthesize: died of",
        ),
        (BudgetOverError(), "time was over before the gate was armed: give it more"),
    ],
)
def test_a_second_hearing_that_comes_to_nothing_leaves_nothing(
    tmp_path: Path, configure: Callable[[str], SweepConfig], ending: object, message: str
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        runner = FakeRunner(configure(""), folder, ending)
        with pytest.raises(BaselineUnfitError, match=message):
            armer(runner).arm()
        assert [r.role for r in runner.records] == ["baseline"]
        assert [p.name for p in folder.trials.iterdir()] == [runner.records[0].folder_name]
        assert not (folder.path / ARMING).exists()


class Ticking(fakes.FakeScorer):
    """Takes a second a clip, on a clock that only it turns."""

    def now(self) -> float:
        return float(self.n_scored)


def test_the_canaries_time_is_written_down_with_what_came_of_them(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    scorer = Ticking()
    with StudyFolder(tmp_path / "mlruns", "a", clock=scorer.now) as folder:
        runner = FakeRunner(configure(""), folder, FINE)
        runner.scoring.scorer = scorer
        armer(runner).arm()
    # Killed right here, the next sitting knows of all that time.
    with StudyFolder(tmp_path / "mlruns", "a", clock=lambda: 0.0) as folder:
        assert folder.spent_s == scorer.n_scored > n_screened()


def test_canaries_end_with_the_searchs_time(
    tmp_path: Path, configure: Callable[[str], SweepConfig]
) -> None:
    config, scorer = configure(""), Ticking()
    config = dataclasses.replace(config, budget=dataclasses.replace(config.budget, seconds=5.0))
    with StudyFolder(tmp_path / "mlruns", "a", clock=scorer.now) as folder:
        runner = FakeRunner(config, folder, FINE)
        runner.scoring.scorer = scorer
        with pytest.raises(BaselineUnfitError, match="before the gate was armed: give it more"):
            armer(runner).arm()
        assert scorer.n_scored == 5 < n_screened()
        assert not (folder.path / ARMING).exists()
        assert [record.role for record in runner.records] == ["baseline", "arming"]
    with StudyFolder(tmp_path / "mlruns", "a", clock=lambda: 0.0) as folder:
        assert folder.spent_s == 5


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"key": "a", "seconds": 1, "arming": {"armed": true, "missed": ["it"]}}']
)
def test_a_damaged_arming_is_named(
    tmp_path: Path, configure: Callable[[str], SweepConfig], text: str
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        (folder.path / ARMING).write_text(text)
        with pytest.raises(InfrastructureError, match=r"arming\.json: .*; remove it and run"):
            armer(FakeRunner(configure(""), folder, FINE)).arm()


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ("arming: {canaries: [mulaw]}", r"sweep\.yaml:11: .*'mulaw'; did you mean 'mu_law'"),
        ("arming: {canaries: [gain_up]}", "without a damaging canary nothing is tested"),
        ("arming: {enabled: 1}", "1 is not true or false"),
    ],
)
def test_canaries_that_test_nothing_are_refused_with_their_line(
    configure: Callable[[str], SweepConfig], further: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(further)


def arming(*missed: str) -> Arming:
    from evaluation.gate import decide
    from evaluation.verdict import GateConfig

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
    from search import cli

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
    configure: Callable[[str], SweepConfig],
) -> None:
    verdict = record_fixtures.verdict() | {"status": "UNARMED"}
    record = record_fixtures.record(1, verdict=verdict, latency=0.01)
    assert ranking.contenders(("latency_p50_s",), [record], record_fixtures.baseline()) == []
    graded = ranking.constraints(configure(""), "completed", record.metrics, verdict)["gate"]
    failed = record_fixtures.verdict("FAIL")
    worse = ranking.constraints(configure(""), "completed", record.metrics, failed)["gate"]
    assert 0 < graded < worse


def test_every_pass_after_an_unarmed_gate_is_unarmed(tmp_path: Path) -> None:
    from evaluation.gate import GateConfig

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


def clips_of(folder: Path) -> list[object]:
    from evaluation.scores import Clip

    wav = write(folder / "a.wav", voice(1.0))
    return [Clip(utterance_id=f"u{i}", wav_path=wav, reference="say la") for i in range(9)]
