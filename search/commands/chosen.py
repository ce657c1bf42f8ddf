"""What a person chose on the command line: a text, options, an exported winner."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from search.exits import InputError
from search.sections import MeasureConfig

if TYPE_CHECKING:
    from tts.options import Options


def text_of(given: str) -> str:
    """Return a text to speak; ``-`` reads standard input.

    Raises:
        InputError: It is empty or holds a NUL byte.
    """
    text = sys.stdin.read() if given == "-" else given
    if "\0" in text:
        raise InputError("the text holds a NUL byte; remove it")
    if not text.strip():
        raise InputError("the text is empty; give a sentence to say")
    return text


def read_winner(path: Path) -> dict[str, Any]:
    """Read an exported winner.yaml; its folder stands for it.

    Raises:
        InputError: Not there, not YAML, or without options.
    """
    path = path / "winner.yaml" if path.is_dir() else path
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--winner {path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--winner {path}: is not YAML; export the study again") from error
    if not isinstance(found, dict) or not isinstance(found.get("options"), dict):
        raise InputError(f"--winner {path}: holds no options; name what mosgate export wrote")
    return found


def read_measure(path: Path) -> MeasureConfig | None:
    """Read how an exported winner was measured, from the configuration beside it.

    Returns:
        None where there is no such file, or it does not say.

    Raises:
        InputError: It cannot be read as what export writes.
    """
    path = (path if path.is_dir() else path.parent) / "config.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        told = found.get("measure")
        if told is None:
            return None
        return MeasureConfig(**{**told, "texts": tuple(told["texts"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"--winner: {path} is not what export writes; export again") from error


def options_from(given: dict[str, Any]) -> Options:
    """Build options from flat keys; sampling parameters stand beside the other axes.

    Raises:
        InputError: An unknown key or a value outside its choices.
    """
    import difflib
    from dataclasses import fields

    from tts.options import Options, Sampling

    sampling_names = {f.name for f in fields(Sampling)}
    known = sampling_names | {f.name for f in fields(Options)} - {"sampling"}
    values: dict[str, Any] = {}
    sampling: dict[str, Any] = {}
    for key, value in given.items():
        name = key.removeprefix("sampling.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise InputError(
                f"--set {key}: unknown option{meant} (known: {', '.join(sorted(known))})"
            )
        (sampling if name in sampling_names else values)[name] = value
    try:
        return Options.from_mapping({**values, "sampling": sampling})
    except ValueError as error:
        raise InputError(f"the options: {error}") from error
