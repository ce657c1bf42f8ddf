"""The memory of this process that is really there, and the most of it since a moment one names.

``ru_maxrss`` only ever grows, so it cannot tell what one batch took; Linux lets a process forget
its peak (proc(5), ``clear_refs``), where a container does not forbid it.
"""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")
_MACHINE = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")  # a container sees its own group's files here (version 2)
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"
_KIB = 1024


def resident_bytes() -> int | None:
    """Return what is resident now; None where the system does not tell."""
    return _field("VmRSS")


def available_bytes() -> int | None:
    """Return what a process may still take: of the machine and of its group's limit.

    What caches files counts as free (``MemAvailable``); None where the system does not tell.
    """
    machine = _field("MemAvailable", _MACHINE)
    if machine is None:
        return None
    try:
        limit, used = (int((_GROUP / f"memory.{n}").read_text()) for n in ("max", "current"))
    except (OSError, ValueError):  # no such group, or "max": without a limit
        return machine
    return max(0, min(machine, limit - used))


def forget_peak() -> bool:
    """Let the peak begin anew; False where the system does not let us."""
    try:
        _CLEAR.write_text(_FORGET_PEAK)
    except OSError:
        return False
    return True


def peak_bytes() -> int | None:
    """Return the most that was resident since ``forget_peak``; None where nobody tells."""
    return _field("VmHWM")


def _field(name: str, path: Path | None = None) -> int | None:
    try:
        lines = (path or _STATUS).read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * _KIB if found else None
