"""How well does the embedded ear hear, and does its WER rise steadily with damage?

    python -m benchmarks.ear.measure --out benchmarks/ear

Sentences that nothing was trained on are spoken by flite (which must be installed): the teacher's
voice, the other voices the ear knows, and the teacher's voice damaged in five ways. Writes
``hearing.json`` and ``hearing.png``; about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ear.damages import CURVES, Damage, Float
from benchmarks.provenance import provenance
from evaluation import asr
from evaluation.metrics.wer import count_word_errors
from evaluation.prompts import Prompt, load_prompts

PROMPTS = Path("configs/prompts/english.tsv")
TEACHER, OTHERS = "rms", ("slt", "awb", "kal16")
N_RESAMPLES = 2_000

Job = tuple[str, str, str, Float]
Row = dict[str, Any]


def speak(prompts: Iterable[Prompt], voice: str) -> list[Float]:
    """Speak prompts with one of flite's voices; each shape (n_samples,), 16 kHz."""
    from training.flite import Flite, trim
    from tts.embedded.text import normalise

    flite = Flite()
    pcm = (trim(flite.speak(normalise(prompt.text), voice)) for prompt in prompts)
    return [samples.astype(np.float32) / 32768 for samples in pcm]


def jobs(prompts: list[Prompt], n_damaged: int) -> list[Job]:
    """List (condition, id, reference, samples): the voices first, then every depth of damage."""
    listed: list[Job] = []
    clean = speak(prompts, TEACHER)
    for voice, share in ((TEACHER, 1), *((other, 3) for other in OTHERS)):
        chosen = prompts[: len(prompts) // share]
        spoken = clean if voice == TEACHER else speak(chosen, voice)
        listed += [
            (f"voice {voice}", p.id, p.reference, s) for p, s in zip(chosen, spoken, strict=True)
        ]
    for damage in CURVES:
        for depth in damage.depths:
            for prompt, samples in zip(prompts[:n_damaged], clean, strict=False):
                random = np.random.default_rng(zlib.crc32(prompt.id.encode()))
                damaged = damage.apply(samples, depth, random).astype(np.float32)
                name = condition(damage, depth)
                listed.append((name, prompt.id, prompt.reference, damaged))
    return listed


def condition(damage: Damage, depth: float) -> str:
    """Name one depth of one damage."""
    return f"{damage.name} {depth:g}"


@cache
def _ear(name: str) -> asr.Recogniser:
    return asr.load(name)


def hear(job: tuple[str, Job]) -> Row:
    """Transcribe one clip and count its word errors."""
    name, (where, identity, reference, samples) = job
    heard = _ear(name).transcribe(samples)
    errors, words = count_word_errors(reference, heard)
    return {
        "condition": where, "id": identity, "errors": errors, "words": words,
        "reference": reference, "heard": heard,
    }  # fmt: skip


def summary(rows: list[Row]) -> Row:
    """Give the corpus WER with a 95 % bootstrap interval over utterances (Bisani & Ney 2004)."""
    errors = np.array([row["errors"] for row in rows])
    words = np.array([row["words"] for row in rows])
    picks = np.random.default_rng(0).integers(len(rows), size=(N_RESAMPLES, len(rows)))
    rates = errors[picks].sum(1) / words[picks].sum(1)
    return {
        "n": len(rows),
        "words": int(words.sum()),
        "wer": float(errors.sum() / words.sum()),
        "low": float(np.quantile(rates, 0.025)),
        "high": float(np.quantile(rates, 0.975)),
    }


def draw(conditions: dict[str, Row], path: Path) -> None:
    """Draw a panel per damage: WER against depth, from harmless on the left to severe."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(CURVES), figsize=(14, 3.2), sharey=True)
    clean = conditions[f"voice {TEACHER}"]["wer"]
    for panel, damage in zip(panels, CURVES, strict=True):
        found = [conditions[condition(damage, depth)] for depth in damage.depths]
        x = range(len(found))
        panel.fill_between(
            x, [100 * f["low"] for f in found], [100 * f["high"] for f in found],
            color="#4477aa", alpha=0.2, linewidth=0,
        )  # fmt: skip
        panel.plot(x, [100 * f["wer"] for f in found], color="#4477aa", marker="o", markersize=4)
        panel.axhline(100 * clean, color="#888888", linewidth=1, linestyle=":")
        panel.set_xticks(list(x), [f"{depth:g}" for depth in damage.depths], fontsize=8)
        panel.set_xlabel(damage.axis)
        panel.set_title(damage.name, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("WER, %")
    panels[0].set_ylim(0, None)
    figure.suptitle(
        f"The embedded ear under damage: teacher's voice, n = {found[0]['n']} sentences a point, "
        f"95 % interval; dotted: undamaged {100 * clean:.1f} %",
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def steady(conditions: dict[str, Row]) -> dict[str, bool]:
    """Tell for each damage whether no step towards severe lowers the WER by over 1 point."""
    verdicts = {}
    for damage in CURVES:
        wers = [conditions[condition(damage, depth)]["wer"] for depth in damage.depths]
        verdicts[damage.name] = bool(np.all(np.diff(wers) >= -0.01) and wers[-1] > wers[0])
    return verdicts


def main() -> None:
    """Measure, write the result and the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--asr", default="embedded", help="as in a sweep's YAML")
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--n", type=int, default=64, help="sentences of the teacher's voice")
    parser.add_argument("--n-damaged", type=int, default=20, help="sentences per depth of damage")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    prompts = list(load_prompts(args.prompts, n=args.n))
    listed = jobs(prompts, args.n_damaged)
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        rows = pool.map(hear, [(args.asr, job) for job in listed], chunksize=8)
    names = dict.fromkeys(row["condition"] for row in rows)
    conditions = {name: summary([r for r in rows if r["condition"] == name]) for name in names}
    teacher = [row for row in rows if row["condition"] == f"voice {TEACHER}"]
    result = {
        **provenance(),
        "asr": dict(asr.load(args.asr).provenance),
        "prompts": str(args.prompts),
        "conditions": conditions,
        "rises_steadily": steady(conditions),
        "worst": sorted(teacher, key=lambda row: -row["errors"] / row["words"])[:10],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "hearing.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(conditions, args.out / "hearing.png")
    for name, found in conditions.items():
        interval = f"{100 * found['low']:.1f}-{100 * found['high']:.1f}"
        print(f"{name:18s} WER {100 * found['wer']:5.1f} %  ({interval})  n = {found['n']}")
    print("rises steadily:", result["rises_steadily"])


if __name__ == "__main__":
    main()
