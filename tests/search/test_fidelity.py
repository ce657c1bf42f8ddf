"""The token-level screen: what the baseline keeps, and candidates that are held to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.gate import GateConfig
from search import facts, fidelity, judging
from search.errors import InfrastructureError
from search.job import Job
from search.judging import Brief
from search.labels import verdict_label
from search.process import Standby
from search.reference import Reference, load_reference
from search.rejections import rejection_counts
from search.scoring import Scoring
from search.study import run_sweep
from search.trial import Outcome, Trial
from tests.search import fakes, toy
from tests.search.test_trial import DEADLINES
from tts.options import Options, Sampling
from tts.types import GivenSentence, LogProbs, Utterance

UTTERANCES = tuple(Utterance(id=f"p{i}", text="la", seed=i) for i in range(9))


class Model:
    """Probabilities drawn at random, the same each time; ``shift`` changes them all."""

    end_token = 40

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift
        self.asked: list[GivenSentence] = []

    def log_probabilities(self, given: Sequence[GivenSentence]) -> Iterator[LogProbs]:
        self.asked = list(given)
        for sentence in given:
            random = np.random.default_rng(len(sentence.tokens))
            scores = random.normal(0, 3, (len(sentence.tokens) + 1, 41))
            scores[:, ::2] += self.shift
            yield (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)


def lengths(given: Sequence[GivenSentence]) -> list[tuple[str, int, int]]:
    return [(s.utterance.id, s.sentence, len(s.tokens)) for s in given]


def test_the_shortest_sentences_that_fit_are_chosen() -> None:
    tokens = {"p0": [(1,) * 9, (2,) * 4], "p1": [(3,) * 6], "p2": [()], "foreign": [(1,)]}
    chosen = fidelity.choose(UTTERANCES[:4], tokens, n_positions=12)
    assert lengths(chosen) == [("p0", 1, 4), ("p1", 0, 6)]  # 5 and 7 positions with their ends
    assert lengths(fidelity.choose(UTTERANCES[:4], tokens, n_positions=11)) == [("p0", 1, 4)]
    assert lengths(fidelity.choose(UTTERANCES[:1], {"p0": [(1,) * 9]}, 3)) == [("p0", 0, 9)]
    assert fidelity.choose(UTTERANCES, {"p1": [()]}) == []


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    given = fidelity.choose(UTTERANCES, {"p0": [(1, 2, 3)], "p1": [(5,), (7, 8)]})
    fidelity.keep(Model(), given, tmp_path / fidelity.FIDELITY)
    return tmp_path / fidelity.FIDELITY


def test_a_model_is_no_way_off_itself(kept: Path) -> None:
    model = Model()
    stats = fidelity.measure(model, kept, UTTERANCES)
    assert (stats.n_sentences, stats.n_positions, stats.top1) == (3, 9, 1.0)
    assert stats.kl_mean == pytest.approx(0, abs=1e-6)
    assert [s.tokens for s in model.asked] == [(5,), (7, 8), (1, 2, 3)]
    assert lengths(model.asked)[0] == ("p1", 0, 1)
    assert fidelity.measure(Model(0.5), kept, UTTERANCES).kl_mean > 0.01


def test_what_is_kept_reads_back_as_it_was(kept: Path) -> None:
    first = fidelity.load(kept)
    fidelity.save(kept, first)
    for mine, theirs in zip(first, fidelity.load(kept), strict=True):
        assert (mine.name, mine.end_token) == (theirs.name, theirs.end_token)
        assert (mine.ids == theirs.ids).all()
        assert (mine.log_probs == theirs.log_probs).all()
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_a_model_with_another_end_is_refused(kept: Path) -> None:
    model = Model()
    model.end_token = 39
    with pytest.raises(ValueError, match="the end is token 39, and 40 in the baseline"):
        fidelity.measure(model, kept, UTTERANCES)


def test_nothing_is_kept_of_a_baseline_that_said_nothing(tmp_path: Path) -> None:
    fidelity.keep(Model(), [], tmp_path / "nothing.npz")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    (tmp_path / judging.CLIPS).write_text(json.dumps({"clips": {}, "renders": {}}))
    return tmp_path


def test_an_old_baseline_has_nothing_to_screen_with(baseline: Path) -> None:
    assert load_reference(baseline, ()).fidelity is None


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_told_with_its_remedy(baseline: Path, damage: bytes) -> None:
    (baseline / fidelity.FIDELITY).write_bytes(damage)
    with pytest.raises(InfrastructureError, match=r"fidelity\.npz: .*remove it, and candidates"):
        load_reference(baseline, ())


def test_a_work_order_of_before_still_reads() -> None:
    job = Job(
        folder="x", model="m", device="cpu", options={}, repeats=5, warmup=1, texts=("la",),
        measure_ttfa=False,
    )  # fmt: skip
    values = {k: v for k, v in asdict(job).items() if k != "fidelity"}
    assert Job.from_json(json.dumps(values)) == job


def run(
    folder: Path, temperature: float, reference: Reference | None, voice: str = "FakeVoice"
) -> Outcome:
    folder.mkdir()
    job = Job(
        folder=str(folder), model=f"tests.search.fakes:{voice}", device="cpu",
        options=Options(sampling=Sampling(temperature=temperature)).to_mapping(), repeats=5,
        warmup=1, texts=("la",), measure_ttfa=False,
        utterances=tuple(asdict(u) for u in UTTERANCES),
        n_render_own=0 if reference else 4,
        fidelity=str(reference.fidelity) if reference and reference.fidelity else "",
    )  # fmt: skip
    brief = Brief(
        folder=folder, references={u.id: "la" for u in UTTERANCES}, gate=GateConfig(),
        reference=reference,
    )  # fmt: skip
    with (
        Scoring(fakes.FakeScorer()) as scoring,
        Standby(folder / "standby.log", {}) as standby,
    ):
        trial = Trial(job, brief, DEADLINES, scoring, standby, lambda phase: None, lambda: "")
        return trial.run()


@pytest.mark.slow
def test_a_broken_candidate_is_rejected_unheard_and_a_whole_one_is_heard(tmp_path: Path) -> None:
    base = run(tmp_path / "baseline", fakes.FINE, None)
    scores = [s.to_mapping() for s in base.scores]
    reference = load_reference(tmp_path / "baseline", scores)
    assert reference.fidelity == tmp_path / "baseline" / "fidelity.npz"
    assert "fidelity" in base.collected.phases

    whole = run(tmp_path / "whole", fakes.POOR, reference)
    assert whole.collected.metrics["fidelity_kl_mean"] == pytest.approx(0, abs=1e-6)
    assert whole.collected.observed["fidelity"] == "16 positions of 4 sentences"
    assert len(whole.scores) > 0  # fine tokens, poor audio: that is for the gate to hear
    assert whole.verdict is not None
    assert whole.verdict.n > 0

    broken = run(tmp_path / "broken", fakes.BABBLE, reference)
    assert (broken.status, broken.failure, broken.scores) == ("completed", None, ())
    assert broken.verdict is not None
    assert (broken.verdict.status, broken.verdict.n) == ("FAIL", 0)
    # ln(0.93) - ln(0.01) at the token it should be, the same back at the one it is sure of.
    assert broken.collected.metrics["fidelity_kl_mean"] == pytest.approx(0.92 * np.log(93), 1e-3)
    assert broken.collected.metrics["fidelity_top1"] == 0
    assert "KL 4.17 nats" in broken.verdict.reasons[0]
    assert "(limit " in broken.verdict.reasons[0]
    assert broken.collected.metrics["latency_p50_s"] > 0  # it is timed first: a loser's screen
    # It may have begun to speak before it was stopped, and nobody listened.
    phases = list(broken.collected.phases)
    assert phases[:4] == ["load", "compile", "measure", "fidelity"]
    assert set(phases[4:]) <= {"render", "synthesize"}
    assert not list((tmp_path / "broken").glob("audio/*.wav"))

    unaware = run(tmp_path / "unaware", fakes.BABBLE, replace(reference, fidelity=None))
    assert len(unaware.scores) > 0
    assert unaware.collected.observed["fidelity"].startswith("not screened: the baseline's trial")


def test_a_model_that_tells_no_probabilities_is_recorded_as_not_screened(tmp_path: Path) -> None:
    base = run(tmp_path / "baseline", fakes.FINE, None, "MuteVoice")
    reference = load_reference(tmp_path / "baseline", [s.to_mapping() for s in base.scores])
    assert reference.fidelity is None
    found = run(tmp_path / "mute", fakes.FINE, reference, "MuteVoice")
    for outcome in (base, found):
        assert outcome.collected.observed["fidelity"].startswith("not screened: the model")
    assert "fidelity_kl_mean" not in found.collected.metrics
    assert found.verdict is not None
    assert found.verdict.n == 9


@pytest.mark.slow
def test_a_sweep_records_what_the_token_level_rejected_and_goes_on(tmp_path: Path) -> None:
    config = toy.sweep(
        tmp_path,
        "study: a\nmodel: tests.search.fakes:FakeVoice\ndevice: cpu\n"
        "prompts: {path: prompts.tsv, n: 9}\nconfirm: {n: 0}\nrecipes: []\n"
        "slo: {latency_p95_s: 50}\n"
        # Quicker than the baseline: else it is its timing that settles it.
        "space: {precision: [fp32], quantization: [none], attention: [math], compile: [default],\n"
        f"  kv_cache: [static], temperature: [{fakes.BABBLE}]}}\n",
    )
    for _ in range(2):  # the second sitting finds everything there
        result = run_sweep(
            config, root=tmp_path / "runs", on_event=lambda event: None, scorer=fakes.FakeScorer()
        )
        found = [r for r in result.records if r.options["sampling"]["temperature"] == fakes.BABBLE]
        (record,) = found
        assert (record.status, verdict_label(record), record.slo_violations) == (
            "completed", "FAIL", (),
        )  # fmt: skip
        assert record.constraints["gate"] == 1.0
        assert dict(rejection_counts([record])) == {"FAIL at the token level": 1}
        told = {key: value for key, value, _ in facts.metrics(record)}
        assert told["fidelity_kl_mean"] == pytest.approx(0.92 * np.log(93), 1e-3)
        assert told["phase/fidelity_s"] >= 0
        assert "KL 4.17 nats" in facts.tags(record)["reasons"]
        assert result.winner is None
