"""The command as a person types it: what it prints and the code it ends with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from search import cli

ROOM = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]
Row = tuple[Sequence[str], int, str, str]
"""Words, exit code, what stdout holds, what stderr holds; TMP and ROOT stand for folders."""


def check(row: Row, tmp_path: Path, root: Path, capsys: Capture) -> None:
    """Type the words and compare; an error is one sentence that begins with the command's name."""
    words, code, out, err = row
    typed = [word.replace("TMP", str(tmp_path)).replace("ROOT", str(root)) for word in words]
    assert cli.main(typed) == code
    captured = capsys.readouterr()
    assert out in captured.out
    assert err.replace("ROOT", str(root)) in captured.err
    assert "Traceback" not in captured.err
    if code:
        assert captured.err.startswith("mosgate: ")
