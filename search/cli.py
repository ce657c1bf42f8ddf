"""The ``mosgate`` command line: what can be said, and what exit codes mean.

Commands live in ``search/commands`` and are imported when they run, so that ``--help`` answers
at once.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, TypeAlias

from search.exits import exit_code_of, explain

_EXAMPLES = """\
examples:
  mosgate doctor                                  what this machine can do
  mosgate sweep configs/quickstart.yaml           search, prove, report
  mosgate show quickstart                         the report again
  mosgate show quickstart --trial 7               one trial, with its reasons
  mosgate export quickstart -o winner/            ship what won
  mosgate profile -o profile/                     where the time goes, and what to try
  mosgate say "Good morning." -o morning.wav      hear the voice
  mosgate hear morning.wav                        read what a recogniser hears
  mosgate judge --baseline A --candidate B --texts said.tsv   gate two folders of wavs
  mosgate ui                                      compare runs in MLflow

exit codes: 0 there is a winner (or the command did its work), 1 nothing passed the gate or
nothing is confirmed, 2 configuration or input, 3 environment, 4 infrastructure, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The words after ``mosgate``; those of the process by default.
    """
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    logging.basicConfig(level=logging.DEBUG if args.debug else logging.WARNING)
    try:
        command = importlib.import_module(f"search.commands.{args.command}")
        code = int(command.run(args))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # such as `mosgate show | head`: not worth a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last stop
        if args.debug:
            traceback.print_exc()
        resumes = isinstance(error, KeyboardInterrupt) and args.command == "sweep"
        goes_on = "; the same command goes on where this one stopped" if resumes else ""
        print(f"mosgate: {explain(error)}{goes_on}", file=sys.stderr)
        return exit_code_of(error)


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mosgate",
        description="Find the fastest way to run a speech model that still sounds right, and "
        "prove it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_sweep, _add_show, _add_export, _add_profile, _add_judge, _add_doctor, _add_say,
        _add_hear, _add_ui,
    ):  # fmt: skip
        add(commands)
    return parser


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("mosgate")
        except PackageNotFoundError:
            found = "(not installed: running from its source)"
        print(f"mosgate {found}")
        parser.exit()


_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # no public name


def _add(commands: _Commands, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--debug", action="store_true", help="show tracebacks and log messages")
    return command


def _add_root(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--root", default="mlruns", metavar="DIR", help="where studies live (default: mlruns)"
    )


def _add_sweep(commands: _Commands) -> None:
    command = _add(
        commands,
        "sweep",
        "search the optimizations of a speech model, confirm the best on unseen prompts (which "
        "takes time of its own, after budget.seconds); the same command resumes",
        "mosgate sweep configs/quickstart.yaml --set budget.seconds=300",
    )
    command.add_argument("config", metavar="CONFIG", help="the sweep's YAML file")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key of the file, such as budget.seconds=300 (the search's time) or "
        "confirm.seconds=600 (the confirmation's); may be repeated",
    )
    command.add_argument("--plain", action="store_true", help="plain lines even on a terminal")
    _add_root(command)


def _add_show(commands: _Commands) -> None:
    command = _add(
        commands,
        "show",
        "show a study's report, one trial, or which studies there are",
        "mosgate show quickstart --trial 7",
    )
    command.add_argument("study", nargs="?", metavar="STUDY", help="left out: list the studies")
    command.add_argument("--trial", type=int, metavar="N", help="one trial in full")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="for a README")
    _add_root(command)


def _add_export(commands: _Commands) -> None:
    command = _add(
        commands,
        "export",
        "write the winner that was confirmed, with its evidence, environment and checksums",
        "mosgate export quickstart -o winner/",
    )
    command.add_argument("study", metavar="STUDY")
    command.add_argument("-o", "--output", required=True, metavar="DIR", help="a new folder")
    command.add_argument(
        "--force", action="store_true", help="replace an earlier export in DIR, and nothing else"
    )
    _add_root(command)


def _add_profile(commands: _Commands) -> None:
    command = _add(
        commands,
        "profile",
        "show where the time of one configuration goes, how far it is from what this device can "
        "do, and what could be tried",
        "mosgate profile --set precision=bf16 --set kv_cache=static -o profile/",
    )
    command.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help="a sweep's YAML file, whose baseline is profiled; left out: the defaults",
    )
    command.add_argument("-o", "--output", required=True, metavar="DIR", help="a new folder")
    command.add_argument(
        "--force", action="store_true", help="replace an earlier profile in DIR, and nothing else"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one option on top, such as compile=default or batch_size=8",
    )
    command.add_argument("--winner", metavar="PATH", help="profile an exported winner")
    command.add_argument("--model", help="embedded (the default), embedded:DIR, module:Class")
    command.add_argument("--device", help="auto (the default), cpu, cuda or cuda:N")
    command.add_argument(
        "--text", action="append", default=[], help="what to speak; may be repeated: in turn"
    )
    command.add_argument("--repeats", type=int, default=5, metavar="N", help="timed calls")
    command.add_argument(
        "--batches", metavar="SIZES", help="batch sizes to try, such as 1,4,16 (default: doubling)"
    )
    command.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="time for the batch sizes; 0 leaves them out (default: 60)",
    )
    command.add_argument("--json", action="store_true", help="print profile.json")
    _add_root(command)


def _add_judge(commands: _Commands) -> None:
    command = _add(
        commands,
        "judge",
        "judge a folder of wavs against a baseline's, whoever made them",
        "mosgate judge --baseline before/ --candidate after/ --texts said.tsv --out judged.json",
    )
    command.add_argument("--baseline", required=True, metavar="DIR", help="what it must keep up to")
    command.add_argument("--candidate", required=True, metavar="DIR", help="what is judged")
    command.add_argument(
        "--texts", required=True, metavar="FILE", help="name<TAB>text (<TAB>reference), a line each"
    )
    command.add_argument(
        "--baseline-again", metavar="DIR", help="the baseline with other seeds: must pass, too"
    )
    command.add_argument("--n", type=int, metavar="N", help="judge only N of the utterances")
    command.add_argument(
        "--asr", default="embedded", help="embedded, or a Whisper name such as base.en"
    )
    command.add_argument(
        "--aligned", action="store_true", help="both are renderings of the same tokens: tell PESQ"
    )
    command.add_argument(
        "--no-arming", action="store_true", help="do not try the gate on damaged copies"
    )
    command.add_argument("--out", metavar="FILE", help="write the whole judgement as JSON")
    command.add_argument("--json", action="store_true", help="print it as JSON")
    _add_gate(command)


def _add_gate(command: argparse.ArgumentParser) -> None:
    """Add one option per field of the gate."""
    from dataclasses import fields

    from evaluation.verdict import GateConfig

    group = command.add_argument_group("gate", "what a candidate must keep (docs/judge.md)")
    for item in fields(GateConfig):
        group.add_argument(
            f"--{item.name.replace('_', '-')}",
            type=type(item.default),
            metavar="X",
            help=f"default: {item.default}",
        )


def _add_doctor(commands: _Commands) -> None:
    command = _add(
        commands, "doctor", "check what this machine can do and what it lacks", "mosgate doctor"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    command.add_argument("--json", action="store_true", help="for programs")
    _add_root(command)


def _add_say(commands: _Commands) -> None:
    command = _add(
        commands,
        "say",
        "speak a text into a wav file",
        'mosgate say "It is half past three." -o clock.wav --set precision=bf16',
    )
    command.add_argument("text", metavar="TEXT", help="what to say; - reads standard input")
    command.add_argument("-o", "--output", required=True, metavar="WAV", help="the file to write")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one option, such as precision=bf16, batch_size=2 or temperature=0.5",
    )
    command.add_argument("--seed", type=int, default=0, help="of the sampling (default: 0)")
    command.add_argument(
        "--winner", metavar="PATH", help="speak as an exported winner: its folder or winner.yaml"
    )
    command.add_argument("--model", help="embedded (the default), embedded:DIR, module:Class")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def _add_hear(commands: _Commands) -> None:
    command = _add(
        commands, "hear", "write down what a recogniser hears in a wav file", "mosgate hear a.wav"
    )
    command.add_argument("wav", metavar="WAV")
    command.add_argument(
        "--asr", default="embedded", help="embedded, or a Whisper name such as base.en"
    )


def _add_ui(commands: _Commands) -> None:
    command = _add(
        commands, "ui", "open MLflow on the studies, on this machine only", "mosgate ui --port 5000"
    )
    command.add_argument("--port", type=int, default=5000)
    command.add_argument(
        "--host", default="127.0.0.1", help="who may connect (default: this machine alone)"
    )
    _add_root(command)


if __name__ == "__main__":
    sys.exit(main())
