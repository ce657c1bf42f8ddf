"""The second hearing: who is heard, whose turn it is, what stands, what a kill leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

from search.config import SweepConfig
from search.confirm import Confirmer
from search.events import ConfirmStarted, Event
from search.prompts import PromptSet
from search.record import Confirmation, Failure, TrialRecord
from search.sections import ConfirmConfig, PromptsConfig
from search.space import Candidate
from search.standing import Standing, best_standing, few, read_confirmation, stands
from search.trial import BudgetOverError
from tests.search.test_record import make
from tts.options import Options
from tts.types import Utterance

PHASES = {"load": 2.0, "compile": 3.0, "measure": 5.0, "synthesize": 20.0, "judge": 10.0}
METRIC = "latency_p50_s"
BASELINE = make(
    number=0, digest="b" * 16, options=Options().to_mapping(), phases=PHASES,
    metrics={METRIC: 1.0},
)  # fmt: skip
FAST, FASTER = (Options(compile=c) for c in ("default", "max-autotune"))
REJECTED = "rejected"  # at the token level: nothing is heard and nothing timed
SLOW = Failure(phase="synthesize", kind="timeout", message="too slow")
OUT_OF_MEMORY = Failure(phase="synthesize", kind="oom", message="3 GiB asked")
Ending = float | Failure | Literal["rejected"]


def unseen(config: SweepConfig) -> PromptSet:
    """Return as many prompts as the confirmation asks for."""
    names = [f"u{i}" for i in range(config.confirm.n)]
    return PromptSet(
        utterances=tuple(Utterance(id=name, text=f"la {name}", seed=0) for name in names),
        references=dict.fromkeys(names, "la"),
    )


def contender(options: Options, seconds: float) -> TrialRecord:
    return make(
        number=1, digest=options.digest, options=options.to_mapping(),
        metrics={METRIC: seconds}, phases=PHASES,
    )  # fmt: skip


class Accounts:
    """A folder that knows whose time is running."""

    def __init__(self) -> None:
        self.account, self.removed, self.trials = "search", list[str](), Path()

    def spend_on(self, account: str) -> None:
        self.account = account

    def accounts(self) -> dict[str, float]:
        return {"search": 0.0, "confirm": 0.0}

    def remove_trial(self, name: str) -> None:
        self.removed.append(name)


class FakeRunner:
    """Answers each process with the next ending of its options; the time is over after them."""

    def __init__(
        self,
        latencies: dict[Options, list[Ending]],
        *,
        statuses: dict[Options, str] | None = None,
        **confirm: int,
    ) -> None:
        self.config = SweepConfig(
            study="a", prompts=PromptsConfig(path="p"),
            confirm=ConfirmConfig(**{"pairs": 1, "n": 8, **confirm}),  # type: ignore[arg-type]
        )  # fmt: skip
        self.latencies, self.statuses = latencies, statuses or {}
        self.ran, self.records = list[Options](), list[TrialRecord]()
        self.drafts = dict[str, TrialRecord]()
        self.folder, self.told = Accounts(), list[Event]()
        self.on_event = self.told.append

    def digest(self, options: Options, prompts: object) -> str:
        assert isinstance(prompts, PromptSet)
        return f"confirm-{options.digest}-{len(prompts.utterances)}"

    def known(self, digest: str) -> TrialRecord | None:
        return next((r for r in self.records if r.digest == digest), None)

    def draft(self, digest: str) -> TrialRecord | None:
        return self.drafts.get(digest)

    def attempt(
        self, candidate: Candidate, role: str, prompts: PromptSet, reference: object
    ) -> TrialRecord:
        assert self.folder.account == "confirm"
        options, n = candidate.options, len(prompts.utterances)
        if not self.latencies[options]:
            raise BudgetOverError("the confirmation's time is over")
        self.ran.append(options)
        ending = self.latencies[options].pop(0)
        found = make(
            role=role, digest=self.digest(options, prompts), options=options.to_mapping(),
            number=10 + len(self.ran), metrics={}, verdict=None,
        )  # fmt: skip
        if isinstance(ending, Failure):
            return replace(found, status="infeasible", failure=ending)
        if ending == REJECTED:
            return replace(found, verdict={"status": "FAIL", "n": 0})
        status = self.statuses.get(options, "PASS")
        judged = {"planned": [n], "looks": [{"n": n, "status": status}], "n_spoken": n}
        verdict = {"status": status, "n": n}
        return replace(found, metrics={METRIC: ending}, verdict=verdict, judged=judged)

    def put_off(self, record: TrialRecord) -> TrialRecord:
        self.drafts[record.digest] = record
        return record

    def keep(self, record: TrialRecord) -> TrialRecord:
        self.drafts.pop(record.digest, None)
        self.records.append(record)
        return record


def confirmer(runner: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> Confirmer:
    monkeypatch.setattr("search.confirm.confirm_prompts", unseen)
    found = Confirmer(runner, BASELINE)  # type: ignore[arg-type]
    monkeypatch.setattr(found, "reference", lambda base: SimpleNamespace())
    return found


def test_baseline_and_contender_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner({Options(): [1.0, 1.2, 1.1], FAST: [0.5, 0.4, 0.55]}, pairs=3)
    standing = confirmer(runner, monkeypatch).first_to_stand([contender(FAST, 0.5)])
    assert standing.winner is not None
    assert runner.ran == [Options(), FAST, Options(), FAST, Options(), FAST]
    assert standing.confirmation == Confirmation(
        digest=FAST.digest, metric=METRIC, baseline_samples=(1.0, 1.2, 1.1),
        winner_samples=(0.5, 0.4, 0.55), speedup=pytest.approx(2.0),
        speedup_low=pytest.approx(2.0), speedup_high=pytest.approx(3.0),
        verdict={"status": "PASS", "n": 8}, n_pairs=3,
    )  # fmt: skip
    assert (standing.unconfirmed, standing.why) == (None, "")
    assert runner.folder.account == "search"
    # Another sitting reads it from the record.
    again = confirmer(runner, monkeypatch).first_to_stand([contender(FAST, 0.5)])
    assert again == standing
    assert len(runner.ran) == 6


def test_the_baseline_is_heard_once_for_all_contenders(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that passed the search by luck makes way for the next."""
    runner = FakeRunner(
        {Options(): [1.0], FASTER: [0.4], FAST: [0.5]}, statuses={FASTER: "FAIL"}
    )  # fmt: skip
    first, second = contender(FASTER, 0.4), contender(FAST, 0.5)
    standing = confirmer(runner, monkeypatch).first_to_stand([first, second])
    assert standing.winner == second
    assert runner.ran == [Options(), FASTER, FAST]
    started = [event for event in runner.told if isinstance(event, ConfirmStarted)]
    assert [(event.n_contenders, event.n) for event in started] == [(2, 8)]


