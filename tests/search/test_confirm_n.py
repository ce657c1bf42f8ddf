"""How many utterances the confirmation takes where the file leaves it to the arming."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.armed import ARMING
from search.config import SweepConfig, load_config
from search.errors import ConfigError
from search.events import ConfirmStarted, Notice
from search.folder import StudyFolder
from search.prompts import PromptSet, confirm_prompts, search_prompts
from search.sections import ConfirmConfig
from tests.search.armer_fixtures import FINE, SWEEP, armer
from tests.search.armer_fixtures import FakeRunner as ArmingRunner
from tests.search.command_line import ROOM
from tests.search.confirm_fixtures import FAST, FakeRunner, confirmer, contender
from tests.search.toy import sweep
from tts.options import Options
from tts.types import Utterance

THOROUGH = ROOM / "configs" / "thorough.yaml"
PLAN = {"n": 300, "n_pairs": 256, "n_alone": 2, "alone_upper": 0.02}


def arming_file(folder: Path, plan: dict[str, Any] | None) -> None:
    arming = {"armed": True, "missed": [], "plan": plan}
    (folder / ARMING).write_text(json.dumps({"key": "k", "seconds": 1.0, "arming": arming}))


def planned(config: SweepConfig, n: int) -> PromptSet:
    """Return as many utterances of one text each as are planned; at most a thousand."""
    names = [f"u{i}" for i in range(max(config.confirm.n, min(n, 1000)))]
    return PromptSet(
        utterances=tuple(Utterance(id=name, text=f"la {name}", seed=0) for name in names),
        references=dict.fromkeys(names, "la"),
    )


def hear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: dict[str, Any] | None
) -> FakeRunner:
    """Confirm one contender with ``confirm.n: auto`` after an arming that made this plan."""
    arming_file(tmp_path, plan)
    runner = FakeRunner({Options(): [1.0], FAST: [0.5]}, n=128, auto=True)
    runner.folder.path = tmp_path  # type: ignore[attr-defined]
    found = confirmer(runner, monkeypatch)
    monkeypatch.setattr("search.confirm.confirm_prompts", planned)
    standing = found.first_to_stand([contender(FAST, 0.5)])
    assert standing.winner is not None
    return runner


def test_auto_is_read_from_the_file_and_from_the_command_line(tmp_path: Path) -> None:
    config = load_config(THOROUGH)
    assert (config.confirm.n, config.confirm.auto) == (128, True)
    fixed = load_config(THOROUGH, {"confirm.n": 200})
    assert (fixed.confirm.n, fixed.confirm.auto) == (200, False)
    quick = ROOM / "configs" / "quickstart.yaml"
    assert not load_config(quick).confirm.auto
    assert load_config(quick, {"confirm.n": "auto"}).confirm.auto
    # What a study keeps of its configuration reads back.
    assert ConfirmConfig(**config.to_mapping()["confirm"]) == config.confirm


@pytest.mark.parametrize(
    ("text", "message"),
    [("many", "'many' is neither a number nor `auto`"), ("1.5", "1.5 is not a whole number")],
)
def test_what_is_neither_a_number_nor_auto_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=r"confirm\.n") as caught:
        sweep(tmp_path, f"study: a\nprompts: {{path: prompts.tsv}}\nconfirm: {{n: {text}}}\n")
    assert message in str(caught.value)
    assert ":3:" in str(caught.value)


def test_auto_takes_128_at_least() -> None:
    with pytest.raises(ValueError, match="128 at least"):
        ConfirmConfig(n=64, auto=True)


@pytest.mark.parametrize(
    ("wanted", "n", "n_seeds"), [(0, 128, 1), (128, 128, 1), (300, 300, 3), (4096, 1184, 8)]
)
def test_a_plan_takes_further_unseen_seeds_of_the_prompts_that_are_held_back(
    wanted: int, n: int, n_seeds: int
) -> None:
    config = load_config(THOROUGH)
    spoken = confirm_prompts(config, wanted).utterances
    texts = [u.text for u in spoken]
    assert (len(spoken), max(map(texts.count, set(texts)))) == (n, n_seeds)
    assert len({u.id for u in spoken}) == len({u.seed for u in spoken}) == n
    searched = search_prompts(config).utterances
    assert {u.text for u in searched}.isdisjoint(texts)
    assert {u.seed for u in searched}.isdisjoint(u.seed for u in spoken)


def test_a_fixed_number_stays_whatever_was_planned() -> None:
    config = load_config(THOROUGH, {"confirm.n": 200})
    assert len(confirm_prompts(config, 900).utterances) == 200


def test_the_confirmation_takes_what_was_planned_and_records_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = hear(tmp_path, monkeypatch, PLAN)
    assert [record.judged["planned"] for record in runner.records] == [[300], [300]]
    (started,) = (event for event in runner.told if isinstance(event, ConfirmStarted))
    assert started.n == 300
    assert not any(isinstance(event, Notice) for event in runner.told)


@pytest.mark.parametrize(
    ("plan", "n", "said"),
    [
        (None, 128, "nothing was planned by an arming, so the confirmation takes n=128"),
        ({**PLAN, "n": 114}, 128, ""),
        ({**PLAN, "n": 2000}, 1000, "the gate's arming planned n=2000; the prompts give n=1000"),
        ({**PLAN, "n": None}, 1000, "planned more than n=4096; the prompts give n=1000"),
    ],
)
def test_what_the_plan_is_short_of_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: dict[str, Any] | None, n: int, said: str
) -> None:
    runner = hear(tmp_path, monkeypatch, plan)
    assert runner.records[-1].judged["planned"] == [n]
    notices = [event.message for event in runner.told if isinstance(event, Notice)]
    assert len(notices) == bool(said)
    assert said in "".join(notices)


def test_a_confirmation_on_fewer_than_planned_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = hear(tmp_path, monkeypatch, {**PLAN, "n": 114})
    runner.latencies = {Options(): [1.0], FAST: [0.5]}
    arming_file(tmp_path, PLAN)
    found = confirmer(runner, monkeypatch)
    monkeypatch.setattr("search.confirm.confirm_prompts", planned)
    assert found.first_to_stand([contender(FAST, 0.5)]).winner is not None
    assert [record.judged["planned"] for record in runner.records] == [[128]] * 2 + [[300]] * 2


@pytest.mark.parametrize(
    ("confirm", "n_final"), [("n: 128", 128), ("n: 200", 200), ("n: auto", None), ("n: 0", None)]
)
def test_the_arming_knows_what_the_confirmation_will_take(
    tmp_path: Path, toy_sweep: Callable[[str], SweepConfig], confirm: str, n_final: int | None
) -> None:
    config = toy_sweep(SWEEP.replace("confirm: {n: 0}", f"confirm: {{{confirm}}}"))
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        runner = ArmingRunner(config, folder, FINE)
        found = armer(runner).arm()
    assert found is not None
    assert found.n_final == n_final
    assert found.plan is not None
    assert (found.plan.n, found.plan.n_pairs, found.plan.n_alone) == (114, 9, 0)
    assert "0 of 9 pairs are ruined on one hearing alone" in found.summary
    assert ("times in 100 takes n=114" in found.summary) == (n_final is None)
    kept = json.loads((folder.path / ARMING).read_text(encoding="utf-8"))
    assert kept["arming"] == json.loads(json.dumps(found.to_mapping()))


def test_another_confirmation_is_told_without_another_arming(
    tmp_path: Path, toy_sweep: Callable[[str], SweepConfig]
) -> None:
    with StudyFolder(tmp_path / "mlruns", "a") as folder:
        first = armer(ArmingRunner(toy_sweep(SWEEP), folder, FINE)).arm()
        more = toy_sweep(SWEEP.replace("confirm: {n: 0}", "confirm: {n: 128}"))
        again = armer(ArmingRunner(more, folder)).arm()
        kept = json.loads((folder.path / ARMING).read_text(encoding="utf-8"))
    assert first is not None
    assert again == dataclasses.replace(first, n_final=128)
    assert kept["arming"]["n_final"] == 128


def test_who_only_reads_a_study_asks_for_as_many_as_the_sweep_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from search.armed import CONFIRMATION
    from search.armed import planned as asked
    from search.errors import InfrastructureError
    from search.sections import ConfirmConfig

    auto, fixed = ConfirmConfig(auto=True), ConfirmConfig(n=128)
    assert asked(auto, tmp_path).n == 128  # nothing was planned yet
    hear(tmp_path, monkeypatch, {**PLAN, "n": 400})
    assert asked(auto, tmp_path).n == 400
    assert asked(fixed, tmp_path).n == 128
    (tmp_path / CONFIRMATION).write_text("{}")
    with pytest.raises(InfrastructureError, match=r"confirmation\.json"):
        asked(auto, tmp_path)
