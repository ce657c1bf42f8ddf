"""The command line: what is typed, what is said, and the exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from search import cli
from search.config import SweepConfig
from search.errors import (
    BaselineUnfitError,
    ConfigError,
    InfrastructureError,
    StudyBusyError,
    StudyMismatchError,
)
from search.events import Event, SweepStarted, TrialFinished
from search.export import export
from search.record import SweepResult, TrialRecord
from tests.search import record_fixtures as fixtures
from tts.errors import InapplicableError, TextError, WeightsError
from tts.options import Options
from tts.types import Applied, Audio, Built, Utterance

ROOM = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root folder with the toy study, another one that failed, and one that is damaged."""
    folder = tmp_path / "mlruns"
    fixtures.write_study(folder)
    lost = tuple(r for r in fixtures.records() if not r.accepted)
    for study, found in (("lost", lost), ("damaged", fixtures.records())):
        renamed = tuple(_renamed(r, study) for r in found)
        fixtures.write_study(folder, renamed)
    path = folder / "damaged" / "trials" / fixtures.records()[1].folder_name / "record.json"
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    return folder


def _renamed(record: TrialRecord, study: str) -> TrialRecord:
    return TrialRecord.from_json(record.to_json().replace('"study": "toy"', f'"study": "{study}"'))


TABLE = [
    # words, exit code, what stdout holds, what stderr holds
    (["show"], 0, "damaged\nlost\ntoy\n", ""),
    (["show", "toy"], 0, "Trial 2 (bf16 default dynamic b4) won", ""),
    (["show", "toy"], 0, "upper bound -7.5 % is below", ""),
    (["show", "lost"], 0, "Nothing won", ""),
    (["show", "toy", "--markdown"], 0, "| winner | 2 |", ""),
    (["show", "toy", "--trial", "4"], 0, "CUDA out of memory: 3 GiB asked", ""),
    (["show", "toy", "--trial", "2"], 0, "dnsmos_p808: delta -0.50 %, lower -2.00 %", ""),
    (["show", "toy", "--trial", "9"], 2, "", "study toy has no trial 9; it has 0 to 4"),
    (["show", "toi"], 2, "", "no study 'toi' in ROOT; did you mean 'toy'?"),
    (["show", "zzz"], 2, "", "there are: damaged, lost, toy"),
    (["show", "damaged"], 0, "Trial 2", "left out: cannot read the record"),
    (["export", "toy", "-o", "TMP/out"], 0, "10 files", ""),
    (["export", "lost", "-o", "TMP/out"], 1, "", "study lost has no winner to export"),
    (["export", "toy", "-o", "TMP"], 2, "", "is not empty"),
    (["export", "nope", "-o", "TMP/out"], 2, "", "no study 'nope'"),
    (["say", "", "-o", "TMP/a.wav"], 2, "", "the text is empty"),
    (["say", "  \n ", "-o", "TMP/a.wav"], 2, "", "the text is empty"),
    (["say", "hi", "-o", "TMP/none/a.wav"], 2, "", "does not exist"),
    (["say", "hi", "-o", "TMP"], 2, "", "is a folder"),
    (["say", "hi", "-o", "TMP/a.wav", "--set", "precison=bf16"], 2, "", "did you mean precision?"),
    (["say", "hi", "-o", "TMP/a.wav", "--set", "precision=bf17"], 2, "", "'bf17' is not one of"),
    (["say", "hi", "-o", "TMP/a.wav", "--set", "top_p=2"], 2, "", "top_p: 2.0 is outside"),
    (["say", "hi", "-o", "TMP/a.wav", "--set", "precision"], 2, "", "write key=value"),
    (["say", "hi", "-o", "TMP/a.wav", "--set", "top_k=[1"], 2, "", "cannot be read as YAML"),
    (["hear", "TMP/none.wav"], 2, "", "no such file"),
    (["hear", "TMP/text.wav"], 2, "", "not an audio file"),
    (["hear", "TMP/short.wav"], 2, "", "too short"),
    (["ui", "--root", "TMP"], 2, "", "mlflow.db does not exist"),
    (["sweep", "TMP/none.yaml"], 2, "", "none.yaml"),
]