def test_one_that_is_not_faster_in_turn_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner({Options(): [1.0], FAST: [1.3]})
    standing = confirmer(runner, monkeypatch).first_to_stand([contender(FAST, 0.5)])
    assert (standing.winner, standing.unconfirmed) == (None, None)
    assert confirmer(runner, monkeypatch).first_to_stand([]).why == ""


def test_no_more_than_k_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner(
        {Options(): [1.0], FASTER: [0.4], FAST: [0.5]}, statuses={FASTER: "UNDECIDED"}, k=1
    )
    found = [contender(FASTER, 0.4), contender(FAST, 0.5)]
    standing = confirmer(runner, monkeypatch).first_to_stand(found)
    assert (standing.winner, standing.unconfirmed) == (None, None)
    assert "none stood: run the same command again with --set confirm.k=2" in standing.why
    assert runner.ran == [Options(), FASTER]


@pytest.mark.parametrize("baseline", [[], [1.0]])
def test_when_the_time_is_over_first_nobody_is_confirmed(
    baseline: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = FakeRunner({Options(): baseline, FAST: []}, seconds=60)
    found = contender(FAST, 0.5)
    standing = confirmer(runner, monkeypatch).first_to_stand([found])
    assert (standing.winner, standing.confirmation, standing.unconfirmed) == (None, None, found)
    assert "time of 60 s was over" in standing.why
    assert "--set confirm.seconds=120" in standing.why


def test_a_confirmation_that_is_left_out_confirms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner({}, n=0)
    found = contender(FAST, 0.5)
    standing = confirmer(runner, monkeypatch).first_to_stand([found])
    assert (standing.winner, standing.unconfirmed) == (None, found)
    assert "--set confirm.n=128" in standing.why


def test_when_the_time_is_over_between_turns_the_next_sitting_takes_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = FakeRunner({Options(): [1.0, 1.0], FAST: [0.5]}, pairs=3, seconds=60)
    found = contender(FAST, 0.5)
    standing = confirmer(runner, monkeypatch).first_to_stand([found])
    assert (standing.winner, standing.unconfirmed) == (None, found)
    assert "--set confirm.seconds=120" in standing.why
    assert [len(r.measurements) for r in runner.drafts.values()] == [3]
    runner.latencies = {Options(): [1.0], FAST: [0.5, 0.5]}
    standing = confirmer(runner, monkeypatch).first_to_stand([found])
    assert standing.confirmation is not None
    assert len(standing.confirmation.baseline_samples) == 3
    assert len(standing.confirmation.winner_samples) == 3
    assert few(standing.confirmation) == "confirmed on n = 8 utterances only"


@pytest.mark.parametrize(("n_failed", "n_pairs"), [(1, 3), (2, 1)])
def test_a_turn_that_fails_is_taken_once_more(
    n_failed: int, n_pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    latencies: list[Ending] = [0.5, *[SLOW] * n_failed, 0.5, 0.5]
    runner = FakeRunner({Options(): [1.0, 1.0, 1.0], FAST: latencies}, pairs=3)
    standing = confirmer(runner, monkeypatch).first_to_stand([contender(FAST, 0.5)])
    assert standing.confirmation is not None
    assert len(standing.confirmation.winner_samples) == n_pairs
    warning = "confirmed on n = 8 utterances only"
    if n_pairs < 3:
        warning += "; timed in 1 of 3 pairs only, since a turn failed twice"
    assert few(standing.confirmation) == warning


@pytest.mark.parametrize("n_done", [1, 2, 3, 4, 5])
def test_a_kill_loses_no_hearing_and_no_turn(n_done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies after so many of the six processes; the next sitting runs the others."""

    class Killed(BaseException):
        pass

    class Mortal(FakeRunner):
        lives = n_done

        def attempt(
            self, candidate: Candidate, role: str, prompts: PromptSet, reference: object
        ) -> TrialRecord:
            if not self.lives:
                raise Killed
            self.lives -= 1
            return super().attempt(candidate, role, prompts, reference)

    runner = Mortal({Options(): [1.0, 1.2, 1.1], FAST: [0.5, 0.4, 0.55]}, pairs=3)
    with pytest.raises(Killed):
        confirmer(runner, monkeypatch).first_to_stand([contender(FAST, 0.5)])
    runner.lives = 6 - n_done
    standing = confirmer(runner, monkeypatch).first_to_stand([contender(FAST, 0.5)])
    assert standing.confirmation is not None
    assert standing.confirmation.baseline_samples == (1.0, 1.2, 1.1)
    assert standing.confirmation.winner_samples == (0.5, 0.4, 0.55)
    assert runner.drafts == {}


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


def test_a_baseline_that_fails_on_unseen_prompts_confirms_and_spoils_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = FakeRunner({Options(): [SLOW]})
    found = contender(FAST, 0.5)
    standing = confirmer(runner, monkeypatch).first_to_stand([found])
    assert (standing.winner, standing.unconfirmed) == (None, found)
    assert (runner.records, len(runner.folder.removed)) == ([], 1)
    said = "the baseline failed on the unseen prompts (timeout in synthesize: too slow)"
    assert standing.why.startswith(said)


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


def test_one_that_misses_a_service_level_there_does_not_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Missing(FakeRunner):
        def attempt(
            self, candidate: Candidate, role: str, prompts: PromptSet, reference: object
        ) -> TrialRecord:
            found = super().attempt(candidate, role, prompts, reference)
            missed = ("rtf 2 is above the limit 1",) if candidate.options == FASTER else ()
            return replace(found, slo_violations=missed)

    runner = Missing({Options(): [1.0, 1.0], FASTER: [0.4], FAST: [0.5, 0.5]}, pairs=2)
    first, second = contender(FASTER, 0.4), contender(FAST, 0.5)
    standing = confirmer(runner, monkeypatch).first_to_stand([first, second])
    assert standing.winner == second
    assert runner.ran == [Options(), FASTER, FAST, Options(), FAST]  # and none timed in vain
    refuted = read_confirmation(runner.records[1], FASTER.digest, METRIC)
    assert refuted.slo_violations == ("rtf 2 is above the limit 1",)
    assert not stands(replace(refuted, speedup=2.0))


FAILED = Failure(phase="load", kind="crash", message="died of SIGBUS")


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


def test_its_time_is_estimated_by_what_trials_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both load and are timed three times, 10 s each, and speak eight for the one they spoke."""
    asked = confirmer(FakeRunner({}, pairs=3), monkeypatch)
    assert asked.cost_s(contender(FAST, 0.5)) == 2 * (3 * 10 + 8 * 30)


def sit(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, found: TrialRecord, n: int
) -> Standing:
    """Confirm on ``n`` utterances; what the records alone say of it must be the same."""
    runner.config = replace(runner.config, confirm=replace(runner.config.confirm, n=n))
    standing = confirmer(runner, monkeypatch).first_to_stand([found])
    everything = [BASELINE, found, *runner.records]
    assert best_standing([METRIC], everything, BASELINE, runner.config.confirm) == standing
    return standing


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
