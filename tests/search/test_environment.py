"""What a content address is made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from evaluation.fidelity import FidelityConfig
from search.config import SweepConfig, digest_of
from search.environment import describe, model_digest, study_conditions, trial_digest
from search.errors import ConfigError, StudyMismatchError
from search.folder import StudyFolder
from search.prompts import PromptSet, references_of
from search.sections import PromptsConfig
from search.space import resolve
from tests.search.test_space import CPU
from tts.options import Options
from tts.types import Utterance

UTTERANCES = (Utterance(id="a", text="la", seed=1),)
PROMPTS = PromptSet(utterances=UTTERANCES, references={"a": "la"})


SCORED_BY = {"speechmos": "1", "code_sha256": "ab"}


def conditions(
    prompts: PromptSet = PROMPTS, scored_by: Mapping[str, str] = SCORED_BY, **changes: object
) -> dict[str, str]:
    values = {"study": "a", "prompts": PromptsConfig(path="p"), **changes}
    config = SweepConfig(**values)  # type: ignore[arg-type]
    return study_conditions(config, resolve(config, CPU), describe(CPU, 1), prompts, scored_by)


def test_weights_are_known_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    model = f"embedded:{tmp_path}"
    first = model_digest(model)
    assert model_digest(model) == first
    (tmp_path / "manifest.json").write_text("{ }")
    assert model_digest(model) != first


@pytest.mark.parametrize("model", ["embedded:/nowhere", "no_such_module:Voice", "a.b.c:Voice"])
def test_a_model_that_is_not_there_is_named(model: str) -> None:
    with pytest.raises(ConfigError, match="model: "):
        model_digest(model)


def test_an_adapter_is_known_by_its_source() -> None:
    assert model_digest("tests.search.fakes:FakeVoice") == model_digest("tests.search.fakes:Other")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("asr", {"asr": "base.en"}),
        ("baseline", {"baseline": Options(precision="bf16")}),
        ("objectives", {"objectives": ("rtf",)}),
        ("gate", {"screen": FidelityConfig(max_kl_mean=1.0)}),
        ("slo", {"slo": {"rtf": 1.0}}),
        ("prompts", {"prompts": PromptSet(utterances=(), references={})}),
    ],
)
def test_what_decides_results_is_a_condition(name: str, changes: dict[str, object]) -> None:
    first = conditions()
    if name == "prompts":
        other = conditions(PromptSet(utterances=(), references={}))
    else:
        other = conditions(**changes)
    assert {k for k in first if first[k] != other[k]} == {name}


def test_the_code_of_the_metrics_is_a_condition() -> None:
    first, other = conditions(), conditions(scored_by={**SCORED_BY, "code_sha256": "cd"})
    assert {k for k in first if first[k] != other[k]} == {"metrics"}


def test_a_study_does_not_go_on_with_other_metrics(tmp_path: Path) -> None:
    before, after = conditions(), conditions(scored_by={**SCORED_BY, "code_sha256": "cd"})
    with StudyFolder(tmp_path, "a") as folder:
        folder.check_conditions(before, {})
        folder.check_conditions(before, {})
        change = f"metrics was {before['metrics']}, is {after['metrics']}"
        with pytest.raises(StudyMismatchError, match=f"{change}.*give this sweep another name"):
            folder.check_conditions(after, {})


def test_every_reference_counts_the_confirmations_too(tmp_path: Path) -> None:
    table = "id\tstratum\ttext\treference\n" + "".join(f"p{i}\ts\tLa {i}.\tla\n" for i in range(9))
    digests = []
    for content in (table, table.replace("La 8.\tla", "La 8.\tla eight")):
        (tmp_path / "p.tsv").write_text(content, encoding="utf-8")
        for n in (2, 3):
            prompts = PromptsConfig(path=str(tmp_path / "p.tsv"), n=n)
            digests.append(references_of(SweepConfig(study="a", prompts=prompts)))
    assert digests[0] == digests[1] != digests[2] == digests[3]


def test_what_does_not_is_none() -> None:
    assert conditions(seed=7, recipes=(), sampler="gp") == conditions()


def test_a_trial_is_known_by_options_and_utterances() -> None:
    first = trial_digest(Options(), conditions(), UTTERANCES)
    assert first == trial_digest(Options(), conditions(), UTTERANCES)
    assert first != trial_digest(Options(precision="bf16"), conditions(), UTTERANCES)
    assert first != trial_digest(Options(), conditions(), ())
    assert first != trial_digest(Options(), {**conditions(), "device": "another"}, UTTERANCES)


def test_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


def test_a_study_of_before_the_screen_goes_on_with_its_default_limits() -> None:
    gate = SweepConfig(study="a", prompts=PromptsConfig(path="p")).to_mapping()["gate"]
    assert conditions()["gate"] == digest_of(gate)
