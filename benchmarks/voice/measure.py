"""How good is the embedded voice, beside its teacher, on held-out sentences of our own?

    python -m benchmarks.voice.measure --out benchmarks/voice/quality.json

Official DNSMOS and pocketsphinx WER of the voice and of its teacher (flite rms, so flite must be
installed) on the same sentences; runaways and truncations are counted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.provenance import provenance
from evaluation.prompts import Prompt, load_prompts

SAMPLE_RATE_HZ = 16_000
PROMPTS = Path("configs/prompts/english.tsv")
Float = npt.NDArray[np.float32]


def speak_voice(prompts: list[Prompt], options: dict[str, Any], seed: int) -> Iterator[Any]:
    """Yield the voice's ``Audio`` of each prompt."""
    from tts.build import build
    from tts.options import Options
    from tts.types import Utterance

    built = build("embedded", Options.from_mapping(options), "auto")
    size = options.get("batch_size", 1)
    for i in range(0, len(prompts), size):
        batch = [Utterance(id=p.id, text=p.text, seed=seed) for p in prompts[i : i + size]]
        yield from built.synthesizer.synthesize(batch)


def speak_teacher(prompts: list[Prompt]) -> Iterator[Float]:
    """Yield the teacher's samples of each prompt's spoken form."""
    from training.flite import Flite, trim
    from tts.embedded.text import normalise

    flite = Flite()
    for prompt in prompts:
        yield trim(flite.speak(normalise(prompt.text))).astype(np.float32) / 32768


@cache
def judges() -> tuple[Any, Any]:
    """Return this process's DNSMOS and its pocketsphinx decoder."""
    from pocketsphinx import Decoder

    from evaluation.metrics.base import MetricSettings
    from evaluation.metrics.dnsmos import Dnsmos

    torch.set_num_threads(1)
    return Dnsmos(MetricSettings(asr="embedded")), Decoder(
        samprate=SAMPLE_RATE_HZ, loglevel="FATAL"
    )


def judge(job: tuple[str, str, Float]) -> dict[str, Any]:
    """Score one clip: DNSMOS, pocketsphinx's words and their errors."""
    identity, reference, samples = job
    dnsmos, decoder = judges()
    mos = dnsmos.official(np.clip(samples, -1, 1))
    decoder.start_utt()
    decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    heard = decoder.hyp().hypstr if decoder.hyp() else ""
    words = jiwer.process_words(reference, heard or "-")
    return {
        "id": identity,
        "ovrl": mos["ovrl"],
        "p808": mos["p808"],
        "errors": words.substitutions + words.deletions + words.insertions,
        "words": len(reference.split()),
        "heard": heard,
        "duration_s": len(samples) / SAMPLE_RATE_HZ,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the means and the corpus WER."""
    return {
        "n": len(rows),
        "dnsmos_ovrl": float(np.mean([row["ovrl"] for row in rows])),
        "dnsmos_p808": float(np.mean([row["p808"] for row in rows])),
        "pocketsphinx_wer": sum(r["errors"] for r in rows) / sum(r["words"] for r in rows),
    }


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--n", type=int, help="prompts at the most")
    parser.add_argument("--options", type=json.loads, default={}, help="JSON, as in a record")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wavs", type=Path, help="also write the audio here")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    prompts = list(load_prompts(args.prompts, n=args.n))
    audio = list(speak_voice(prompts, args.options, args.seed))
    teacher = list(speak_teacher(prompts))
    if args.wavs:
        write_wavs(args.wavs, prompts, [a.samples for a in audio])
    context = multiprocessing.get_context("spawn")
    with context.Pool(args.processes) as pool:
        of_voice = [(p.id, p.reference, a.samples) for p, a in zip(prompts, audio, strict=True)]
        of_teacher = [(p.id, p.reference, t) for p, t in zip(prompts, teacher, strict=True)]
        voice_rows = pool.map(judge, of_voice, chunksize=4)
        teacher_rows = pool.map(judge, of_teacher, chunksize=4)
    ratios = [
        a.duration_s / max(t["duration_s"], 0.1) for a, t in zip(audio, teacher_rows, strict=True)
    ]
    bad = [
        {"id": p.id, "ratio": r, "truncated": a.n_truncated}
        for p, a, r in zip(prompts, audio, ratios, strict=True)
        if a.n_truncated or not 0.5 < r < 1.6
    ]
    result = {
        **provenance(),
        "prompts": str(args.prompts),
        "options": args.options,
        "voice": summary(voice_rows),
        "teacher": summary(teacher_rows),
        "duration_ratio": {"p1": float(np.quantile(ratios, 0.01)), "mean": float(np.mean(ratios)),
                           "p99": float(np.quantile(ratios, 0.99))},
        "runaway_or_truncated": bad,
        "worst": sorted(voice_rows, key=lambda r: -r["errors"] / r["words"])[:12],
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: result[k] for k in ("voice", "teacher", "duration_ratio")}, indent=1))
    print(f"runaway or truncated: {len(bad)} of {len(prompts)}")


def write_wavs(folder: Path, prompts: list[Prompt], samples: list[Float]) -> None:
    """Write one wav per prompt."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    for prompt, audio in zip(prompts, samples, strict=True):
        soundfile.write(folder / f"{prompt.id}.wav", audio, SAMPLE_RATE_HZ)


if __name__ == "__main__":
    main()
