"""``mosgate say``: a text, a wav file, and every mistake in a sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile as sf

from search import cli
from search.export import export
from tests.search import record_fixtures as fixtures
from tests.search.command_line import Capture, Row, check
from tts.options import Options
from tts.types import Applied, Audio, Built, Utterance

TABLE: list[Row] = [
    (["say", "", "-o", "TMP/a.wav"], 2, "", "the text is empty"),
    (["say", "  \n ", "-o", "TMP/a.wav"], 2, "", "the text is empty"),
    (["say", "hi", "-o", "TMP/none/a.wav"], 2, "", "does not exist"),
    (["say", "hi", "-o", "TMP"], 2, "", "is a folder"),
    (["say", "hi", "-o", "TMP/a.wav", "--set", "precison=bf16"], 2, "", "did you mean precision?"),
    (["say", "hi", "-o", "TMP/a.wav", "--set", "precision=bf17"], 2, "", "'bf17' is not one of"),
    (["say", "hi", "-o", "TMP/a.wav", "--set", "top_p=2"], 2, "", "top_p: 2.0 is outside"),
    (["say", "hi", "-o", "TMP/a.wav", "--set", "precision"], 2, "", "write key=value"),
    (["say", "hi", "-o", "TMP/a.wav", "--set", "top_k=[1"], 2, "", "cannot be read as YAML"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: " ".join(row[0][1:]))
def test_what_cannot_be_said(row: Row, tmp_path: Path, capsys: Capture) -> None:
    check(row, tmp_path, tmp_path, capsys)


class Voice:
    """Speaks 0.1 s of a tone per character and counts a truncation for a shout."""

    sample_rate_hz = 16_000

    def synthesize(self, utterances: list[Utterance]) -> list[Audio]:
        (one,) = utterances
        samples = np.full(1600 * len(one.text), 0.1, np.float32)
        return [
            Audio(
                utterance_id=one.id,
                samples=samples,
                sample_rate_hz=16_000,
                n_truncated=int(one.text.isupper()),
            )
        ]


@pytest.fixture
def voice(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    asked: list[Options] = []

    def build(model: str, options: Options, device: str) -> Built:
        asked.append(options)
        applied = Applied(name="precision", value="fp32", n_modules=0, detail="")
        return Built(synthesizer=Voice(), applied=(applied,), load_s=0.5)  # type: ignore[arg-type]

    module = ModuleType("tts.build")
    module.build = build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tts.build", module)
    return asked


def test_say_writes_a_wav(tmp_path: Path, voice: list[Options], capsys: Capture) -> None:
    target = tmp_path / "a.wav"
    words = ["say", "hello", "-o", str(target), "--set", "precision=bf16", "--set", "temperature=0"]
    assert cli.main(words) == 0
    samples, rate = sf.read(target)
    assert (len(samples), rate) == (8000, 16_000)
    assert "0.50 s of speech" in capsys.readouterr().out
    assert (voice[0].precision, voice[0].sampling.temperature) == ("bf16", 0.0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_say_speaks_as_an_exported_winner(tmp_path: Path, voice: list[Options]) -> None:
    export(fixtures.result(), tmp_path / "won", config={"model": "embedded"})
    words = ["say", "hello", "-o", str(tmp_path / "a.wav"), "--set", "sampling.top_p=0.5"]
    for place in ("won", "won/winner.yaml"):
        assert cli.main([*words, "--winner", str(tmp_path / place)]) == 0
        asked = voice.pop()
        assert (asked.compile, asked.batch_size, asked.sampling.top_p) == ("default", 4, 0.5)


def test_say_refuses_what_is_no_winner(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "odd.yaml").write_text("study: a\n", encoding="utf-8")
    words = ["say", "hello", "-o", str(tmp_path / "a.wav"), "--winner"]
    for name, said in (("none.yaml", "cannot be read"), ("odd.yaml", "holds no options")):
        assert cli.main([*words, str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err


def test_say_warns_of_a_sentence_that_was_cut_off(
    tmp_path: Path, voice: list[Options], capsys: Capture
) -> None:
    assert cli.main(["say", "HELLO", "-o", str(tmp_path / "a.wav")]) == 0
    assert "1 sentence(s) were cut off" in capsys.readouterr().err


def test_say_reads_standard_input(
    tmp_path: Path, voice: list[Options], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    assert cli.main(["say", "-", "-o", str(tmp_path / "a.wav")]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\0b"))
    assert cli.main(["say", "-", "-o", str(tmp_path / "a.wav")]) == 2
    assert "NUL byte" in capsys.readouterr().err
