"""``mosgate hear``: a wav file, what a recogniser hears in it, and every mistake in a sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile as sf

from search import cli
from tests.search.command_line import Capture, Row, check

TABLE: list[Row] = [
    (["hear", "TMP/none.wav"], 2, "", "no such file"),
    (["hear", "TMP/text.wav"], 2, "", "not an audio file"),
    (["hear", "TMP/short.wav"], 2, "", "too short"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: " ".join(row[0][1:]))
def test_what_cannot_be_heard(row: Row, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "text.wav").write_text("this is text", encoding="utf-8")
    sf.write(tmp_path / "short.wav", np.zeros(10, np.float32), 16_000)
    check(row, tmp_path, tmp_path, capsys)


def test_hear_resamples_and_mixes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    class Ear:
        def transcribe(self, samples: np.ndarray) -> str:
            return f"{samples.dtype} {samples.shape}"

    module = ModuleType("evaluation.asr")
    module.load = lambda _: Ear()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "evaluation.asr", module)
    sf.write(tmp_path / "a.wav", np.zeros((44_100, 2), np.float32), 44_100)
    assert cli.main(["hear", str(tmp_path / "a.wav")]) == 0
    assert capsys.readouterr().out == "float32 (16000,)\n"


@pytest.mark.slow
def test_what_is_said_is_heard(tmp_path: Path, capsys: Capture) -> None:
    """The voice and the ear that ship with us."""
    target = str(tmp_path / "a.wav")
    assert cli.main(["say", "Hello.", "-o", target, "--device", "cpu"]) == 0
    capsys.readouterr()
    assert cli.main(["hear", target]) == 0
    assert "hello" in capsys.readouterr().out.lower()
