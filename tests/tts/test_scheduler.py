"""Who runs when: the scheduler alone, over rows that only count."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tts.scheduler import ContinuousBatcher


@dataclass(frozen=True)
class Job:
    """A request that takes so many steps and so much memory."""

    name: int
    n_steps: int
    n_pages: int = 1
    fails: bool = False


class Counting:
    """Rows that count steps, four at a time, and hold pages of a pool of ten."""

    def __init__(self, n_rows: int, n_pages: int = 10) -> None:
        self.n_rows, self.n_free = n_rows, n_pages
        self.n_pages = n_pages
        self.held: dict[int, int] = {}
        self.left: dict[int, int] = {}
        self.jobs: dict[int, Job] = {}
        self.began: list[list[int]] = []
        self.n_advances = 0

    def check(self, request: Job) -> None:
        if request.n_pages > self.n_pages:
            raise ValueError(f"{request.n_pages} pages")

    def reserve(self, row: int, request: Job) -> bool:
        assert row not in self.held
        if request.n_pages > self.n_free:
            return False
        self.held[row] = request.n_pages
        self.n_free -= request.n_pages
        return True

    def begin(self, arrivals: Sequence[tuple[int, Job]]) -> None:
        if any(job.fails for _, job in arrivals):
            raise IndexError("a character beyond the table")
        self.began.append([job.name for _, job in arrivals])
        for row, job in arrivals:
            self.left[row], self.jobs[row] = job.n_steps, job

    def advance(self) -> None:
        self.n_advances += 1
        self.left = {row: left - 4 for row, left in self.left.items()}

    def ended(self) -> list[int]:
        return [row for row, left in self.left.items() if left <= 0]

    def results(self, rows: Sequence[int]) -> list[str]:
        return [f"did {self.jobs[row].name}" for row in rows]

    def release(self, rows: Sequence[int]) -> None:
        for row in rows:
            self.n_free += self.held.pop(row)
            self.left.pop(row, None)


def names(began: list[list[int]]) -> list[int]:
    return [name for together in began for name in together]


@pytest.mark.parametrize("seed", range(20))
def test_all_requests_end_once_in_fair_order_and_leave_nothing_behind(seed: int) -> None:
    draw = random.Random(seed)
    rows = Counting(n_rows=draw.randint(1, 6))
    jobs = [Job(i, draw.randint(1, 40), draw.randint(1, 10)) for i in range(draw.randint(0, 40))]
    batcher = ContinuousBatcher(rows, min_free=draw.randint(1, rows.n_rows))
    found = list(batcher.run(jobs))
    assert sorted(f.request.name for f in found) == list(range(len(jobs)))
    assert all(f.unwrap() == f"did {f.request.name}" for f in found)
    assert names(rows.began) == list(range(len(jobs)))  # nobody is overtaken at the door
    assert rows.n_free == 10
    assert not rows.held
    assert not batcher.waiting
    assert not batcher.running


def test_a_row_is_taken_again_as_soon_as_it_is_free() -> None:
    rows = Counting(n_rows=2)
    list(ContinuousBatcher(rows).run([Job(0, 40), Job(1, 4), Job(2, 4), Job(3, 32)]))
    assert rows.began == [[0, 1], [2], [3]]
    assert rows.n_advances == 10  # a static batch of two would take 10 and then 8 more


def test_newcomers_wait_until_enough_rows_are_free() -> None:
    rows = Counting(n_rows=4)
    jobs = [Job(0, 40), Job(1, 4), Job(2, 8), Job(3, 40), Job(4, 4), Job(5, 4)]
    list(ContinuousBatcher(rows, min_free=2).run(jobs))
    assert rows.began == [[0, 1, 2, 3], [4, 5]]


def test_those_few_who_are_left_do_not_wait_for_company() -> None:
    rows = Counting(n_rows=4)
    batcher = ContinuousBatcher(rows, min_free=4)
    batcher.submit(Job(0, 4))
    assert [f.request.name for f in batcher.step()] == [0]


def test_requests_may_be_submitted_while_others_run() -> None:
    batcher = ContinuousBatcher(Counting(n_rows=2))
    assert batcher.step() == []
    batcher.submit(Job(0, 8))
    assert batcher.step() == []
    batcher.submit(Job(1, 4))
    assert [f.request.name for f in batcher.step()] == [0, 1]
    assert batcher.step() == []


def test_lack_of_memory_defers_and_does_not_fail() -> None:
    rows = Counting(n_rows=4)
    jobs = [Job(0, 8, n_pages=6), Job(1, 4, n_pages=6), Job(2, 4, n_pages=1)]
    assert len(list(ContinuousBatcher(rows).run(jobs))) == 3
    assert rows.began == [[0], [1, 2]]


def test_a_request_that_can_never_run_is_refused_and_the_others_run() -> None:
    batcher = ContinuousBatcher(Counting(n_rows=2))
    with pytest.raises(ValueError, match="11 pages"):
        batcher.submit(Job(0, 4, n_pages=11))
    found = {f.request.name: f for f in batcher.run([Job(1, 4), Job(2, 4, n_pages=11), Job(3, 4)])}
    assert found[1].unwrap() == "did 1"
    assert found[3].unwrap() == "did 3"
    with pytest.raises(ValueError, match="11 pages"):
        found[2].unwrap()


def test_a_request_whose_prefill_fails_leaves_the_others_unharmed() -> None:
    rows = Counting(n_rows=3)
    jobs = [Job(0, 4), Job(1, 4, fails=True), Job(2, 4), Job(3, 4)]
    found = {f.request.name: f for f in ContinuousBatcher(rows).run(jobs)}
    assert [name for name in found if found[name].error is None] == [0, 2, 3]
    assert isinstance(found[1].error, IndexError)
    assert rows.n_free == 10


def test_a_request_can_be_dropped_queued_or_running() -> None:
    rows = Counting(n_rows=1)
    batcher = ContinuousBatcher(rows)
    jobs = [Job(i, 100) for i in range(3)]
    for job in jobs:
        batcher.submit(job)
    batcher.step()
    assert batcher.cancel(jobs[1])
    assert batcher.cancel(jobs[0])
    assert not batcher.cancel(jobs[0])
    assert rows.n_free == 10
    batcher.step()
    assert rows.began == [[0], [2]]


@pytest.mark.parametrize("min_free", [0, 3])
def test_a_threshold_nobody_could_pass_is_refused(min_free: int) -> None:
    with pytest.raises(ValueError, match="min_free"):
        ContinuousBatcher(Counting(n_rows=2), min_free=min_free)


def test_a_fault_that_is_no_requests_own_ends_all_and_leaves_no_row_behind() -> None:
    rows = Counting(n_rows=3)
    batcher = ContinuousBatcher(rows)
    begin = rows.begin

    def broken(arrivals: Sequence[tuple[int, Job]]) -> None:
        raise MemoryError("the device is full")

    rows.begin = broken  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        list(batcher.run([Job(0, 4), Job(1, 4)]))
    assert rows.n_free == 10
    rows.begin = begin  # type: ignore[method-assign]
    assert [f.request.name for f in batcher.run([Job(2, 4), Job(3, 4), Job(4, 4)])] == [2, 3, 4]


def test_waiting_for_what_nobody_holds_is_an_error_and_no_endless_loop() -> None:
    rows = Counting(n_rows=2)
    rows.n_free = 0  # lost by somebody else
    with pytest.raises(RuntimeError, match="no room"):
        list(ContinuousBatcher(rows).run([Job(0, 4)]))
