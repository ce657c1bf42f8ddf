"""The command line itself: help, version, signals, words that are no command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search import cli
from tests.search.command_line import ROOM, Capture, check


def test_a_store_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    row = (["ui", "--root", "TMP"], 2, "", "mlflow.db does not exist")
    check(row, tmp_path, tmp_path, capsys)


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


def run_python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOM,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
