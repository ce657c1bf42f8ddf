"""A folder of results that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.exits import InputError


def refuse_occupied(target: Path, *, marker: str, what: str, force: bool) -> None:
    """Raise unless a folder may be written.

    Args:
        target: It may be missing or empty.
        marker: A file that every folder of this kind holds.
        what: The kind, such as ``export``.
        force: An earlier one of this kind may be replaced, and nothing else.

    Raises:
        InputError: It is a file, or holds something that stays.
    """
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; name a folder that does not exist")
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not force:
        raise InputError(f"{target} is not empty; name another folder, or use --force")
    if not (target / marker).is_file():  # never sweep away what is not ours
        raise InputError(f"--force replaces an earlier {what} only, and {target} is not one")


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside the target, and put it in the target's place after the block.

    Whatever ends the block early, an interruption too, leaves the target as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.parent / f".{target.name}.{os.getpid()}.tmp"
    fresh.mkdir(exist_ok=True)
    try:
        yield fresh
        _swap(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, target: Path) -> None:
    """Put the finished folder in its place; an earlier one stays whole until then."""
    if not target.exists():
        fresh.rename(target)
        return
    old = fresh.with_suffix(".old")
    target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old)
