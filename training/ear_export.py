"""Turn a snapshot of ``training.ear`` into the weights of ``evaluation.asr``.

    python -m training.ear_export --snapshot OUT/ear.pt --out evaluation/asr/weights

The files read back with ``evaluation.asr.load("embedded:DIRECTORY")``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from evaluation.asr import embedded
from training.ear_model import EarShape


def export(snapshot: Path, directory: Path) -> None:
    """Write the ear's files from a snapshot; the CTC head stays behind."""
    saved = torch.load(snapshot, map_location="cpu", weights_only=True)
    prefix = "whisper."
    state = {
        name.removeprefix(prefix): value
        for name, value in saved["state"].items()
        if name.startswith(prefix)
    }
    trained = {"by": "python -m training.ear", "last": saved["history"][-1]}
    embedded.save(directory, EarShape(**saved["shape"]).dims(), state, saved["row_ids"], trained)


def main() -> None:
    """Export and read back."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--snapshot", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=embedded.WEIGHTS_DIRECTORY)
    args = parser.parse_args()
    export(args.snapshot, args.out)
    model = embedded.load_ear(args.out)
    size = (args.out / embedded.WEIGHTS).stat().st_size
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"{args.out}: {size / 1e6:.1f} MB; {n_parameters / 1e6:.1f} M parameters when rebuilt")


if __name__ == "__main__":
    main()
