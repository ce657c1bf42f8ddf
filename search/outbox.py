"""Records on their way to a tracker; what goes wrong with reporting fails no trial."""

from __future__ import annotations

from collections.abc import Callable

from search.events import Event, Notice
from search.load_crashes import crashed_at_load
from search.record import TrialRecord


class Outbox:
    """Reports records in order.

    One that crashed while loading waits until another shows that loading works: it may be taken
    back, and a tracker does not forget.

    Args:
        report: Told of every record; None for nobody.
        on_event: Told of what went wrong.
    """

    def __init__(
        self, report: Callable[[TrialRecord], None] | None, on_event: Callable[[Event], None]
    ) -> None:
        self.report, self.on_event = report, on_event
        self.waiting: list[TrialRecord] = []

    def put(self, record: TrialRecord) -> None:
        """Report a record, or let it wait."""
        self.waiting.append(record)
        if not crashed_at_load(record):
            self.flush()

    def flush(self) -> None:
        """Report what waits."""
        waiting, self.waiting = self.waiting, []
        for record in waiting:
            self._send(record)

    def _send(self, record: TrialRecord) -> None:
        if self.report is None:
            return
        try:
            self.report(record)
        except Exception as error:  # noqa: BLE001 - reporting must never fail a trial
            self.on_event(
                Notice(
                    message=f"trial {record.number} could not be reported ({error}); it will be "
                    "when the same command runs again"
                )
            )
