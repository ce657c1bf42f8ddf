"""``mosgate judge``: two folders in, a verdict, a report and an exit code out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from evaluation.canaries import low_pass
from evaluation.planning import sigma_table, tail_table, wer_table
from evaluation.prompts import load_prompts
from evaluation.provenance import score_hash
from evaluation.verdict import GateConfig
from search import cli
from search.commands import judge as command
from search.exits import Exit
from tests.evaluation.sounds import voice, write
from tests.evaluation.test_folder_verdict import GOOD, POOR, Level
from tests.search.test_cli import ROOM
from tts.build import build
from tts.options import Options
from tts.types import Utterance

Capture = pytest.CaptureFixture[str]
N = 16


class Ear(Level):
    """The stand-in, where the command makes its judge."""

    def __init__(self, asr: str, **_: object) -> None:
        super().__init__()
        self.asr = asr

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def provenance(self) -> Mapping[str, str]:
        return {"ear": "level", "asr": self.asr}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of a good and a poor candidate, judged by a stand-in."""
    monkeypatch.setattr(command, "Judge", Ear)
    monkeypatch.chdir(tmp_path)
    names = [f"u{i:02d}" for i in range(N)]
    Path("said.tsv").write_text("".join(f"{n}\tfive words\n" for n in names), encoding="utf-8")
    for side, peak, seed in (("base", GOOD, 0), ("good", GOOD, 50), ("poor", POOR, 90)):
        Path(side).mkdir()
        for i, name in enumerate(names):
            write(Path(side) / f"{name}.wav", voice(0.5, seed=seed + i, peak=peak))
    return tmp_path


def judge(*words: str, candidate: str = "good", baseline: str = "base") -> int:
    given = ("--baseline", baseline, "--candidate", candidate, "--texts", "said.tsv")
    return cli.main(["judge", *given, *words])


def test_a_pass_ends_in_0_and_says_why(place: Path, capsys: Capture) -> None:
    assert judge() == Exit.WINNER
    out, err = capsys.readouterr()
    assert out.startswith("PASS: OVRL ")
    assert "The baseline was not judged against itself (--baseline-again)." in out
    table = out.splitlines()[2:8]
    assert table[0].split() == (
        "metric baseline candidate change bound allowed sigma n power verdict".split()
    )
    assert [line.split()[0] for line in table[1:5]] == ["OVRL", "P808", "WER", "ruined"]
    assert all("PASS" in line for line in table[1:5])
    assert "PESQ: unaligned." in out
    assert "The gate is armed: " in out
    assert f"mosgate: baseline: {N} of {N}\n" in err
    assert "\r" not in err


@pytest.mark.parametrize(
    ("words", "candidate", "code", "status"),
    [
        ((), "poor", 1, "FAIL"),
        (("--mos-budget-pct", "40"), "poor", 0, "PASS"),
        (("--min-n", "17"), "good", 1, "UNGATED"),
        (("--n", "4"), "good", 1, "UNGATED"),
        (("--n", "8"), "good", 0, "PASS"),
        (("--no-arming",), "good", 0, "PASS"),
    ],
)
def test_only_a_pass_ends_in_0(
    place: Path, capsys: Capture, words: tuple[str, ...], candidate: str, code: int, status: str
) -> None:
    assert judge(*words, candidate=candidate) == code
    assert capsys.readouterr().out.startswith(f"{status}: ")


