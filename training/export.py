"""Turn a training run into the weight files that ship: the voice's and the ear's.

python -m training.export --run training/data/run [--decoder codec-b.pt]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from tts.embedded import weights
from tts.embedded.codec import CodecDecoder, CodecDecoderConfig
from tts.embedded.lm import SpeechLM

VERSION = "3"


def read_voice(run: Path, decoder: str) -> tuple[SpeechLM, CodecDecoder]:
    """Load the averaged weights of a run into the shipped modules."""
    lm = SpeechLM()
    lm.load_state_dict(torch.load(run / "lm.pt", map_location="cpu"))
    saved = torch.load(run / decoder, map_location="cpu")
    codec = CodecDecoder(CodecDecoderConfig(**saved["config"]))
    codec.load_state_dict(saved["decoder"])
    return lm.eval(), codec.eval()


def last_entry(path: Path) -> dict[str, object]:
    """Return the last line of a JSON-lines log."""
    entry: dict[str, object] = json.loads(path.read_text().strip().splitlines()[-1])
    return entry


def main() -> None:
    """Write the voice."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--decoder", default="codec.pt", help="which decoder of the run")
    parser.add_argument("--out", type=Path, default=weights.DEFAULT_DIRECTORY)
    args = parser.parse_args()
    lm, codec = read_voice(args.run, args.decoder)
    info = {
        "version": VERSION,
        "teacher": "flite cmu_us_rms",
        "lm": last_entry(args.run / "lm.jsonl"),
        "codec": last_entry(args.run / Path(args.decoder).with_suffix(".jsonl")),
    }
    print(weights.save(args.out, lm, codec, info))


if __name__ == "__main__":
    main()
