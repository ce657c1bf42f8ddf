"""What stands, and for how long: on more utterances, on fewer, after a failure from outside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.prompts import PromptSet
from search.record import Confirmation, Failure, TrialRecord
from search.space import Candidate
from search.standing import Standing, best_standing, stands
from tests.search.confirm_fixtures import (
    BASELINE,
    FAST,
    METRIC,
    REJECTED,
    SLOW,
    Ending,
    FakeRunner,
    confirmer,
    contender,
)
from tests.search.test_record import make
from tts.options import Options

FAILED = Failure(phase="load", kind="crash", message="died of SIGBUS")
OUT_OF_MEMORY = Failure(phase="synthesize", kind="oom", message="3 GiB asked")


def sit(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, found: TrialRecord, n: int
) -> Standing:
    """Confirm on ``n`` utterances; what the records alone say of it must be the same."""
    runner.config = replace(runner.config, confirm=replace(runner.config.confirm, n=n))
    standing = confirmer(runner, monkeypatch).first_to_stand([found])
    everything = [BASELINE, found, *runner.records]
    assert best_standing([METRIC], everything, BASELINE, runner.config.confirm) == standing
    return standing


def test_a_confirmation_on_fewer_utterances_does_not_replace_one_on_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = FakeRunner({})
    turns = {"turns_winner_latency_p50_s": {"unit": "", "samples": [0.5]}}
    runner.records.append(
        make(
            role="confirm",
            digest="c" * 16,
            options=FAST.to_mapping(),
            measurements=turns,
            verdict={"status": "FAIL", "n": 16},
            judged={"planned": [8, 16, 64]},
        )
    )
    standing = confirmer(runner, monkeypatch).first_to_stand([contender(FAST, 0.5)])
    assert (standing.winner, standing.unconfirmed, runner.ran) == (None, None, [])


@pytest.mark.parametrize(
    ("speedup", "status", "expected"),
    [(2.0, "PASS", True), (2.0, "UNDECIDED", False), (2.0, "FAIL", False), (2.0, None, False),
     (2.0, "UNARMED", False), (1.0, "PASS", False), (0.0, None, False)],
)  # fmt: skip
def test_what_stands(speedup: float, status: str | None, expected: bool) -> None:
    confirmation = Confirmation(
        digest="a", metric=METRIC, baseline_samples=(), winner_samples=(),
        speedup=speedup, speedup_low=speedup, speedup_high=speedup,
        verdict=None if status is None else {"status": status},
    )  # fmt: skip
    assert stands(confirmation) is expected


@pytest.mark.parametrize(
    ("ending", "remedy"),
    [
        (SLOW, " with more time, such as --set deadlines.synthesize=600"),
        (FAILED, ""),
    ],
)
def test_a_failure_from_outside_refutes_nobody(
    ending: Failure, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unlucky(FakeRunner):
        def attempt(
            self, candidate: Candidate, role: str, prompts: PromptSet, reference: object
        ) -> TrialRecord:
            found = super().attempt(candidate, role, prompts, reference)
            return replace(found, status="failed") if found.failure == FAILED else found

    runner, found = Unlucky({Options(): [1.0], FAST: [ending, 0.5]}), contender(FAST, 0.5)
    standing = confirmer(runner, monkeypatch).first_to_stand([found])
    assert (standing.winner, standing.unconfirmed) == (None, found)
    said = f"{ending.kind} in {ending.phase}: {ending.message}"
    again = f"run the same command again{remedy}"
    assert standing.why == f"trial 1 failed on the unseen prompts ({said}): {again}"
    assert (len(runner.records), len(runner.folder.removed), runner.drafts) == (1, 1, {})
    assert sit(runner, monkeypatch, found, 8).winner == found


def test_an_earlier_record_of_a_failure_from_outside_refutes_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner, found = FakeRunner({Options(): [1.0], FAST: [0.5]}), contender(FAST, 0.5)
    turns = {f"turns_winner_{METRIC}": {"unit": "", "samples": []}}
    runner.records.append(
        make(
            role="confirm",
            options=FAST.to_mapping(),
            measurements=turns,
            verdict=None,
            status="infeasible",
            failure=SLOW,
            judged={"planned": [8]},
        )
    )
    assert sit(runner, monkeypatch, found, 8).winner == found


@pytest.mark.parametrize("ending", [REJECTED, OUT_OF_MEMORY])
def test_one_that_breaks_on_more_utterances_no_longer_stands_on_few(
    ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, found = FakeRunner({Options(): [1.0, 1.0], FAST: [0.5, ending]}), contender(FAST, 0.5)
    assert sit(runner, monkeypatch, found, 8).winner == found
    assert sit(runner, monkeypatch, found, 16) == Standing()
    assert runner.records[-1].judged["planned"] == [16]
    assert sit(runner, monkeypatch, found, 8) == Standing()


def test_one_that_is_refuted_on_more_utterances_no_longer_stands_on_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner, found = FakeRunner({Options(): [1.0, 1.0], FAST: [0.5, 0.5]}), contender(FAST, 0.5)
    assert sit(runner, monkeypatch, found, 8).winner == found
    runner.statuses[FAST] = "FAIL"
    assert sit(runner, monkeypatch, found, 16) == Standing()
    assert sit(runner, monkeypatch, found, 8) == Standing()
    assert len(runner.ran) == 4


@pytest.mark.parametrize("n", [16, 0])
def test_one_confirmed_on_fewer_than_are_asked_for_is_unconfirmed(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is over before it is heard on more, or nobody is to be heard."""
    runner, found = FakeRunner({Options(): [1.0], FAST: [0.5]}), contender(FAST, 0.5)
    assert sit(runner, monkeypatch, found, 8).winner == found
    standing = sit(runner, monkeypatch, found, n)
    assert (standing.winner, standing.confirmation, standing.unconfirmed) == (None, None, found)
    assert sit(runner, monkeypatch, found, 8).winner == found
