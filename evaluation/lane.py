"""One child process of the judge, as the parent holds it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from evaluation.judge_child import Job, Report

_BOOT = (
    "import json, sys; fds, sys.path[:], asr, metrics = json.loads(sys.argv[1]); "
    "from evaluation.judge_child import main; main(*fds, asr, metrics)"
)
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
_LOG_TAIL_BYTES = 4000


class Lane:
    """A child process, started at once; it is of use after it has sent ``Ready``.

    A fresh interpreter and not a fork: a fork of a process that has used CUDA, or that runs
    threads, is broken; and not multiprocessing's spawn, which runs the caller's main module again.

    Args:
        asr: The recogniser's name.
        metrics: What the child loads.
        start_timeout_s: Deadline for loading.
    """

    def __init__(self, asr: str, metrics: Sequence[str], start_timeout_s: float) -> None:
        ours, theirs = socket.socketpair()
        lifeline_theirs, self._lifeline = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        arguments = [[theirs.fileno(), lifeline_theirs], sys.path, asr, list(metrics)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(theirs.fileno(), lifeline_theirs),
                # Scores must not depend on which GPU is there, nor take its memory from a trial.
                env={**os.environ, **_THREADS, "CUDA_VISIBLE_DEVICES": ""},
            )
        finally:
            theirs.close()
            os.close(lifeline_theirs)
        self.channel: Connection[Job, Report] = Connection(ours.detach())
        self.is_ready = False
        self.deadline = time.monotonic() + start_timeout_s

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def send(self, job: Job) -> None:
        """Give the child a clip.

        Raises:
            OSError: The child is gone.
        """
        self.channel.send(job)
        self.deadline = time.monotonic() + job.timeout_s

    def how_it_ended(self) -> str:
        """Wait for a child that closed its channel, and say how it ended."""
        try:
            code = self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        said = _last_words(self._read_log())
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if -code == signal.SIGKILL else ""
            return f"its process was ended by {name}{hint}{said}"
        return f"its process ended with code {code}{said}"

    def close(self, *, is_busy: bool) -> None:
        """End the child: an idle one by closing its channel, a busy one by force."""
        self.channel.close()
        os.close(self._lifeline)
        if is_busy:
            self._process.kill()
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _read_log(self) -> str:
        """Return the end of what the child printed."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_TAIL_BYTES))
        return self._log.read().decode("utf-8", "replace")


def _last_words(log: str) -> str:
    """Return the line of a child's output that says most about its end."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines:
        return ""
    fatal = [line for line in lines if line.startswith(("Fatal Python error", "Timeout ("))]
    return f": {(fatal or lines)[-1][:200]}"