@pytest.mark.parametrize(("words", "code", "out", "err"), TABLE)
def test_table(
    words: list[str],
    code: int,
    out: str,
    err: str,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "text.wav").write_text("this is text", encoding="utf-8")
    sf.write(tmp_path / "short.wav", np.zeros(10, np.float32), 16_000)
    places = [word.replace("TMP", str(tmp_path)) for word in words]
    if words[0] in ("show", "export"):
        places += ["--root", str(root)]
    assert cli.main(places) == code
    captured = capsys.readouterr()
    assert out in captured.out
    assert err.replace("ROOT", str(root)) in captured.err
    assert "Traceback" not in captured.err
    if code not in (0,):
        assert captured.err.startswith("mosgate: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "COMMAND"),
        (["swep"], "invalid choice: 'swep'"),
        (["sweep"], "CONFIG"),
        (["export", "toy"], "-o/--output"),
        (["show", "toy", "--trial", "x"], "invalid int value"),
        (["show", "toy", "--json", "--markdown"], "not allowed with"),
    ],
)
def test_words_that_are_no_command(words: list[str], message: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_json_is_for_programs(root: Path, capsys: Capture) -> None:
    assert cli.main(["show", "toy", "--json", "--root", str(root)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["winner"], told["baseline"], told["front"]) == (2, 0, [2])
    assert len(told["trials"]) == 5
    assert told["rejections"] == {"FAIL dnsmos_p808": 1, "oom": 1}
    assert cli.main(["show", "toy", "--json", "--trial", "1", "--root", str(root)]) == 0
    assert TrialRecord.from_json(capsys.readouterr().out).number == 1
    assert cli.main(["show", "--json", "--root", str(root)]) == 0
    assert json.loads(capsys.readouterr().out) == ["damaged", "lost", "toy"]


def test_a_damaged_baseline_is_named(root: Path, capsys: Capture) -> None:
    path = root / "toy" / "trials" / fixtures.baseline().folder_name / "record.json"
    path.write_text("{}", encoding="utf-8")
    assert cli.main(["show", "toy", "--root", str(root)]) == 4
    said = capsys.readouterr().err
    assert str(path) in said
    assert "move its folder away" in said


def fake_sweep(monkeypatch: pytest.MonkeyPatch, act: Callable[..., SweepResult]) -> dict[str, Any]:
    """Put ``act`` in the place of the loop; what it is called with is returned."""
    seen: dict[str, Any] = {}

    def run_sweep(config: SweepConfig, **how: object) -> SweepResult:
        seen.update(how, config=config)
        return act(config, **how)

    study = ModuleType("search.study")
    study.run_sweep = run_sweep  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "search.study", study)
    monkeypatch.delitem(sys.modules, "search.commands.sweep", raising=False)
    return seen


def ends_with(result: SweepResult) -> Callable[..., SweepResult]:
    def act(
        _: SweepConfig,
        *,
        on_event: Callable[[Event], None],
        report: Callable[[TrialRecord], None],
        **__: object,
    ) -> SweepResult:
        on_event(
            SweepStarted(
                study="toy",
                device="a toy CPU",
                objectives=result.objectives,
                max_trials=40,
                seconds=60.0,
                spent_s=0.0,
            )
        )
        for record in result.records:
            on_event(TrialFinished(record=record))
            report(record)
        return result

    return act


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text("study: toy\nprompts: {path: prompts.tsv}\n", encoding="utf-8")
    return path


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a tracking without MLflow behind it was told; ``problem`` may be set."""
    said: list[str] = []

    class Tracking:
        problem = ""

        def __init__(self, root: Path) -> None:
            said.append(f"root {root.name}")

        def report(self, record: TrialRecord) -> None:
            said.append(f"trial {record.number}")

        def finish(self, _: SweepResult, texts: Mapping[str, str]) -> None:
            said.append(f"finish with {', '.join(texts)}")

    monkeypatch.setattr("search.tracking.Tracking", Tracking)
    return said


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (fixtures.result(), 0, "Trial 2 (bf16 default dynamic b4) won"),
        (
            fixtures.result(tuple(r for r in fixtures.records() if not r.accepted)),
            1,
            "Nothing won",
        ),
        (fixtures.result(interrupted=True), 130, "interrupted: the same command goes on"),
    ],
    ids=["winner", "nothing", "interrupted"],
)
def test_how_a_sweep_ends(
    result: SweepResult,
    code: int,
    said: str,
    config: Path,
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    seen = fake_sweep(monkeypatch, ends_with(result))
    words = ["sweep", str(config), "--root", str(tmp_path / "runs"), "--set", "budget.seconds=99"]
    assert cli.main(words) == code
    assert said in capsys.readouterr().out
    assert seen["config"].budget.seconds == 99
    assert told == [
        "root runs",
        *(f"trial {r.number}" for r in result.records),
        "finish with report.md, report.html",
    ]


def test_mlflow_being_away_is_said_and_changes_no_exit_code(
    config: Path,
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    import search.tracking

    monkeypatch.setattr(search.tracking.Tracking, "problem", "MLflow could not be told")
    fake_sweep(monkeypatch, ends_with(fixtures.result()))
    assert cli.main(["sweep", str(config), "--root", str(tmp_path)]) == 0
    assert "mosgate: MLflow could not be told" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError(Path("a.yaml"), 3, "unknown key"), 2, "a.yaml:3: unknown key"),
        (StudyMismatchError("begun under other conditions"), 2, "begun under"),
        (TextError("nothing to say"), 2, "nothing to say"),
        (InapplicableError("precision", "fp8", "needs sm_89"), 3, "precision=fp8: needs sm_89"),
        (WeightsError("voice: damaged"), 3, "voice: damaged"),
        (BaselineUnfitError("the baseline is silent"), 3, "the baseline is silent"),
        (ModuleNotFoundError("No module named 'optuna'"), 3, "install the project's dependencies"),
        (StudyBusyError("another sweep holds it"), 4, "another sweep holds it"),
        (InfrastructureError("the disk is full"), 4, "the disk is full"),
        (OSError(28, "No space left", "/x"), 4, "/x: the disk is full; free some space"),
        (PermissionError(13, "Permission denied", "/x"), 4, "choose another folder with --root"),
        (ZeroDivisionError("oh"), 4, "ZeroDivisionError: oh (run again with --debug"),
        (KeyboardInterrupt(), 130, "the same command goes on where this one stopped"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_error_has_one_message_and_its_code(
    error: BaseException,
    code: int,
    said: str,
    config: Path,
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    def act(*_: object, **__: object) -> SweepResult:
        raise error

    fake_sweep(monkeypatch, act)
    assert cli.main(["sweep", str(config), "--root", str(tmp_path)]) == code
    captured = capsys.readouterr().err
    assert said in captured
    assert len(captured.splitlines()) == 1
    assert cli.main(["sweep", str(config), "--root", str(tmp_path), "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


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


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from search import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'optuna', 'numpy', 'scipy', 'rich'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)\n"
    )
    done = run_python("-c", script)
    assert done.returncode == 0, done.stderr
    assert "exit codes:" in done.stdout


def test_every_command_helps_with_an_example(capsys: Capture) -> None:
    for command in ("sweep", "show", "export", "doctor", "say", "hear", "ui"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        assert f"example:\n  mosgate {command}" in capsys.readouterr().out


def test_version(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("mosgate ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_in_130(number: signal.Signals, tmp_path: Path) -> None:
    """A real process that is stopped in the middle of its work."""
    script = (
        "import signal, sys, time, types\n"
        "from search import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in some shells
        "def run(args):\n"
        "    print('working', flush=True)\n"
        "    time.sleep(60)\n"
        "sys.modules['search.commands.doctor'] = types.SimpleNamespace(run=run)\n"
        "sys.exit(cli.main(['doctor']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOM,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said == "mosgate: interrupted\n"


def test_a_closed_pipe_is_not_worth_a_word(root: Path) -> None:
    command = f"'{sys.executable}' -m search.cli show toy --json --root '{root}' | head -c 10"
    done = subprocess.run(
        command, shell=True, cwd=ROOM, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOM,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
