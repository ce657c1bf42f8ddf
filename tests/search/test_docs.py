"""The pages about the commands say what the commands take."""

from __future__ import annotations

import argparse
from dataclasses import fields

import pytest

from search import cli
from search.config import SweepConfig
from search.exits import Exit
from tests.search.command_line import ROOM

DOCS = ROOM / "docs"


def commands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


@pytest.mark.parametrize("name", sorted(commands()))
def test_a_page_names_every_option(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    options = {o for a in commands()[name]._actions for o in a.option_strings}
    missing = {o for o in options - {"-h", "--help"} if f"`{o}" not in page}
    assert missing == set()
    assert f"[`mosgate {name}`]({name}.md)" in (DOCS / "README.md").read_text(encoding="utf-8")


def test_every_key_of_the_file_is_explained() -> None:
    page = (DOCS / "sweep.md").read_text(encoding="utf-8")
    keys = {f.name for f in fields(SweepConfig)} - {"source"}
    assert {key for key in keys if f"| `{key}` |" not in page} == set()


def test_every_exit_code_is_explained() -> None:
    page = (DOCS / "README.md").read_text(encoding="utf-8")
    assert all(f"| {code.value} |" in page for code in Exit)
