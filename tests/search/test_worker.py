"""How the child sorts what went wrong."""

from __future__ import annotations

import errno

import pytest

from search.worker import kind_of
from tts.errors import InapplicableError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "oom"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "oom"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (OSError(errno.EACCES, "Permission denied"), "error"),
        (ValueError("out of memory is what this text says"), "error"),
        (InapplicableError("attention", "flash", "no"), "refused"),
    ],
)
def test_kinds(error: BaseException, kind: str) -> None:
    assert kind_of(error) == kind
