"""What a person sees while a sweep runs: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.events import (
    ConfirmStarted,
    Event,
    GateArmed,
    Notice,
    PhaseStarted,
    SweepStarted,
    TrialFinished,
    TrialStarted,
)
from search.labels import clock, one_line, short_options, verdict_label, why_not
from search.progress import Clock, Progress, figure
from search.record import ASIDE, TrialRecord
from search.summary import verdict_text

_COLOURS = {
    "PASS": "green", "FAIL": "red", "UNDECIDED": "yellow", "UNGATED": "magenta",
    "UNARMED": "magenta", "surpassed": "dim",
}  # fmt: skip


def finished_line(record: TrialRecord, metric: str, total: int) -> str:
    """Return one line on a finished trial: number, options, key metric, verdict and reason."""
    place = record.role if record.role in ASIDE else f"{record.number}/{total}"
    words = [f"[{place}]", f"{short_options(record.options)}:"]
    if metric in record.metrics:
        words.append(f"{figure(record, metric)},")
    verdict = "heard again" if _is_hearing(record) else verdict_text(record)
    words.append(verdict if record.failure is None else record.status)
    said = one_line(why_not(record), 200)
    return " ".join(words) + (f": {said}" if said else "")


def _is_hearing(record: TrialRecord) -> bool:
    """Whether it is the baseline's, heard again: there is no verdict on it, good or bad."""
    return record.role in ASIDE and record.verdict is None and record.failure is None


def armed_line(event: GateArmed) -> str:
    """Say whether the gate is armed, on what grounds, and what that took."""
    goes_on = "" if event.arming.armed else " Nothing can pass in this sweep."
    return f"{event.arming.summary}{goes_on} ({clock(event.seconds)})"


class PlainView:
    """One line per event that matters, for logs and pipes."""

    def __init__(self, console: Console, now: Clock = time.monotonic) -> None:
        self._console, self._progress, self._total = console, Progress(now=now), 0

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def take(self, event: Event) -> None:
        """Follow one event and say what is worth a line."""
        self._progress.take(event)
        match event:
            case SweepStarted():
                self._say(opening(event))
                self._total = event.max_trials
            case ConfirmStarted():
                self._say(confirming(event))
            case TrialStarted():
                self._total = event.total
            case TrialFinished(record=record):
                self._say(finished_line(record, self._progress.metric, self._total))
            case GateArmed():
                self._say(armed_line(event))
            case Notice(message=message):
                self._say(f"note: {message}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def opening(event: SweepStarted) -> str:
    """Say what begins, or goes on."""
    limit = f", {_minutes(event.seconds)} for the search" if event.seconds is not None else ""
    limit += _then(event)
    n_known = len(event.known)
    known = f"; {n_known} record{'s' * (n_known > 1)} known from before" if n_known else ""
    goal = ", ".join(event.objectives)
    return (
        f"study {event.study} on {event.device}: {goal}, at most {event.max_trials} trials"
        f"{limit}{known}"
    )


def _then(event: SweepStarted) -> str:
    """Say what follows the search: the confirmation has a time of its own."""
    if not event.confirm_n:
        return ", no confirmation (nothing can be exported)"
    limit = "" if event.confirm_s is None else f", {_minutes(event.confirm_s)}"
    n = f"at least {event.confirm_n}" if event.is_least else str(event.confirm_n)
    return f", then the confirmation on {n} unseen utterances{limit}"


def _minutes(seconds: float) -> str:
    """Write a limit for a person: ``about 10 minutes``, or seconds where it is short."""
    return f"about {round(seconds / 60)} minutes" if seconds >= 90 else f"about {seconds:g} s"


def confirming(event: ConfirmStarted) -> str:
    """Say that the search is over and how long its confirmation may take."""
    limit = "" if event.seconds is None else f", at most {clock(event.seconds - event.spent_s)}"
    which = f"the best {event.n_contenders}, one by one," if event.n_contenders > 1 else "the best"
    return (
        f"the search is over; confirming {which} on {event.n} unseen utterances: about "
        f"{clock(event.about_s)} for the first{limit}"
    )


class LiveView:
    """Finished trials scroll up above a panel that shows the running one."""

    def __init__(self, console: Console, now: Clock = time.monotonic) -> None:
        self._progress, self._total = Progress(now=now), 0
        self._live = Live(
            get_renderable=self.panel, console=console, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Self:
        """Take the terminal."""
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back, whatever happened."""
        self._live.__exit__(kind, error, trace)

    def take(self, event: Event) -> None:
        """Follow one event."""
        self._progress.take(event)
        match event:
            case SweepStarted():
                self._live.console.print(Text(opening(event), style="bold"))
                self._total = event.max_trials
            case ConfirmStarted():
                self._live.console.print(Text(confirming(event), style="bold"))
            case TrialStarted():
                self._total = event.total
            case TrialFinished(record=record):
                self._live.console.print(self._finished(record))
            case GateArmed():
                colour = "green" if event.arming.armed else "magenta"
                self._live.console.print(Text(armed_line(event), style=colour))
            case Notice(message=message):
                self._live.console.print(Text(f"note: {message}", style="dim"))

    def _finished(self, record: TrialRecord) -> Text:
        mark = "✓" if record.accepted else "–" if record.surpassed else "✗"
        if record.role == "baseline":
            mark = "·" if record.failure is None else "✗"
        mark = "·" if _is_hearing(record) else mark
        line = finished_line(record, self._progress.metric, self._total)
        colour = "cyan" if mark == "·" else _COLOURS.get(verdict_label(record), "red")
        return Text(f"{mark} {line}", style=colour)

    def panel(self) -> RenderableType:
        """Draw the running trial, what is left, the best so far and the counts."""
        progress = self._progress
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="dim", no_wrap=True)
        rows.add_column(overflow="ellipsis", no_wrap=True)
        if progress.trial is not None:
            rows.add_row("trial", _trial_said(progress.trial))
        if progress.phase is not None:
            rows.add_row("phase", _phase_bar(progress, progress.phase))
        if time_said := progress.time_said():
            rows.add_row("time", time_said)
        rows.add_row("best", Text(progress.best_said(), style="green" if progress.best else ""))
        rows.add_row("so far", progress.counted())
        if progress.last_rejected is not None:
            last = progress.last_rejected
            rows.add_row("last no", Text(f"trial {last.number}: {why_not(last)}"))
        return Group(Text(""), rows)


def _trial_said(trial: TrialStarted) -> Text:
    known = f", recipe {trial.recipe}" if trial.recipe else ""
    text = f"{trial.number} of {trial.total}: {short_options(trial.options)} ({trial.role}{known})"
    return Text(text, style="bold")


def _phase_bar(progress: Progress, phase: PhaseStarted) -> RenderableType:
    left = progress.phase_left_s()
    if left is None:
        return Text(f"{phase.phase}, {clock(progress.phase_spent_s())} so far")
    bar = ProgressBar(total=phase.deadline_s, completed=phase.deadline_s - left, width=24)
    row = Table.grid(padding=(0, 1))
    waits = " (standing still for the judge)" if progress.held_at is not None else ""
    row.add_row(f"{phase.phase:<10}", bar, f"{clock(left)} until its deadline{waits}")
    return row


def open_view(console: Console) -> LiveView | PlainView:
    """Return the live view on a terminal, the plain one elsewhere."""
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else (
        PlainView(console)
    )  # fmt: skip
