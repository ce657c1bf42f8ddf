"""Where a sweep stands, kept up by its events: the best, the counts, the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from search.events import (
    ConfirmStarted,
    Event,
    GateArmed,
    PhaseHeld,
    PhaseStarted,
    SweepFinished,
    SweepStarted,
    TrialFinished,
    TrialStarted,
)
from search.labels import clock, column, run_name, verdict_label
from search.ranking import speedup
from search.record import ASIDE, TrialRecord

Clock = Callable[[], float]
_COUNTED = (
    "accepted", "PASS", "FAIL", "UNDECIDED", "UNGATED", "UNARMED", "infeasible", "failed",
    "surpassed",
)  # fmt: skip


@dataclass
class Progress:
    """Where a sweep stands, kept up by its events.

    Args:
        now: A monotonic clock in seconds.
    """

    now: Clock = time.monotonic
    started: SweepStarted | None = None
    trial: TrialStarted | None = None
    phase: PhaseStarted | None = None
    confirming: ConfirmStarted | None = None
    baseline: TrialRecord | None = None
    best: TrialRecord | None = None
    last_rejected: TrialRecord | None = None
    counts: dict[str, int] = field(default_factory=dict)
    begun_at: float = 0.0
    phase_at: float = 0.0
    held_at: float | None = None
    confirm_at: float = 0.0

    @property
    def metric(self) -> str:
        """The metric that ranks trials."""
        return self.started.objectives[0] if self.started else "latency_p50_s"

    def take(self, event: Event) -> None:
        """Follow one event."""
        match event:
            case SweepStarted():
                self.started, self.begun_at = event, self.now()
                for record in event.known:
                    self._count(record)
            case ConfirmStarted():
                self.confirming, self.confirm_at = event, self.now()
            case TrialStarted():
                self.trial, self.phase = event, None
            case PhaseStarted():
                self.phase, self.phase_at, self.held_at = event, self.now(), None
            case PhaseHeld(held=held):
                self._hold(held)
            case TrialFinished(record=record):
                self.trial = self.phase = None
                self._count(record)
            case SweepFinished():
                self.trial = self.phase = None
            case GateArmed():
                self.phase = None

    def _hold(self, held: bool) -> None:
        """Let the phase's time stand still, or go on from where it stood."""
        if self.held_at is not None:
            self.phase_at += self.now() - self.held_at
        self.held_at = self.now() if held else None

    def _count(self, record: TrialRecord) -> None:
        if record.role == "baseline":
            self.baseline = record
            return
        if record.role in ASIDE:
            return
        label = "accepted" if record.accepted else verdict_label(record)
        self.counts[label] = self.counts.get(label, 0) + 1
        if not record.accepted:
            self.last_rejected = self.last_rejected if record.surpassed else record
        elif self.best is None or (speedup(record, self.best, self.metric) or 0) > 1:
            self.best = record

    def budget_left_s(self) -> float | None:
        """Return the seconds left of the search's time, or None where it has no limit."""
        if self.started is None or self.started.seconds is None:
            return None
        spent = self.started.spent_s + self.now() - self.begun_at
        return max(0.0, self.started.seconds - spent)

    def time_said(self) -> str:
        """Say how much time is left, of the search or of the confirmation; or ""."""
        event = self.confirming
        if event is None:
            left = self.budget_left_s()
            return "" if left is None else f"{clock(left)} left for the search"
        spent = self.now() - self.confirm_at
        if event.seconds is not None:
            left = max(0.0, event.seconds - event.spent_s - spent)
            return f"{clock(left)} left for the confirmation"
        return f"{clock(spent)} of the confirmation, about {clock(event.about_s)} a contender"

    def phase_spent_s(self) -> float:
        """Return the seconds in this phase, without those in which the trial stood still."""
        return (self.now() if self.held_at is None else self.held_at) - self.phase_at

    def phase_left_s(self) -> float | None:
        """Return the seconds left until the phase's deadline; None where there is none."""
        if self.phase is None or not self.phase.deadline_s:
            return None
        return max(0.0, self.phase.deadline_s - self.phase_spent_s())

    def counted(self) -> str:
        """Say how many trials were accepted and rejected, by verdict."""
        said = [f"{self.counts[k]} {_spoken(k)}" for k in _COUNTED if k in self.counts]
        return ", ".join(said) or "no candidate finished yet"

    def best_said(self) -> str:
        """Say what is best so far."""
        if self.best is None:
            return "nothing accepted yet"
        ratio = speedup(self.best, self.baseline, self.metric) if self.baseline else None
        times = f", {ratio:.2f} × the baseline" if ratio else ""
        return f"{run_name(self.best)}: {figure(self.best, self.metric)}{times}"


def _spoken(label: str) -> str:
    return "passed but missed a service level" if label == "PASS" else label


def figure(record: TrialRecord, metric: str) -> str:
    """Write a record's value of a metric with its name."""
    shown = column(metric)
    return f"{shown.title} {shown.write(record.metrics.get(metric))}"
