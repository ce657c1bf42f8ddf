"""Continuous batching: requests join and leave a running batch one by one.

A static batch runs until its longest request ends. Here a row that ends is free for the next
request at once, so with lengths that vary the same rows speak two to three times as much.

Source: Yu et al. 2022, Orca (scheduling by iteration).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tts.errors import TtsError

Request = TypeVar("Request")
Result = TypeVar("Result")
Request_contra = TypeVar("Request_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
# What one request may be to blame for. A fault of the device is not among them: it ends all.
BLAMED = (TtsError, ValueError, IndexError)


class Rows(Protocol[Request_contra, Result_co]):
    """The rows of a running batch, which requests come to and leave."""

    n_rows: int

    def check(self, request: Request_contra) -> None:
        """Refuse what could never run, not even alone.

        Raises:
            ValueError: It could not.
        """
        ...

    def reserve(self, row: int, request: Request_contra) -> bool:
        """Set aside what a request needs besides a row (memory); False where it is not free."""
        ...

    def begin(self, arrivals: Sequence[tuple[int, Request_contra]]) -> None:
        """Prefill requests into rows that were reserved for them."""
        ...

    def advance(self) -> None:
        """Run a few decode steps of all rows, without waiting for them."""
        ...

    def ended(self) -> list[int]:
        """Wait, and name the rows whose request has ended."""
        ...

    def results(self, rows: Sequence[int]) -> Sequence[Result_co]:
        """Return what came of the requests in some rows."""
        ...

    def release(self, rows: Sequence[int]) -> None:
        """Empty rows, whatever state they are in."""
        ...


@dataclass(frozen=True, kw_only=True)
class Finished(Generic[Request, Result]):
    """A request and its result, or the error that it alone met with."""

    request: Request
    result: Result | None = None
    error: Exception | None = None

    def unwrap(self) -> Result:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


class ContinuousBatcher(Generic[Request, Result]):
    """Runs requests in the rows of one batch, first come, first served.

    A request that finds no row or no memory free waits, and those behind it with it, so that none
    is overtaken for ever. Everything happens in the thread that calls ``step``.

    Args:
        rows: Where requests run.
        min_free: How many rows must be free before newcomers are let in beside others; they are
            prefilled together, and a prefill holds up everybody.
    """

    def __init__(self, rows: Rows[Request, Result], *, min_free: int = 1) -> None:
        if not 1 <= min_free <= rows.n_rows:
            raise ValueError(f"min_free {min_free} is outside [1, {rows.n_rows}]")
        self.rows, self.min_free = rows, min_free
        self.waiting: deque[Request] = deque()
        self.running: dict[int, Request] = {}
        self._free = list(range(rows.n_rows - 1, -1, -1))
        self._reserved: set[int] = set()  # rows whose request is on the way in

    def submit(self, request: Request) -> None:
        """Queue a request.

        Raises:
            ValueError: It could never run; the others are not touched.
        """
        self.rows.check(request)
        self.waiting.append(request)

    def step(self) -> list[Finished[Request, Result]]:
        """Let newcomers in, run a few decode steps, and let out who has ended.

        Raises:
            RuntimeError: Somebody waits for what nobody holds.
        """
        failed = self._admit()
        if not self.running:
            if self.waiting and not failed:
                raise RuntimeError("no room for the next request although no other runs")
            return failed
        self.rows.advance()
        ended = self.rows.ended()
        results = self.rows.results(ended)
        finished = [
            Finished[Request, Result](request=self.running.pop(row), result=result)
            for row, result in zip(ended, results, strict=True)
        ]
        self._empty(ended)
        return failed + finished

    def run(self, requests: Iterable[Request]) -> Iterator[Finished[Request, Result]]:
        """Run requests and yield each as it ends; no more are taken than soon find a row."""
        source, is_over = iter(requests), False
        while not is_over or self.waiting or self.running:
            while not is_over and len(self.waiting) < self.rows.n_rows:
                try:
                    request = next(source)
                except StopIteration:
                    is_over = True
                    break
                try:
                    self.submit(request)
                except BLAMED as error:
                    yield Finished(request=request, error=error)
            yield from self.step()

    def cancel(self, request: Request) -> bool:
        """Drop a request, queued or running; False where there is no such request any more."""
        if request in self.waiting:
            self.waiting.remove(request)
            return True
        for row, running in self.running.items():
            if running == request:
                del self.running[row]
                self._empty([row])
                return True
        return False

    def _admit(self) -> list[Finished[Request, Result]]:
        if self.running and len(self._free) < self.min_free:
            return []
        arrivals: list[tuple[int, Request]] = []
        try:
            while self.waiting and self._free:
                if not self.rows.reserve(self._free[-1], self.waiting[0]):
                    break
                self._reserved.add(self._free[-1])
                arrivals.append((self._free.pop(), self.waiting.popleft()))
            return self._begin(arrivals) if arrivals else []
        finally:  # where something failed that no request is to blame for, such as the device
            self._empty(list(self._reserved))

    def _begin(self, arrivals: list[tuple[int, Request]]) -> list[Finished[Request, Result]]:
        """Prefill newcomers together; where that fails, one by one, to find who is to blame."""
        try:
            self.rows.begin(arrivals)
        except BLAMED as error:
            if len(arrivals) == 1:
                row, request = arrivals[0]
                self._empty([row])
                return [Finished(request=request, error=error)]
            return [failed for arrival in arrivals for failed in self._begin([arrival])]
        self.running.update(arrivals)
        self._reserved.difference_update(row for row, _ in arrivals)
        return []

    def _empty(self, rows: Sequence[int]) -> None:
        self.rows.release(rows)
        self._free += rows
        self._reserved.difference_update(rows)
