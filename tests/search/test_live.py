"""What is seen while a sweep runs, with a clock that the test turns."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from search.events import (
    ConfirmStarted,
    Event,
    Notice,
    PhaseHeld,
    PhaseStarted,
    SweepFinished,
    SweepStarted,
    TrialFinished,
    TrialStarted,
)
from search.live import (
    LiveView,
    PlainView,
    confirming,
    finished_line,
    open_view,
    opening,
)
from search.progress import Progress
from search.record import Failure, Role
from tests.search import record_fixtures as fixtures


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tests run in: where TERM is "dumb", no console is a terminal to rich."""
    monkeypatch.setenv("TERM", "xterm-256color")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def started(seconds: float | None = 540.0) -> SweepStarted:
    return SweepStarted(
        study="toy",
        device="a toy CPU",
        objectives=("latency_p50_s",),
        max_trials=40,
        seconds=seconds,
        spent_s=60.0,
        confirm_n=128,
    )


def trial(number: int) -> TrialStarted:
    options = fixtures.record(number).options
    return TrialStarted(number=number, total=40, role="search", options=options)


def events() -> list[Event]:
    found: list[Event] = [started(), Notice(message="recipe [int4] is not for this device")]
    for record in fixtures.records():
        found.append(trial(record.number))
        found.append(PhaseStarted(number=record.number, phase="measure", deadline_s=90.0))
        found.append(TrialFinished(record=record))
    return [*found, SweepFinished(result=fixtures.result())]


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain_lines(width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with PlainView(console, now=Clock()) as view:
        for event in events():
            view.take(event)
    return written(console).splitlines()


def test_plain_lines_say_number_options_metric_verdict_and_reason() -> None:
    assert plain_lines() == [
        (
            "study toy on a toy CPU: latency_p50_s, at most 40 trials, about 9 minutes for the "
            "search, then the confirmation on 128 unseen utterances"
        ),
        "note: recipe [int4] is not for this device",
        "[0/40] fp32 eager dynamic b1: latency p50 400 ms, baseline",
        "[1/40] bf16 eager dynamic b4: latency p50 200 ms, PASS (P808 ≥ -2.0 %, n=16)",
        "[2/40] bf16 default dynamic b4: latency p50 100 ms, PASS (P808 ≥ -2.0 %, n=16)",
        (
            "[3/40] fp16 eager dynamic b1 T=1.5: latency p50 50 ms, FAIL (P808 ≥ -10.5 %, n=16): "
            "dnsmos_p808: upper bound -7.5 % is below -5 %"
        ),
        (
            "[4/40] fp32 eager dynamic b64: infeasible: oom while measure: CUDA out of memory: "
            "3 GiB asked"
        ),
    ]


def test_plain_lines_are_never_wrapped() -> None:
    assert plain_lines(20) == plain_lines(200)


def test_time_left_follows_the_clock() -> None:
    clock = Clock()
    progress = Progress(now=clock)
    progress.take(started())
    progress.take(trial(1))
    progress.take(PhaseStarted(number=1, phase="compile", deadline_s=240.0))
    clock.now += 30
    assert progress.budget_left_s() == 450.0  # 540 - 60 spent before - 30
    assert progress.phase_left_s() == 210.0
    clock.now += 1000
    assert progress.budget_left_s() == 0.0
    assert progress.phase_left_s() == 0.0
    progress.take(started(seconds=None))
    assert progress.budget_left_s() is None


def confirm_started(seconds: float | None) -> ConfirmStarted:
    return ConfirmStarted(n_contenders=3, n=128, about_s=250.0, seconds=seconds, spent_s=20.0)


def test_the_confirmation_has_a_time_of_its_own() -> None:
    clock = Clock()
    progress = Progress(now=clock)
    progress.take(started())
    clock.now += 500
    progress.take(confirm_started(None))
    clock.now += 70
    assert progress.time_said() == "1:10 of the confirmation, about 4:10 a contender"
    progress.take(confirm_started(300.0))
    clock.now += 10
    assert progress.time_said() == "4:30 left for the confirmation"
    assert confirming(confirm_started(300.0)) == (
        "the search is over; confirming the best 3, one by one, on 128 unseen utterances: about "
        "4:10 for the first, at most 4:40"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"confirm_n": 0}, "no confirmation (nothing can be exported)"),
        ({"confirm_n": 32, "confirm_s": 60.0}, "32 unseen utterances, about 60 s"),
        ({"is_least": True}, "on at least 128 unseen utterances"),
        ({"seconds": None}, "at most 40 trials, then the confirmation"),
    ],
)
def test_the_opening_says_what_the_time_is_for(changes: dict[str, Any], said: str) -> None:
    assert said in opening(dataclasses.replace(started(), **changes))


def test_what_shows_nothing_is_counted_apart() -> None:
    progress = Progress(now=Clock())
    for i, status in enumerate(("UNDECIDED", "UNGATED", "UNARMED", "UNARMED", "FAIL")):
        found = fixtures.record(i, verdict=fixtures.verdict(status, ("so it is",)))
        progress.take(TrialFinished(record=found))
    assert progress.counted() == "1 FAIL, 1 UNDECIDED, 1 UNGATED, 2 UNARMED"


def test_the_best_and_the_counts_follow_the_records() -> None:
    progress = Progress(now=Clock())
    assert progress.best_said() == "nothing accepted yet"
    for event in events():
        progress.take(event)
    assert progress.best_said() == (
        "002 bf16 default dynamic b4: latency p50 100 ms, 4.00 × the baseline"
    )
    assert progress.counted() == "2 accepted, 1 FAIL, 1 infeasible"


