"""Judge synthesised clips in child processes, so that a metric's death is only that.

PESQ segfaults on long audio and DNSMOS hangs on empty audio; both are refused before the library
sees them, and whatever else a library does, its child alone dies, the failure is recorded on that
utterance, and another child goes on. A child's memory is bounded (``evaluation.memory``), and one
that leaks is replaced before another metric has to go without.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import wait

from evaluation.errors import JudgeError
from evaluation.judge_child import AUDIO, Finished, Job, Measured, Ready, Report, Retired, Started
from evaluation.lane import Lane
from evaluation.provenance import score_hash
from evaluation.scores import Clip, UtteranceScores
from evaluation.sheet import Sheet

BUILTIN_METRICS = ("guards", "dnsmos", "wer", "pesq")
START_TIMEOUT_S = 180.0
MAX_DEATHS_IN_A_ROW = 3
"""A metric that ends its process this often in a row is not tried again in the same call."""


class Judge:
    """A small pool of child processes that hold the recogniser and DNSMOS loaded.

    Children are started when first needed, all at once, and kept until ``close``. Use it as a
    context manager. Not thread-safe: one call at a time.

    Args:
        asr: The recogniser: ``"embedded"`` or an openai-whisper name such as ``"base.en"``.
        workers: Child processes, one thread each; 0 is one per core.
        timeout_s: Deadline of one metric on one utterance.
        metrics: Names of built-in or installed metrics, or ``"module:Class"``.
        references: Digest of what should be heard in all that is compared, for the provenance;
            see ``evaluation.provenance.references_digest``.
    """

    def __init__(
        self,
        asr: str,
        workers: int = 0,
        timeout_s: float = 60.0,
        *,
        metrics: Sequence[str] = BUILTIN_METRICS,
        references: str = "",
    ) -> None:
        if timeout_s <= 0 or workers < 0:
            raise ValueError(f"timeout_s={timeout_s} and workers={workers} make no judge")
        self._asr = asr
        self._metrics = tuple(metrics)
        self._references = references
        self._workers = workers or len(os.sched_getaffinity(0))
        self._timeout_s = timeout_s
        self._lanes: list[Lane] = []
        self._assigned: dict[Lane, Sheet] = {}
        self._deaths: Counter[str] = Counter()
        self._provenance: dict[str, str] | None = None
        self._is_closed = False
        self.metric_seconds: defaultdict[str, float] = defaultdict(float)
        """Seconds spent in each metric so far, over all children."""
        self.leaks: Counter[str] = Counter()
        """Metrics after which a child held too much memory and was replaced, and how often."""

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the children without waiting for them, so that they load while others work.

        Raises:
            JudgeError: The judge is closed.
        """
        if self._is_closed:
            raise JudgeError("this judge is closed")
        while len(self._lanes) < self._workers:
            self._lanes.append(Lane(self._asr, self._metrics, START_TIMEOUT_S))

    def score(
        self,
        clips: Sequence[Clip],
        *,
        on_progress: Callable[[int, int], None] | None = None,
        metrics: Sequence[str] | None = None,
    ) -> list[UtteranceScores]:
        """Judge clips.

        Args:
            clips: What to judge.
            metrics: Some of this judge's metrics, such as the guards as a first screen; None is
                all of them. What was not asked for is None in the scores and no failure.
            on_progress: Called with (clips done, clips in all) after each clip.

        Returns:
            One entry per clip, in the clips' order. A metric that failed is None there, with its
            reason in ``failures``. Each carries the hash of all that it depends on.

        Raises:
            JudgeError: A metric cannot be loaded, or the children die before they are ready.
            ValueError: A metric is not one of this judge's.
        """
        wanted = self._metrics if metrics is None else tuple(metrics)
        foreign = [name for name in wanted if name not in self._metrics]
        if foreign:
            raise ValueError(f"this judge has no metric {foreign[0]!r}: it has {self._metrics}")
        if not clips:
            return []
        self.start()
        self._deaths.clear()
        sheets = [Sheet(clip, wanted) for clip in clips]
        waiting = list(reversed(sheets))
        n_told = 0
        try:
            while not all(sheet.is_done for sheet in sheets):
                self._assign(waiting)
                self._listen(waiting)
                n_done = sum(sheet.is_done for sheet in sheets)
                if on_progress is not None and n_done > n_told:
                    on_progress(n_done, len(sheets))
                n_told = n_done
        finally:
            # Only an exception leaves clips behind; their answers must not reach a later call.
            for lane in list(self._assigned):
                self._discard(lane)
        known = score_hash(self.provenance())
        return [replace(sheet.result(), provenance=known) for sheet in sheets]

    def provenance(self) -> dict[str, str]:
        """Return versions and checksums of all that the scores depend on.

        Waits for a first child when none is ready yet.

        Raises:
            JudgeError: A metric cannot be loaded, or the children die before they are ready.
        """
        self.start()
        while self._provenance is None:
            self._listen([])
        return dict(self._provenance)

    def close(self) -> None:
        """End the children; harmless when there are none."""
        self._is_closed = True
        for lane in list(self._lanes):
            self._discard(lane)

    def _assign(self, waiting: list[Sheet]) -> None:
        """Give waiting clips to ready children that have none."""
        for lane in list(self._lanes):
            if not waiting:
                return
            if not lane.is_ready or lane in self._assigned:
                continue
            sheet = waiting.pop()
            self._give_up_deadly(sheet)
            if sheet.is_done:
                continue
            try:
                lane.send(Job(sheet.clip, sheet.remaining, self._timeout_s))
            except OSError:
                # Died while idle: no metric's fault.
                waiting.append(sheet)
                self._replace(lane)
                continue
            self._assigned[lane] = sheet

    def _give_up_deadly(self, sheet: Sheet) -> None:
        """Fail the metrics that have ended their process again and again."""
        for name in sheet.remaining:
            if self._deaths[name] >= MAX_DEATHS_IN_A_ROW:
                sheet.fail(name, f"not tried: it ended its process {self._deaths[name]} times")

    def _listen(self, waiting: list[Sheet]) -> None:
        """Wait for reports, deaths and deadlines, and deal with what came."""
        awaited = [lane for lane in self._lanes if lane in self._assigned or not lane.is_ready]
        if not awaited:
            return
        now = time.monotonic()
        patience = max(0.0, min(lane.deadline for lane in awaited) - now)
        by_channel = {lane.channel: lane for lane in awaited}
        heard = [by_channel[channel] for channel in wait(list(by_channel), timeout=patience)]  # type: ignore[index]
        for lane in heard:
            try:
                report = lane.channel.recv()
            except (EOFError, OSError):
                self._mourn(lane, lane.how_it_ended(), waiting)
            else:
                self._note(lane, report, waiting)
        for lane in awaited:
            if lane not in heard and time.monotonic() > lane.deadline:
                self._mourn(lane, "it did not end within its deadline", waiting)

    def _note(self, lane: Lane, report: Report, waiting: list[Sheet]) -> None:
        """Take in one report of a child."""
        sheet = self._assigned.get(lane)
        if isinstance(report, Ready):
            lane.is_ready = True
            ours = {"metrics": ",".join(self._metrics), "references": self._references}
            self._learn({**report.provenance, **ours})
        elif sheet is None:
            raise JudgeError(getattr(report, "reason", f"a child of the judge sent {report!r}"))
        elif isinstance(report, Started):
            sheet.current = report.step
            lane.deadline = time.monotonic() + self._timeout_s
        elif isinstance(report, Measured):
            sheet.take(report)
            self.metric_seconds[report.step] += report.seconds
            self._deaths[report.step] = 0
        elif isinstance(report, Finished):
            sheet.finish()
            del self._assigned[lane]
        elif isinstance(report, Retired):
            self.leaks[report.step] += 1
            if sheet.remaining:
                waiting.append(sheet)
            else:
                sheet.finish()
            self._replace(lane)

    def _learn(self, provenance: dict[str, str]) -> None:
        """Note what the scores depend on; a child that is started later must agree."""
        if self._provenance not in (None, provenance):
            raise JudgeError(
                "the code or the weights of a metric changed while this judge was at work: its "
                "scores cannot be compared; run the same command again"
            )
        self._provenance = provenance

    def _mourn(self, lane: Lane, how: str, waiting: list[Sheet]) -> None:
        """Record the death of a child on what it was doing, and start another."""
        sheet = self._assigned.get(lane)
        if sheet is None:
            self._discard(lane)
            raise JudgeError(f"a child of the judge did not start: {how}")
        if sheet.current is None and not sheet.remaining:
            sheet.finish()  # it had measured all, and no metric is to blame
            self._replace(lane)
            return
        guilty = sheet.current or next(iter(sheet.remaining), AUDIO)
        timed_out = how.startswith("it did not end")
        sheet.fail(guilty, f"{how} of {self._timeout_s:g} s" if timed_out else how)
        self._deaths[guilty] += 1
        if not sheet.is_done:
            waiting.append(sheet)
        self._replace(lane)

    def _replace(self, lane: Lane) -> None:
        self._discard(lane)
        self._lanes.append(Lane(self._asr, self._metrics, START_TIMEOUT_S))

    def _discard(self, lane: Lane) -> None:
        """End one child and forget it."""
        is_busy = self._assigned.pop(lane, None) is not None
        self._lanes.remove(lane)
        lane.close(is_busy=is_busy)
