"""``mosgate say``: speak a text into a wav file."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from search.commands.assignments import assignments
from search.exits import Exit, InputError
from search.labels import flat_options

if TYPE_CHECKING:
    from tts.options import Options
    from tts.types import Audio


def run(args: argparse.Namespace) -> int:
    """Build the voice with the given options and speak."""
    target = Path(args.output)
    if not target.absolute().parent.is_dir():
        raise InputError(f"-o {target}: the folder {target.absolute().parent} does not exist")
    if target.is_dir():
        raise InputError(f"-o {target}: is a folder; name a wav file")
    text = _text(args.text)
    model, options = _chosen(args)

    import torch

    from tts.build import build
    from tts.types import Utterance

    torch.set_num_threads(1)  # as a sweep times it: small layers gain nothing from more
    built = build(model, options, args.device)
    began = time.perf_counter()
    (audio,) = built.synthesizer.synthesize([Utterance(id="say", text=text, seed=args.seed)])
    spent = time.perf_counter() - began
    _write(target, audio)
    print(
        f"{target}: {audio.duration_s:.2f} s of speech in {spent:.2f} s "
        f"(RTF {spent / max(audio.duration_s, 1e-9):.3f}, loaded in {built.load_s:.2f} s)"
    )
    if audio.n_truncated:
        print(
            f"mosgate: warning: {audio.n_truncated} sentence(s) were cut off because the voice "
            "did not stop by itself; try another --seed or a lower temperature",
            file=sys.stderr,
        )
    return Exit.WINNER


def _chosen(args: argparse.Namespace) -> tuple[str, Options]:
    """Return model and options: those of an exported winner, what was typed on top."""
    typed = assignments(args.set)
    if args.winner is None:
        return args.model or "embedded", options_from(typed)
    exported = _read_winner(Path(args.winner))
    options = options_from({**flat_options(exported["options"]), **typed})
    return args.model or str(exported.get("model", "embedded")), options


def _read_winner(path: Path) -> dict[str, Any]:
    """Read an exported winner.yaml; its folder stands for it."""
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


def _text(given: str) -> str:
    text = sys.stdin.read() if given == "-" else given
    if "\0" in text:
        raise InputError("the text holds a NUL byte; remove it")
    if not text.strip():
        raise InputError("the text is empty; give a sentence to say")
    return text


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


def _write(target: Path, audio: Audio) -> None:
    """Write the whole file or nothing."""
    import soundfile as sf

    fresh = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        sf.write(fresh, audio.samples, audio.sample_rate_hz, subtype="PCM_16", format="WAV")
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
