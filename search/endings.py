"""Why a child did not finish: its own report, its exit status, the end of its log."""

from __future__ import annotations

import signal
from pathlib import Path

from search.process import TIMEOUT, ChildExit
from search.record import Failure

LOG_TAIL_LINES = 12


def classify(ended: ChildExit, log_path: Path) -> Failure | None:
    """Say why a child did not finish, or None if it did."""
    if ended.done:
        return None
    if ended.stopped == TIMEOUT:
        message = f"still in phase {ended.phase} after its deadline of {ended.deadline_s:g} s"
        return Failure(phase=ended.phase, kind="timeout", message=message)
    if ended.error is not None:
        return Failure(phase=ended.phase, kind=ended.error["kind"], message=ended.error["message"])
    if ended.returncode == -signal.SIGKILL:
        message = "killed by SIGKILL: most likely the kernel, for want of memory"
        return Failure(phase=ended.phase, kind="oom", message=message)
    tail = log_tail(log_path)
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        return Failure(phase=ended.phase, kind="crash", message=f"died of {name}\n{tail}".strip())
    message = f"exited with status {ended.returncode} without a report\n{tail}".strip()
    return Failure(phase=ended.phase, kind="crash", message=message)


def log_tail(log_path: Path, n_lines: int = LOG_TAIL_LINES) -> str:
    """Return the lines of a log that say most: those of a fatal error, or the last ones."""
    try:
        with log_path.open("rb") as file:
            file.seek(max(0, log_path.stat().st_size - 65_536))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    fatal = [i for i, line in enumerate(lines) if line.startswith("Fatal Python error")]
    chosen = lines[fatal[-1] :][:n_lines] if fatal else lines[-n_lines:]
    return "\n".join(line[:300] for line in chosen)