def test_an_unarmed_gate_ends_in_1(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(Ear):
        def __init__(self, asr: str, **_: object) -> None:
            super().__init__(asr)
            self.deaf_to = "low_pass"

    monkeypatch.setattr(command, "Judge", Deaf)
    assert judge() == 1
    assert "UNARMED: " in capsys.readouterr().out


def test_the_report_holds_all_that_the_verdict_rests_on(place: Path, capsys: Capture) -> None:
    assert judge("--out", "judged.json", "--json", candidate="poor") == 1
    written = json.loads(Path("judged.json").read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == written
    assert written["verdict"]["status"] == "FAIL"
    assert written["looks"] == [{"n": 8, "status": "FAIL"}]
    assert written["pesq"] == "unaligned"
    assert written["gate"]["mos_budget_pct"] == 5.0
    assert written["inputs"]["baseline"]["n_files"] == N
    known = {"ear": "level", "asr": "embedded"}
    assert written["provenance"] == {"hash": score_hash(known), "parts": known}
    assert len(written["utterances"]) == N
    heard = [one for one in written["utterances"] if one["candidate"]]
    assert len(heard) == 8
    assert heard[0]["candidate"]["dnsmos_ovrl"] < heard[0]["baseline"]["dnsmos_ovrl"]
    assert not list(place.glob(".judged*"))


def test_the_worst_are_named_first(place: Path, capsys: Capture) -> None:
    write(place / "good" / "u07.wav", voice(0.5, peak=0.2))
    judge("--no-arming")
    lines = capsys.readouterr().out.splitlines()
    first = lines.index(next(line for line in lines if line.startswith("listen to these"))) + 2
    assert lines[first].split()[0] == "u07"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda: Path("good/u03.wav").unlink(), "mosgate: said.tsv:4: u03.wav is missing in good"),
        (lambda: Path("good/u03.wav").write_bytes(b""), "mosgate: good/u03.wav: is an empty file"),
        (lambda: write(Path("good/u99.wav"), voice(0.5)), "mosgate: good/u99.wav: said.tsv has no"),
        (lambda: Path("said.tsv").write_bytes(b"u00\t\xff\n"), "mosgate: said.tsv:1: not UTF-8"),
    ],
)
def test_bad_input_ends_in_2_and_writes_nothing(
    place: Path, capsys: Capture, spoil: Callable[[], object], said: str
) -> None:
    spoil()
    assert judge("--out", "judged.json") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert len(err.splitlines()) == 1
    assert not Path("judged.json").exists()


def test_several_problems_are_counted_and_listed(place: Path, capsys: Capture) -> None:
    for name in ("u01", "u02"):
        Path(f"good/{name}.wav").unlink()
    assert judge() == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "mosgate: 2 problems, nothing was judged:"
    assert [line.split(":")[1] for line in lines[1:]] == ["2", "3"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--mos-budget-pct", "0"), "--mos-budget-pct must be between 0 and 100, got 0.0"),
        (("--min-n", "1"), "--min-n must be at least 2"),
        (("--n", "17"), "--n 17: said.tsv has 16 texts; give 1 to 16"),
        (("--out", "none/a.json"), "--out none/a.json: the folder none does not exist"),
        (("--out", "base"), "--out base: is a folder; give the name of a file"),
    ],
)
def test_options_that_make_no_sense_end_in_2(
    place: Path, capsys: Capture, words: tuple[str, ...], said: str
) -> None:
    assert judge(*words) == 2
    assert f"mosgate: {said}" in capsys.readouterr().err


def test_an_interruption_leaves_no_moving_line_behind(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ear, "one", interrupt)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert judge() == Exit.INTERRUPTED
    err = capsys.readouterr().err
    assert f"mosgate: baseline: 0 of {N}\r\x1b[2Kmosgate: interrupted\n" in err


def test_what_is_no_file_is_not_replaced_by_the_report(place: Path, capsys: Capture) -> None:
    os.mkfifo("pipe")  # as a device: neither a folder nor a file
    Path("link").symlink_to("pipe")
    Path("circle").symlink_to("circle")
    for name in ("pipe", "link"):
        assert judge("--out", name) == Exit.CONFIGURATION
        assert f"mosgate: --out {name}: is no regular file" in capsys.readouterr().err
    assert judge("--out", "circle") == Exit.CONFIGURATION
    assert "mosgate: --out circle: " in capsys.readouterr().err
    assert Path("pipe").is_fifo()
    assert Path("link").is_symlink()


def test_a_link_stays_one_and_its_file_is_written(place: Path) -> None:
    Path("kept").mkdir()
    Path("latest.json").symlink_to("kept/judged.json")
    assert judge("--out", "latest.json", "--no-arming") == Exit.WINNER
    assert Path("latest.json").is_symlink()
    assert json.loads(Path("kept/judged.json").read_text())["verdict"]["status"] == "PASS"


