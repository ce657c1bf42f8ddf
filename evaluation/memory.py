"""How much memory a child of the judge may take, so that a leak is one metric's failure.

What is counted is the private writable memory of the process (``VmData`` of proc(5)): what the
kernel's RLIMIT_DATA bounds, mapped libraries and weights that are only read not among it. A child
that holds all built-in metrics has 0.8 GiB of it after loading; a clip of 4 s adds 0.3 GiB, one of
two minutes 0.4 GiB for good and as much again for a moment.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

HEADROOM_BYTES = 4 * 2**30
"""Beyond what is held after loading: an allocation that passes it fails, in C as in Python."""

KEPT_BYTES = 3 * 2**29
"""A child that holds so much more after a metric than after loading is ended and replaced, long
before the bound, or the metric that comes next would be refused memory in the leaking one's stead.
"""

_DATA_FIELD = 5


def data_bytes() -> int:
    """Return this process's private writable memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[_DATA_FIELD])
    return pages * os.sysconf("SC_PAGE_SIZE")


def bound_memory() -> int:
    """Forbid this process more than it holds now plus the headroom; a lower bound stays.

    Returns:
        What it holds now, in bytes.
    """
    held = data_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([held + HEADROOM_BYTES, *known]), hard))
    return held
