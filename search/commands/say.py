"""``mosgate say``: speak a text into a wav file."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from search.commands.assignments import assignments
from search.commands.chosen import options_from, read_winner, text_of
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
    text = text_of(args.text)
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
    exported = read_winner(Path(args.winner))
    options = options_from({**flat_options(exported["options"]), **typed})
    return args.model or str(exported.get("model", "embedded")), options


def _write(target: Path, audio: Audio) -> None:
    """Write the whole file or nothing."""
    import soundfile as sf

    fresh = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        sf.write(fresh, audio.samples, audio.sample_rate_hz, subtype="PCM_16", format="WAV")
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
