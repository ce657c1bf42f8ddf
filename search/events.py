"""What the sweep tells whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.record import SweepResult, TrialRecord

if TYPE_CHECKING:
    from evaluation.arming import Arming


@dataclass(frozen=True, kw_only=True)
class SweepStarted:
    """The sweep holds its study and is about to run.

    Args:
        study: The study's name.
        device: The device as its driver names it.
        objectives: Metric names.
        max_trials: Most trials in this study.
        seconds: Time for the search, or None.
        spent_s: Of that, spent in earlier sittings.
        known: Records found on disk: some when it resumes.
        confirm_n: Utterances of the confirmation that follows; 0 where there is none.
        is_least: Whether it takes more of them where the gate's arming plans more.
        confirm_s: Time for it, or None for as long as it takes.
    """

    study: str
    device: str
    objectives: tuple[str, ...]
    max_trials: int
    seconds: float | None
    spent_s: float
    known: tuple[TrialRecord, ...] = ()
    confirm_n: int = 0
    is_least: bool = False
    confirm_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something a person should read once, such as a recipe that this device cannot run."""

    message: str


@dataclass(frozen=True, kw_only=True)
class ConfirmStarted:
    """The search is over; the best of it is judged again.

    Args:
        n_contenders: How many may be tried, best first.
        n: Utterances that each speaks.
        about_s: How long the first of them may take, the baseline's hearing included.
        seconds: Time for all of it, or None.
        spent_s: Of that, spent in earlier sittings.
    """

    n_contenders: int
    n: int
    about_s: float
    seconds: float | None
    spent_s: float


@dataclass(frozen=True, kw_only=True)
class GateArmed:
    """The gate was tried on the baseline: armed, or not, and then nothing passes it.

    Args:
        arming: What it told apart and what it missed.
        seconds: What that took, the baseline's second hearing included.
    """

    arming: Arming
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrialStarted:
    """A trial's process is being started; ``total`` is the most trials there will be."""

    number: int
    total: int
    role: str
    options: Mapping[str, Any]
    recipe: str = ""


@dataclass(frozen=True, kw_only=True)
class PhaseStarted:
    """A trial entered a phase; it is stopped after ``deadline_s`` seconds of it."""

    number: int
    phase: str
    deadline_s: float


@dataclass(frozen=True, kw_only=True)
class PhaseHeld:
    """A trial's process stands still, and its deadline with it, or goes on."""

    number: int
    held: bool


@dataclass(frozen=True, kw_only=True)
class TrialFinished:
    """A trial's record is on disk."""

    record: TrialRecord


@dataclass(frozen=True, kw_only=True)
class SweepFinished:
    """The sweep is over."""

    result: SweepResult


Event = (
    SweepStarted | Notice | GateArmed | ConfirmStarted | TrialStarted | PhaseStarted | PhaseHeld
    | TrialFinished | SweepFinished
)  # fmt: skip
