"""When a run must end, so that it ends with what it has."""

from __future__ import annotations

import time
from dataclasses import dataclass


class OutOfTimeError(Exception):
    """The time is up."""


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """A moment by ``time.monotonic``."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the moment so many seconds from now."""
        return cls(at=time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        """Seconds left; below zero when it has passed."""
        return self.at - time.monotonic()

    def check(self, _done: int = 0, _total: int = 0) -> None:
        """Go on; fit to be told of progress.

        Raises:
            OutOfTimeError: It has passed.
        """
        if self.left_s <= 0:
            raise OutOfTimeError
