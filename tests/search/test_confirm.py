"""The second hearing: whose turn it is, what stands, what time allows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from search.config import ConfirmConfig, PromptsConfig, SweepConfig
from search.confirm import Confirmer, stands
from search.events import Event
from search.prompts import PromptSet
from search.record import Confirmation, Failure, TrialRecord
from search.space import Candidate
from search.trial import BudgetOverError
from tests.search.test_record import make
from tts.options import Options
from tts.types import Utterance

PHASES = {"load": 2.0, "compile": 3.0, "measure": 5.0, "synthesize": 20.0, "judge": 10.0}
BASELINE = make(
    number=0, digest="b" * 16, options=Options().to_mapping(), phases=PHASES,
    metrics={"latency_p50_s": 1.0},
)  # fmt: skip
FAST, FASTER = (Options(compile=c) for c in ("default", "max-autotune"))


def contender(options: Options, seconds: float) -> TrialRecord:
    return make(
        number=1, digest=options.digest, options=options.to_mapping(),
        metrics={"latency_p50_s": seconds}, phases=PHASES,
    )  # fmt: skip


class FakeRunner:
    """Answers each process with the next figure of its options; raises when they run out."""

    def __init__(self, pairs: int, latencies: dict[Options, list[float]]) -> None:
        self.config = SweepConfig(
            study="a", prompts=PromptsConfig(path="p"), confirm=ConfirmConfig(pairs=pairs, n=0)
        )
        self.latencies, self.ran, self.kept = latencies, list[Options](), list[TrialRecord]()
        self.removed = list[str]()
        self.folder = SimpleNamespace(remove_trial=self.removed.append, trials=Path())
        self.told, self.next_number = list[Event](), 7
        self.on_event = self.told.append

    def digest(self, options: Options, prompts: object) -> str:
        return f"confirm-{options.digest}"

    def known(self, digest: str) -> TrialRecord | None:
        return next((r for r in self.kept if r.digest == digest), None)

    def attempt(self, candidate: Candidate, *args: object, **kwargs: object) -> TrialRecord:
        options = candidate.options
        if not self.latencies[options]:
            raise BudgetOverError("the study's time is over")
        self.ran.append(options)
        seconds = self.latencies[options].pop(0)
        return make(
            role="confirm", digest=f"confirm-{options.digest}", options=options.to_mapping(),
            metrics={"latency_p50_s": seconds}, verdict=None,
        )  # fmt: skip

    def keep(self, record: TrialRecord) -> TrialRecord:
        self.kept.append(record)
        return record


def confirmer(runner: FakeRunner) -> Confirmer:
    return Confirmer(runner, BASELINE)  # type: ignore[arg-type]


def test_baseline_and_winner_take_turns() -> None:
    runner = FakeRunner(3, {Options(): [1.0, 1.2, 1.1], FAST: [0.5, 0.4, 0.55]})
    winner, confirmation = confirmer(runner).first_to_stand([contender(FAST, 0.5)])
    assert winner is not None
    assert runner.ran == [FAST, Options(), Options(), FAST, Options(), FAST]
    assert confirmation == Confirmation(
        digest=FAST.digest, metric="latency_p50_s", baseline_samples=(1.0, 1.2, 1.1),
        winner_samples=(0.5, 0.4, 0.55), speedup=pytest.approx(2.0),
        speedup_low=pytest.approx(2.0), speedup_high=pytest.approx(3.0), verdict=None,
    )  # fmt: skip
    # Another sitting reads it from the record.
    again = confirmer(runner).first_to_stand([contender(FAST, 0.5)])
    assert again == (winner, confirmation)
    assert len(runner.ran) == 6


def test_a_contender_that_was_only_lucky_makes_way_for_the_next() -> None:
    runner = FakeRunner(1, {Options(): [1.0, 1.0], FASTER: [1.3], FAST: [0.5]})
    first, second = contender(FASTER, 0.4), contender(FAST, 0.5)
    winner, confirmation = confirmer(runner).first_to_stand([first, second])
    assert winner == second
    assert confirmation is not None
    assert confirmation.speedup == pytest.approx(2.0)


def test_with_nobody_left_nobody_wins() -> None:
    runner = FakeRunner(1, {Options(): [1.0], FAST: [1.3]})
    assert confirmer(runner).first_to_stand([contender(FAST, 0.5)]) == (None, None)
    assert confirmer(runner).first_to_stand([]) == (None, None)


def test_when_the_time_is_over_the_contender_stands_unconfirmed() -> None:
    runner = FakeRunner(3, {Options(): [], FAST: []})
    found = contender(FAST, 0.5)
    assert confirmer(runner).first_to_stand([found]) == (found, None)


def test_a_shortened_confirmation_is_one() -> None:
    runner = FakeRunner(3, {Options(): [1.0, 1.0], FAST: [0.5]})
    _, confirmation = confirmer(runner).first_to_stand([contender(FAST, 0.5)])
    assert confirmation is not None
    assert len(confirmation.winner_samples) == 1


def test_it_can_be_switched_off() -> None:
    runner = FakeRunner(0, {})
    found = contender(FAST, 0.5)
    assert confirmer(runner).first_to_stand([found]) == (found, None)
    assert confirmer(runner).reserve_s([found]) == 0.0


def test_a_baseline_that_fails_on_unseen_prompts_confirms_and_spoils_nothing() -> None:
    class Failing(FakeRunner):
        def attempt(self, candidate: Candidate, *args: object, **kwargs: object) -> TrialRecord:
            failure = Failure(phase="synthesize", kind="timeout", message="too slow")
            return make(role="confirm", status="infeasible", failure=failure, metrics={})

    runner = Failing(1, {})
    found, asked = contender(FAST, 0.5), confirmer(runner)
    asked.prompts = PromptSet(
        utterances=(Utterance(id="a", text="la", seed=0),), references={"a": "la"}
    )
    assert asked.first_to_stand([found]) == (found, None)
    assert (runner.kept, len(runner.removed)) == ([], 1)
    assert "baseline failed on the unseen prompts (timeout in synthesize: too slow)" in str(
        runner.told
    )


@pytest.mark.parametrize(
    ("speedup", "status", "expected"),
    [(2.0, "PASS", True), (2.0, "UNDECIDED", False), (2.0, "FAIL", False), (2.0, None, True),
     (1.0, "PASS", False), (0.0, None, False)],
)  # fmt: skip
def test_what_stands(speedup: float, status: str | None, expected: bool) -> None:
    confirmation = Confirmation(
        digest="a", metric="latency_p50_s", baseline_samples=(), winner_samples=(),
        speedup=speedup, speedup_low=speedup, speedup_high=speedup,
        verdict=None if status is None else {"status": status},
    )  # fmt: skip
    assert stands(confirmation) is expected


def test_the_time_kept_back_follows_what_trials_took() -> None:
    runner = FakeRunner(3, {})
    # Without prompts to judge: three pairs of two times ten seconds.
    assert confirmer(runner).cost_s(contender(FAST, 0.5)) == 60.0
    assert confirmer(runner).reserve_s([]) == 0.0
