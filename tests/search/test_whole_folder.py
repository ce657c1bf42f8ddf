"""A folder of results is whole or as it was, wherever it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.exits import InputError
from search.whole_folder import fresh_folder


def write(target: Path, **files: str) -> None:
    with fresh_folder(target) as fresh:
        for name, text in files.items():
            (fresh / name).write_text(text, encoding="utf-8")


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_a_new_folder_appears_with_its_parents(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", one="1", two="2")
    assert held(tmp_path / "a" / "b") == {"one": "1", "two": "2"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_the_folder_that_one_works_in_can_be_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(Path(), one="1")
    assert held(tmp_path / "here") == {"one": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("before", [{}, {"one": "old", "gone": "old"}])
def test_a_folder_that_is_there_stays_the_same_one(tmp_path: Path, before: dict[str, str]) -> None:
    """As a mount point must: nobody can rename it."""
    target = tmp_path / "there"
    target.mkdir()
    for name, text in before.items():
        (target / name).write_text(text, encoding="utf-8")
    inode = target.stat().st_ino
    write(target, one="1")
    assert target.stat().st_ino == inode
    assert held(target) == {"one": "1"}


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", one="1")
    assert (tmp_path / "link").is_symlink()
    assert held(tmp_path / "real") == {"one": "1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_an_interrupted_exchange_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    target, before = tmp_path / "there", {"one": "old", "two": "old"}
    write(target, **before)
    rename, n_calls = Path.rename, 0

    def interrupted(self: Path, place: Path) -> Path:
        nonlocal n_calls
        n_calls += 1
        if n_calls == failing:
            raise KeyboardInterrupt
        return rename(self, place)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(target, one="new", three="new")
    assert held(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_an_error_in_the_block_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "there", one="old")
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "there", **{"one": "half", "no/such": "folder"})
    assert held(tmp_path / "there") == {"one": "old"}


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="name a folder you may write to"):
        write(tmp_path / "file" / "new")
