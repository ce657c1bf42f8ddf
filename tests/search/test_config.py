"""A sweep's YAML: what it becomes, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.gate import GateConfig
from search.config import ConfigError, SweepConfig, load_config
from search.prompts import confirm_prompts, search_prompts
from tts.options import Options

CONFIGS = Path(__file__).parents[2] / "configs"
MINIMAL = "study: a\nprompts: {path: prompts.tsv}\n"


def load(folder: Path, text: str, overrides: dict[str, object] | None = None) -> SweepConfig:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def test_a_minimal_file_has_the_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    assert config.objectives == ("latency_p50_s",)
    assert config.baseline == Options()
    assert config.space.precision == ("auto",)
    assert config.prompts_path == tmp_path / "prompts.tsv"
    assert (config.confirm.k, config.confirm.n, config.confirm.pairs) == (3, 128, 3)
    assert config.confirm.seconds is None


def test_the_shipped_quickstart_loads() -> None:
    config = load_config(CONFIGS / "quickstart.yaml")
    assert config.study == "quickstart"
    assert 0 < (config.budget.seconds or 0) < 600  # ten minutes
    assert config.measure.repeats >= 5


def test_the_thorough_file_keeps_the_strict_margins() -> None:
    config = load_config(CONFIGS / "thorough.yaml")
    assert config.gate == GateConfig()
    assert config.prompts.n >= 128
    assert config.prompts.seeds > 1


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_file_confirms_its_winner(path: Path) -> None:
    config = load_config(path)
    spoken = confirm_prompts(config).utterances
    assert len(spoken) == config.confirm.n >= 128
    assert {u.text for u in spoken}.isdisjoint(u.text for u in search_prompts(config).utterances)
    assert len({(u.text, u.seed) for u in spoken}) == len(spoken)


def test_nested_values_are_typed(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL + "baseline: {precision: bf16, sampling: {temperature: 1}}\n")
    assert config.baseline.precision == "bf16"
    assert config.baseline.sampling.temperature == 1.0
    assert load(tmp_path, MINIMAL + "space: {precision: bf16}").space.precision == ("bf16",)


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    text = MINIMAL + "budget: {seconds: 60, max_trials: 5}\n"
    config = load(tmp_path, text, {"budget.seconds": 30, "device": "cpu", "asr": None})
    assert (config.budget.seconds, config.budget.max_trials) == (30.0, 5)
    assert (config.device, config.asr) == ("cpu", "embedded")


def test_the_digest_is_of_the_values_and_not_of_their_place(tmp_path: Path) -> None:
    one = load(tmp_path, MINIMAL + "seed: 1\n")
    other = load(tmp_path, "# a comment\nseed: 1\n" + MINIMAL)
    assert one.digest == other.digest
    assert one.digest != load(tmp_path, MINIMAL + "seed: 2\n").digest
    assert one == other


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("stduy: b", 3, "did you mean 'study'?"),
        ("prompts: {path: y}", 3, "duplicate key 'prompts', first on line 2"),
        ("space:\n  precison: auto", 4, "did you mean 'precision'?"),
        ("space:\n  precision:\n    - fp32\n    - bf1", 6, "did you mean 'bf16'?"),
        ("space:\n  batch_size: [1,\n    two]", 5, "'two' is not a whole number"),
        ("space: {batch_size: [0]}", 3, "0 is below 1"),
        ("space: {top_p: [2.0]}", 3, "outside [1e-06, 1.0]"),
        ("space:\n  batch_size: []", 4, "the space is empty"),
        ("space: {precision: [fp32, fp32]}", 3, "listed twice"),
        ("slo: {rtf: 0}", 3, "can never be met"),
        ("slo: {rtf: -1}", 3, "can never be met"),
        ("slo: {rtf: .nan}", 3, "can never be met"),
        ("slo: {\n  rfd: 1}", 4, "did you mean 'rtf'?"),
        ("objectives: [latency]", 3, "did you mean 'latency_p"),
        ("objectives: []", 3, "one or more"),
        ("baseline:\n  precision: fp31", 4, "did you mean 'fp32'?"),
        ("baseline: {sampling:\n   {temperature: -1}}", 4, "outside [0.0, 5.0]"),
        ("gate: {mos_budget: 1}", 3, "did you mean 'mos_budget_pct'?"),
        ("gate:\n  mos_budget_pct: 0", 4, "between 0 and 100"),
        ("screen:\n  max_kl_mean: 0", 4, "screen.max_kl_mean: must be above 0"),
        ("budget: {seconds: 0}", 3, "at least 1"),
        ("budget: {seconds: soon}", 3, "not a number"),
        ("confirm: {k: 0}", 3, "at least 1"),
        ("confirm: {pairs: 0}", 3, "at least 1"),
        ("confirm: {seconds: 0}", 3, "at least 1"),
        ("confirm:\n  n: 4", 4, "4 can never pass, since gate.min_n is 8"),
        ("budget: 540", 3, "a section"),
        ("measure: {repeats: 2}", 3, "at least 5"),
        ("measure: {texts: ['']}", 3, "none of them empty"),
        ("x: &a [*a]", 3, "anchors"),
        ("seed: true", 3, "not a whole number"),
        ("seed: 2024-13-45", 3, "cannot be read"),
        ("sampler: tpf", 3, "did you mean 'tpe'?"),
        ("[a]: b", 3, "a key must be plain text"),
        ("seed: [", 4, "expected"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, MINIMAL + text + "\n")
    assert caught.value.line == line
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'sweep.yaml'}:{line}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: a", "the key 'prompts' is missing"),
        ("study: ../a\nprompts: {path: x}", "sweep.yaml:1: study: use letters"),
        ("study: artifacts\nprompts: {path: x}", "sweep.yaml:1: study: 'artifacts' is taken"),
        ("study: MLflow.db\nprompts: {path: x}", "use another name"),
        ("study: 2024\nprompts: {path: x}", "not text"),
        ("", "a sweep is a mapping"),
        ("- a", "a sweep is a mapping"),
        (MINIMAL + "\0", "is not YAML"),
        (MINIMAL + "measure: {repeats: 1\n\tx", "sweep.yaml"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.yaml") as caught:
        load(tmp_path, text)
    assert message in str(caught.value)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"study: \xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_config(tmp_path / "binary.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("budget.seconds", "soon", "command line: budget.seconds: 'soon' is not a number"),
        ("budget.secnds", 1, "did you mean 'seconds'?"),
        ("study.name", "b", "'study' is not a section"),
        ("slo.rtf", 0.0, "command line: slo.rtf: 0 can never be met"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_as_such(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, MINIMAL, {key: value})
    assert message in str(caught.value)
