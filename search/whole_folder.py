"""A folder of results that appears whole or not at all."""

from __future__ import annotations

import os
import secrets
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
    """Give a folder, and put what it holds in the target's place after the block.

    Whatever ends the block early, an interruption too, leaves the target as it was. A target that
    is there stays: it may be mounted, linked to or worked in, and none of these can be renamed.

    Raises:
        InputError: Nothing can be written there; raised before the block.
    """
    target = target.resolve()
    is_new = not target.is_dir()
    name = f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}"
    fresh = (target.parent if is_new else target) / f"{name}.tmp"
    try:
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written: {error.strerror}; name a folder you may write to"
        ) from error
    try:
        yield fresh
        if is_new:
            fresh.rename(target)
        else:
            _fill(target, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _fill(target: Path, fresh: Path) -> None:
    """Move what is new into the folder and what was there out of it, or nothing at all."""
    old = fresh.with_suffix(".old")
    old.mkdir()
    before = [path for path in target.iterdir() if path not in (fresh, old)]
    moves = [(path, old / path.name) for path in before]
    moves += [(path, target / path.name) for path in fresh.iterdir()]
    done: list[tuple[Path, Path]] = []
    try:
        for source, place in moves:
            done.append((source, place))
            source.rename(place)
    except BaseException:
        for source, place in reversed(done):
            if not source.exists():  # it was moved
                place.rename(source)
        old.rmdir()
        raise
    shutil.rmtree(old)
