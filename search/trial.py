"""One trial from candidate to record: a process of its own, a judge, a verdict."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.gate import Verdict
from evaluation.scores import UtteranceScores
from search.endings import classify
from search.errors import InfrastructureError
from search.job import Job
from search.judging import Brief, Collected, Judging, silent
from search.process import TIMEOUT, Standby, watch
from search.record import DETERMINISTIC, Failure, Status, write_atomically
from search.scoring import Scoring, plain

MAX_ATTEMPTS = 3
ENOUGH = "enough"
# What may pass when it is simply run again; everything else a model raises, it raises again.
TRANSIENT = re.compile(
    r"unspecified launch failure|ECC error|device.* busy|unavailable or busy|"
    r"Connection reset|temporarily unavailable",
    re.I,
)


class BudgetOverError(Exception):
    """The study's time ended in the middle of a trial, which leaves no record."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended; the makings of a record."""

    status: Status
    failure: Failure | None
    attempts: int
    collected: Collected
    scores: tuple[UtteranceScores, ...] = ()
    verdict: Verdict | None = None


class Trial:
    """One trial, ready to run.

    Args:
        job: What the child does.
        brief: What the judge must know.
        deadlines: Seconds per phase.
        scoring: Scores the audio.
        standby: Gives the processes.
        on_phase: Told of each phase.
        should_stop: Polled; a reason ends the trial without a record.
    """

    def __init__(
        self,
        job: Job,
        brief: Brief,
        deadlines: Mapping[str, float],
        scoring: Scoring,
        standby: Standby,
        on_phase: Callable[[str], None],
        should_stop: Callable[[], str],
    ) -> None:
        self.job, self.brief, self.deadlines, self.scoring = job, brief, deadlines, scoring
        self.standby, self.on_phase, self.should_stop = standby, on_phase, should_stop
        self.folder = Path(job.folder)

    def run(self) -> Outcome:
        """Run it, again if it failed for a reason that may pass.

        Raises:
            BudgetOverError: ``should_stop`` gave a reason.
            InfrastructureError: The disk is full.
        """
        write_atomically(self.folder / "job.json", self.job.to_json())
        earlier: Failure | None = None
        for attempt in range(1, MAX_ATTEMPTS + 1):
            judging = Judging(self.brief, self.scoring, self.on_phase)
            failure = self.attempt(judging)
            if failure is None:
                return self.completed(judging, attempt)
            # The same crash twice in the same place is no accident.
            settled = not is_transient(failure) or _same(failure, earlier)
            if settled:
                break
            earlier = failure
        return Outcome(
            status="infeasible" if settled else "failed", failure=failure, attempts=attempt,
            collected=judging.collected,
        )  # fmt: skip

    def attempt(self, judging: Judging) -> Failure | None:
        """Run one process to its end; return why it failed, or None."""

        def stop() -> str:
            return self.should_stop() or (ENOUGH if judging.enough() else "")

        log = self.folder / "worker.log"
        with self.standby.take() as child:
            child.begin(self.folder / "job.json")
            ended = watch(
                child, self.deadlines, judging.take, stop, should_hold=judging.needs_the_cores
            )
        if judging.surpassed:  # all is told: how its process ended does not matter
            return None
        if ended.stopped not in ("", TIMEOUT, ENOUGH):
            raise BudgetOverError(ended.stopped)
        if ended.error is not None and ended.error["kind"] == "disk":
            raise InfrastructureError(
                f"{ended.error['message']}; free some space and run the same command again: "
                "nothing recorded so far is lost"
            )
        judging.account(ended)
        return None if ended.stopped == ENOUGH else classify(ended, log)

    def completed(self, judging: Judging, attempt: int) -> Outcome:
        """Have the audio judged to the end."""
        scores, verdict = judging.finish()
        silence = silent(scores)
        judging.save_clips()
        return Outcome(
            status="completed" if silence is None else "infeasible", failure=silence,
            attempts=attempt, collected=judging.collected, scores=scores, verdict=verdict,
        )  # fmt: skip


def _same(failure: Failure, earlier: Failure | None) -> bool:
    first = failure.message.split("\n")[0]
    return (
        earlier is not None
        and failure.phase == earlier.phase
        and first == earlier.message.split("\n")[0]
    )


def is_transient(failure: Failure) -> bool:
    """Whether a failure may pass when the trial is run again."""
    if failure.kind in DETERMINISTIC:
        return False
    return failure.kind == "crash" or bool(TRANSIENT.search(failure.message))


def now() -> str:
    """Return the time as ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def plain_scores(scores: Sequence[UtteranceScores]) -> tuple[Mapping[str, Any], ...]:
    """Return scores as JSON values."""
    return tuple(plain(s.to_mapping()) for s in scores)
