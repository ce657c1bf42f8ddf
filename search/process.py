"""One child process in a group of its own, with a deadline per phase: started, watched, ended.

The child reports JSON lines on a pipe of its own. Whatever becomes of it - an exception, a signal,
a hang - ends in one ``ChildExit``; nothing of the child is left running.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLL_S = 0.05
GRACE_S = 2.0
TIMEOUT = "timeout"
Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ChildExit:
    """How a child ended.

    Args:
        phase: The last phase it entered.
        done: Whether it finished its work.
        stopped: Why this process stopped it (``TIMEOUT`` or what ``should_stop`` said), or "".
        error: What the child itself reported, with ``kind`` and ``message``, or None.
        returncode: Its exit status; negative is a signal.
        deadline_s: The deadline of that phase.
        phase_s: Seconds in that phase, without those it was held.
        held_s: Seconds it was held while the judge needed the cores.
    """

    phase: str
    done: bool
    stopped: str
    error: Message | None
    returncode: int
    deadline_s: float
    phase_s: float = 0.0
    held_s: float = 0.0


class Child:
    """A worker process; a context manager that leaves nothing behind.

    Args:
        log_path: Takes its output until it has a job.
        environment: Variables on top of this process's.
        warm: Whether it loads its libraries before it has a job.
    """

    def __init__(
        self, log_path: Path, environment: Mapping[str, str] | None = None, *, warm: bool = False
    ) -> None:
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "search.worker", str(writer), str(os.getpid())]
        try:
            with log_path.open("ab") as log:
                self.process = subprocess.Popen(
                    [*command, "warm"] if warm else command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=(writer,),
                    start_new_session=True,
                    env={**_environment(), **(environment or {})},
                )
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        os.set_blocking(reader, False)
        self.reader, self.buffer = reader, b""

    def begin(self, job_path: Path) -> None:
        """Give it its job; from here on its output goes to ``worker.log`` beside the job."""
        assert self.process.stdin is not None
        # A child that died before this is told by its exit, not by the broken pipe.
        with contextlib.suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(f"{job_path}\n".encode())

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, however far it is."""
        self.kill()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        os.close(self.reader)

    def messages(self, timeout_s: float) -> tuple[list[Message], bool]:
        """Wait for lines; return them and whether the pipe is closed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.reader, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                return [], False
        data = os.read(self.reader, 1 << 20)
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return [json.loads(line) for line in lines], not data

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Stop it for a while: SIGSTOP, then SIGCONT.

        The process itself and not its group: a helper that is stopped when this process dies
        would never notice.
        """
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the whole group: SIGTERM, a moment's grace, SIGKILL."""
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
        # The leader may be gone while its helpers (compiler workers) live on.
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def _environment() -> dict[str, str]:
    # The child runs with the sweep's own working tree first on its path, wherever it is started.
    paths = [path or str(Path.cwd()) for path in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


class Standby:
    """Keeps one process ready that has loaded its libraries.

    Every trial still has a fresh process: one that has done nothing but import.

    Args:
        log_path: Takes the output of processes without a job.
        environment: Variables of the children.
    """

    def __init__(self, log_path: Path, environment: Mapping[str, str]) -> None:
        self.log_path, self.environment = log_path, environment
        self.ready: Child | None = None

    def __enter__(self) -> Standby:
        return self

    def __exit__(self, *_: object) -> None:
        if self.ready is not None:
            self.ready.close()

    def prepare(self) -> None:
        """Start the next process, unless one is ready."""
        if self.ready is None:
            self.ready = Child(self.log_path, self.environment, warm=True)

    def take(self) -> Child:
        """Return a process without a job."""
        child, self.ready = self.ready, None
        if child is not None and child.process.poll() is not None:
            child.close()
            child = None
        return child or Child(self.log_path, self.environment)


def watch(
    child: Child,
    deadlines: Mapping[str, float],
    on_message: Callable[[Message], None],
    should_stop: Callable[[], str],
    clock: Callable[[], float] = time.monotonic,
    should_hold: Callable[[], bool] = lambda: False,
) -> ChildExit:
    """Follow a child to its end.

    Args:
        child: The running child.
        deadlines: Seconds per phase.
        on_message: Called with every message.
        should_stop: Polled; a reason ends the child at once, "" lets it go on.
        clock: Seconds, for tests.
        should_hold: Polled; while it is true the child stands still, and its deadline too.
    """
    phase, entered, closed, stopped = "load", clock(), False, ""
    held_s = 0.0
    error: Message | None = None
    done = False
    while not closed and not stopped:
        exited = child.process.poll() is not None
        messages, closed = child.messages(POLL_S)
        for message in messages:
            if "phase" in message:
                phase, entered = message["phase"], clock()
            error, done = message.get("error", error), message.get("done", done)
            on_message(message)
        # A grandchild may hold the pipe open after the child is gone.
        closed = closed or done or (exited and not messages)
        if not closed and should_hold():
            seconds = _hold(child, should_hold, should_stop, clock)
            entered, held_s = entered + seconds, held_s + seconds
        if not closed:
            late = clock() - entered > deadlines[phase]
            stopped = should_stop() or (TIMEOUT if late else "")
    phase_s = clock() - entered
    if not stopped and not done:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(GRACE_S)
    child.kill()
    return ChildExit(
        phase=phase, done=done, stopped=stopped, error=error,
        returncode=child.process.returncode, deadline_s=deadlines[phase], phase_s=phase_s,
        held_s=held_s,
    )  # fmt: skip


def _hold(
    child: Child,
    should_hold: Callable[[], bool],
    should_stop: Callable[[], str],
    clock: Callable[[], float],
) -> float:
    """Let the child stand still as long as it should; return the seconds that took."""
    begun = clock()
    with child.held():
        while should_hold() and not should_stop():
            time.sleep(POLL_S)
    return clock() - begun
