"""How latency and throughput change with the batch size, as far as memory and time allow."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from evaluation import resident
from search.profiling.record import BatchRow, figure_of, unknown
from search.profiling.subject import Calls, Plan, Subject
from search.worker import kind_of
from tts.device import DeviceCaps
from tts.errors import InapplicableError
from tts.validity import refusal

LARGEST = 256
_REPEATS = 3
_MEMORY_SHARE = 0.8
Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The rows, and why there are no more of them."""

    rows: tuple[BatchRow, ...]
    end: str


def try_sizes(
    plan: Plan,
    caps: DeviceCaps,
    known: Mapping[int, Calls],
    say: Callable[[str], None],
    *,
    known_s: float = 0.0,
    room: Callable[[DeviceCaps], float] | None = None,
    make: Callable[[Plan, DeviceCaps, int], Subject] = Subject,
    clock: Clock = time.perf_counter,
) -> Batches:
    """Build the model for each batch size and time it.

    Args:
        plan: What to speak; its time bounds all sizes together.
        caps: Of the device.
        known: Sizes that were timed already.
        say: Told of each size before it is tried.
        known_s: Seconds that building and warming up one of these took.
        room: Bytes that this process may come to hold.
        make: Builds the model for a batch size.
        clock: Seconds, from any origin.
    """
    rows: list[BatchRow] = []
    began, last_s, last_size = clock(), 0.0, 1
    for size in _sizes(plan, known):
        left = plan.seconds - (clock() - began)
        if size in known:
            rows.append(_row(size, known[size]))
            last_s, last_size = known_s + sum(known[size].latency.samples), size
            continue
        # The next size takes as much longer as it is larger, at the most.
        if last_s * max(1.0, size / last_size) > left:
            return _ended(rows, f"{size} would have taken longer than {plan.seconds:g} s allow")
        if _peak(rows, size) > _MEMORY_SHARE * (room or _room)(caps):
            return _ended(rows, f"{size} would have needed more than 80 % of the memory")
        say(f"batch size {size}")
        started = clock()
        row, ends = _try(plan, caps, size, make)
        rows.append(row)
        if ends:
            return _ended(rows, f"{size} {ends}")
        if row.latency.value is not None:  # a size that is refused takes no time
            last_s, last_size = clock() - started, size
    return _ended(rows, "" if plan.batch_sizes else f"{LARGEST} is the largest that is tried")


def _sizes(plan: Plan, known: Iterable[int]) -> list[int]:
    """Return the sizes to try in ascending order, with what is known to compare them to."""
    asked = plan.batch_sizes or [2**i for i in range(LARGEST.bit_length())]
    return sorted({*asked, *known})


def _try(
    plan: Plan, caps: DeviceCaps, size: int, make: Callable[[Plan, DeviceCaps, int], Subject]
) -> tuple[BatchRow, str]:
    """Return a row, and why it is the last one, or "": after some errors a process is no more."""
    refused = refusal(replace(plan.options, batch_size=size), caps)
    if refused is not None:
        return _missing(size, str(refused)), ""
    try:
        return _row(size, _calls(plan, caps, size, make)), ""
    except InapplicableError as error:
        return _missing(size, str(error)), ""
    except Exception as error:  # noqa: BLE001 - what was measured before stands
        if kind_of(error) == "oom":
            return _missing(size, "out of memory"), "did not fit into memory"
        first = (str(error).strip().splitlines() or [""])[0]
        return _missing(size, f"it failed: {type(error).__name__}: {first}"), "failed"
    finally:
        give_back_memory(caps)


def _calls(
    plan: Plan, caps: DeviceCaps, size: int, make: Callable[[Plan, DeviceCaps, int], Subject]
) -> Calls:
    """Build, warm and time the model, and name it nowhere afterwards."""
    subject = make(plan, caps, size)
    subject.warm_up(1)
    return subject.time_calls(_REPEATS)


def give_back_memory(caps: DeviceCaps) -> None:
    """Free a model that nobody names any more: captured steps hold it, and it them."""
    gc.collect()
    if caps.type == "cuda":
        # After some errors the device answers nothing more; the row has the reason.
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()


def _room(caps: DeviceCaps) -> float:
    """Return what is free for this process or held by it already."""
    if caps.type == "cuda":
        free, _ = torch.cuda.mem_get_info(caps.torch_name)
        return float(free + torch.cuda.memory_reserved(caps.torch_name))
    free_bytes, held = resident.available_bytes(), resident.resident_bytes()
    if free_bytes is None or held is None:
        return caps.memory_bytes
    return min(caps.memory_bytes, free_bytes + held)


def _row(size: int, calls: Calls) -> BatchRow:
    return BatchRow(
        batch_size=size,
        latency=figure_of(calls.latency),
        samples_per_s=calls.figures["samples_per_s"],
        audio_s_per_s=calls.figures["audio_s_per_s"],
        peak_bytes=calls.figures["memory.peak"],
    )


def _missing(size: int, why: str) -> BatchRow:
    return BatchRow(
        batch_size=size,
        latency=unknown(why, "s"),
        samples_per_s=unknown(why, "1/s"),
        audio_s_per_s=unknown(why),
        peak_bytes=unknown(why, "B"),
    )


def _peak(rows: Sequence[BatchRow], size: int) -> float:
    """Expect the peak of the next size: what two sizes took tells what a sentence takes."""
    known = [(r.batch_size, r.peak_bytes.value) for r in rows if r.peak_bytes.value is not None]
    if len(known) < 2:
        return 0.0
    (n0, p0), (n1, p1) = known[-2:]
    return p1 + max(0.0, p1 - p0) / max(1, n1 - n0) * (size - n1)


def _ended(rows: Sequence[BatchRow], why: str) -> Batches:
    return Batches(rows=tuple(rows), end=why)