def test_an_interruption_leaves_nothing_behind(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ear, "one", interrupt)
    assert judge("--out", "judged.json") == Exit.INTERRUPTED
    assert capsys.readouterr().err.endswith("mosgate: interrupted\n")
    assert not Path("judged.json").exists()


def test_a_report_that_cannot_be_written_takes_no_verdict_along(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("there").mkdir()
    monkeypatch.setattr(Ear, "__exit__", lambda *_: Path("there").rmdir())
    assert judge("--out", "there/judged.json", "--no-arming") == Exit.INFRASTRUCTURE
    out, err = capsys.readouterr()
    assert out.startswith("PASS: OVRL ")
    said = err.splitlines()[-1]
    assert said.startswith("mosgate: cannot write ")
    assert "judged.json: No such file or directory; the verdict that was printed stands" in said
    assert "recorded" not in said


def test_an_ear_that_cannot_follow_the_baseline_is_doubted(
    place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    heard = Level.one
    monkeypatch.setattr(Ear, "one", lambda self, clip: replace(heard(self, clip), wer_errors=2))
    judge("--no-arming")
    err = capsys.readouterr().err
    assert "--asr embedded: The recogniser gets 40 % of the baseline's own words wrong" in err
    assert "try --asr base.en" in err


def test_the_page_for_newcomers_shows_the_tables_as_they_are() -> None:
    page = (ROOM / "docs" / "judging.md").read_text(encoding="utf-8")
    assert sigma_table(GateConfig()) in page
    assert wer_table(GateConfig()) in page
    assert tail_table(GateConfig()) in page


# What follows is the real voice, judged by the real metrics.


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short prompts as the embedded voice says them, and the same through a telephone."""
    place = tmp_path_factory.mktemp("spoken")
    prompts = load_prompts(ROOM / "configs/prompts/english.tsv", n=6, max_characters=28)
    torch.set_num_threads(1)
    speech = build("embedded", Options(batch_size=len(prompts)), "cpu").synthesizer
    audios = speech.synthesize(
        [Utterance(id=p.id, text=p.text, seed=i) for i, p in enumerate(prompts)]
    )
    for side in ("base", "dull", "aligned"):
        (place / side).mkdir()
    for audio in audios:
        name = f"{audio.utterance_id}.wav"
        soundfile.write(place / "base" / name, audio.samples, 16_000, subtype="PCM_16")
        soundfile.write(place / "aligned" / name, 0.7 * audio.samples, 16_000, subtype="PCM_24")
        soundfile.write(place / "dull" / name, low_pass(audio.samples, None), 16_000)  # type: ignore[arg-type]
    lines = [f"{p.id}\t{p.text}\t{p.reference}\n" for p in prompts]
    (place / "said.tsv").write_text("".join(lines), encoding="utf-8")
    return place


def judged(place: Path, candidate: str, *words: str) -> dict[str, Any]:
    out = place / f"{candidate}.json"
    sides = ["--baseline", str(place / "base"), "--candidate", str(place / candidate)]
    texts = ["--texts", str(place / "said.tsv"), "--out", str(out)]
    code = cli.main(["judge", *sides, *texts, "--no-arming", "--min-n", "6", *words])
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    assert code == (0 if found["verdict"]["status"] == "PASS" else 1)
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_speech_through_a_telephone_is_rejected(spoken: Path) -> None:
    found = judged(spoken, "dull")
    assert found["verdict"]["status"] == "FAIL"
    assert any("P808" in reason for reason in found["verdict"]["reasons"])
    hashes = {one["baseline"]["provenance"] for one in found["utterances"]}
    assert hashes == {found["provenance"]["hash"]}
    assert {"asr_sha256", "code_sha256", "dnsmos.p808_onnx_sha256", "references"} <= set(
        found["provenance"]["parts"]
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_same_speech_softer_passes_and_its_pesq_is_told(spoken: Path, capsys: Capture) -> None:
    found = judged(spoken, "aligned", "--aligned")
    assert found["verdict"]["status"] == "PASS"
    assert found["pesq"]["n"] == 6
    assert found["pesq"]["lowest"] > 4.3
    assert "it informs and gates nothing" in capsys.readouterr().out