def test_what_could_not_win_is_neither_rejected_nor_judged() -> None:
    progress = Progress(now=Clock())
    progress.take(started())
    for record in (fixtures.baseline(), fixtures.rejected(3), fixtures.surpassed(5)):
        progress.take(TrialFinished(record=record))
    assert progress.counted() == "1 FAIL, 1 surpassed"
    assert progress.last_rejected == fixtures.rejected(3)
    assert finished_line(fixtures.surpassed(5), "latency_p50_s", 40) == (
        "[5/40] fp16 eager dynamic b4: latency p50 300 ms, surpassed: not heard: "
        "trial 2 is at least as good in latency_p50_s"
    )
    assert finished_line(fixtures.surpassed_when_heard(5), "latency_p50_s", 40) == (
        "[5/40] fp16 eager dynamic b4: latency p50 300 ms, surpassed: stopped after 6 utterances: "
        "trial 2 is at least as good in latency_p50_s"
    )


def test_a_resumed_sweep_knows_what_was_found_before() -> None:
    progress = Progress(now=Clock())
    resumed = dataclasses.replace(started(), known=fixtures.records())
    progress.take(resumed)
    assert progress.counted() == "2 accepted, 1 FAIL, 1 infeasible"
    assert progress.best_said().endswith("4.00 × the baseline")
    assert opening(resumed).endswith("128 unseen utterances; 5 records known from before")


def test_a_confirmation_is_not_a_candidate() -> None:
    progress = Progress(now=Clock())
    progress.take(started())
    progress.take(TrialFinished(record=fixtures.record(7, role="confirm", latency=0.01)))
    assert progress.best is None
    assert progress.counted() == "no candidate finished yet"


def test_a_confirmation_has_no_number_among_the_trials() -> None:
    again = fixtures.record(41, role="confirm", verdict=None)
    assert finished_line(again, "latency_p50_s", 40) == (
        "[confirm] bf16 default dynamic b4: latency p50 100 ms, heard again"
    )


def test_the_panel_shows_trial_phase_time_best_and_last_reason() -> None:
    clock = Clock()
    console = Console(file=io.StringIO(), width=100)
    view = LiveView(console, now=clock)
    for event in events()[:-1]:
        view.take(event)
    view.take(trial(5))
    view.take(PhaseStarted(number=5, phase="synthesize", deadline_s=150.0))
    clock.now += 20
    console.print(view.panel())
    shown = written(console)
    for words in (
        "5 of 40: bf16 default dynamic b4 (search)",
        "synthesize",
        "2:10 until its deadline",
        "7:40 left for the search",
        "4.00 × the baseline",
        "2 accepted, 1 FAIL, 1 infeasible",
        "trial 4: oom while measure",
    ):
        assert words in shown


def test_the_countdown_stands_still_while_the_child_does() -> None:
    clock, console = Clock(), Console(file=io.StringIO(), width=100)
    view = LiveView(console, now=clock)
    for event in (started(), trial(1), PhaseStarted(number=1, phase="synthesize", deadline_s=90)):
        view.take(event)
    clock.now += 10
    view.take(PhaseHeld(number=1, held=True))
    clock.now += 30
    console.print(view.panel())
    assert "1:20 until its deadline (standing still for the judge)" in written(console)
    view.take(PhaseHeld(number=1, held=False))
    clock.now += 5
    console.print(view.panel())
    assert "1:15 until its deadline\n" in "\n".join(map(str.rstrip, written(console).splitlines()))
    # A phase that ends while the child is held leaves nothing standing.
    view.take(PhaseHeld(number=1, held=True))
    view.take(PhaseStarted(number=1, phase="judge", deadline_s=0.0))
    clock.now += 20
    console.print(view.panel())
    assert "judge, 0:20 so far" in written(console)


def test_a_phase_without_a_deadline_has_no_bar() -> None:
    console = Console(file=io.StringIO(), width=100)
    view = LiveView(console, now=Clock())
    for event in (started(), trial(1), PhaseStarted(number=1, phase="canaries", deadline_s=0.0)):
        view.take(event)
    console.print(view.panel())
    shown = written(console)
    assert "canaries, 0:00 so far" in shown
    assert "deadline" not in shown
    assert "━" not in shown


@pytest.mark.parametrize("role", ["arming", "confirm"])
def test_the_baseline_heard_again_is_neither_good_nor_bad(role: Role) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    again = fixtures.record(2, role=role, verdict=None)
    broken = Failure(phase="synthesize", kind="crash", message="died of SIGSEGV")
    with LiveView(console, now=Clock()) as view:
        view.take(started())
        view.take(TrialFinished(record=again))
        assert f"· [{role}] bf16 default dynamic b4: latency p50" in written(console)
        assert "heard again" in written(console)
        assert "✗" not in written(console)
        failed = dataclasses.replace(again, status="failed", failure=broken)
        view.take(TrialFinished(record=failed))
        assert f"✗ [{role}]" in written(console)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_terminal_is_given_back_whatever_happens(error: type[BaseException]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with pytest.raises(error):
        watch_and_raise(console, error)
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert written(console).rindex(show) > written(console).rindex(hide)


def watch_and_raise(console: Console, error: type[BaseException]) -> None:
    with LiveView(console, now=Clock()) as view:
        view.take(started())
        raise error


def test_the_view_fits_the_terminal() -> None:
    assert isinstance(open_view(Console(file=io.StringIO())), PlainView)
    assert isinstance(open_view(Console(file=io.StringIO(), force_terminal=True)), LiveView)
