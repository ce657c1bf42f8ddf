"""The second hearing: who is heard, whose turn it is, what a kill leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.events import ConfirmStarted
from search.prompts import PromptSet
from search.record import Confirmation, TrialRecord
from search.space import Candidate
from search.standing import few, read_confirmation, stands
from tests.search.confirm_fixtures import (
    FAST,
    FASTER,
    METRIC,
    SLOW,
    Ending,
    FakeRunner,
    confirmer,
    contender,
)
from tts.options import Options


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


def test_its_time_is_estimated_by_what_trials_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both load and are timed three times, 10 s each, and speak eight for the one they spoke."""
    asked = confirmer(FakeRunner({}, pairs=3), monkeypatch)
    assert asked.cost_s(contender(FAST, 0.5)) == 2 * (3 * 10 + 8 * 30)
