"""Build pools of real, scored speech, from which thousands of judgements can be drawn.

    python -m benchmarks.gate.pool --out benchmarks/gate

For each voice that is installed, every prompt is spoken with two seeds; the second is damaged at
three strengths, calibrated so that the worse of OVRL and P808 loses about 2, 5 and 12 % of its
mean, and ruined outright in one of four ways. Everything is scored by the judge as in a sweep.
Writes ``pool-VOICE.jsonl.gz`` (scores only), and goes on with the missing voices when run again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.gate import scorefile
from benchmarks.gate.balance import balanced_swaps
from benchmarks.gate.damage import RUINS, blend, ruin
from benchmarks.gate.scoring import METRICS, score
from benchmarks.gate.voices import VOICES, Spoken, VoiceMissingError, speaker
from benchmarks.provenance import provenance
from evaluation.judge import Judge
from evaluation.prompts import Prompt, load_prompts, prompt_digest
from evaluation.scores import UtteranceScores

PROMPTS = Path("configs/prompts/english.tsv")
N_PROMPTS = 148
SEEDS = (1_000, 2_000)
LOSSES_PCT = (2.0, 5.0, 12.0)
"""What the damage alone is calibrated to cost; the last lies beyond the 10 % that is reported."""
GRID = (0.03, 0.08, 0.2, 0.4, 0.8)
N_CALIBRATION = 32
MOS = ("dnsmos_ovrl", "dnsmos_p808")
T = TypeVar("T")


class CalibrationError(RuntimeError):
    """No strength of the damage costs this voice what is wanted."""


def build(voice: str, prompts: Sequence[Prompt], judge: Judge, dnsmos: Judge, out: Path) -> Path:
    """Speak, damage and score with one voice, and write its pool.

    Raises:
        VoiceMissingError: It is not installed.
        CalibrationError: The damage does not hurt it enough.
    """
    speak, began = speaker(voice), time.perf_counter()
    one, other = (list(speak(prompts, seed)) for seed in SEEDS)
    spoke_s = time.perf_counter() - began
    of_one, of_other = (score(judge, prompts, side) for side in (one, other))
    swaps = balanced_swaps(of_one, of_other)
    _, second = swapped(one, other, swaps)
    a, b = swapped(of_one, of_other, swaps)
    curve = measure_curve(prompts, second, dnsmos)
    strengths = [strength_for(loss, curve) for loss in LOSSES_PCT]
    conditions = {"a": a, "b": b}
    for strength in strengths:
        damaged = [damage(item, strength) for item in second]
        conditions[f"strength {strength:.4f}"] = score(judge, prompts, damaged)
    kinds = [ruin_of(i) for i in range(len(prompts))]
    ruined = [
        replace(item, samples=ruin(item.samples, kind, prompt.id), tokens=())
        for item, kind, prompt in zip(second, kinds, prompts, strict=True)
    ]
    conditions["ruined"] = score(judge, prompts, ruined)
    header = {
        **provenance(),
        "voice": voice,
        "n": len(prompts),
        "seeds": SEEDS,
        "n_swapped": sum(swaps),
        "prompts": {"file": str(PROMPTS), "digest": prompt_digest(prompts)},
        "judge": judge.provenance(),
        "calibration": {"n": min(N_CALIBRATION, len(prompts)), "loss_pct_by_strength": curve},
        "losses_pct_wanted": LOSSES_PCT,
        "strengths": strengths,
        "ruins": kinds,
        "spoke_s": round(spoke_s, 1),
        "took_s": round(time.perf_counter() - began, 1),
    }
    path = pool_path(out, voice)
    scorefile.write(path, header, conditions)
    return path


def pool_path(folder: Path, voice: str) -> Path:
    """Return where a voice's pool lies."""
    return folder / f"pool-{voice}.jsonl.gz"


def swapped(
    first: Sequence[T], second: Sequence[T], swaps: Sequence[bool]
) -> tuple[list[T], list[T]]:
    """Return both sides with the marked places exchanged."""
    pairs = [(b, a) if swap else (a, b) for a, b, swap in zip(first, second, swaps, strict=True)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def damage(spoken: Spoken, strength: float) -> Spoken:
    """Return the utterance at one strength of the damage."""
    return replace(spoken, samples=blend(spoken.samples, strength))


def ruin_of(index: int) -> str:
    """Return how the prompt of this index is ruined: the kinds take turns."""
    return tuple(RUINS)[index % len(RUINS)]


def measure_curve(
    prompts: Sequence[Prompt],
    spoken: Sequence[Spoken],
    dnsmos: Judge,
) -> list[tuple[float, float]]:
    """Measure (strength, percent lost of the undamaged) on the first prompts, by DNSMOS alone."""
    n = min(N_CALIBRATION, len(prompts))
    clean = score(dnsmos, prompts[:n], spoken[:n])
    points = [(0.0, 0.0)]
    for strength in GRID:
        damaged = [damage(item, strength) for item in spoken[:n]]
        found = score(dnsmos, prompts[:n], damaged)
        points.append((strength, worse_loss_pct(clean, found)))
    return points


def strength_for(loss_pct: float, curve: Sequence[tuple[float, float]]) -> float:
    """Return the strength at which a measured curve reaches a loss, between its points.

    Raises:
        CalibrationError: The curve does not reach so far.
    """
    strengths, losses = (np.array(column) for column in zip(*curve, strict=True))
    rising = np.maximum.accumulate(losses)
    if not rising[0] < loss_pct <= rising[-1]:
        reach = f"{rising[0]:.1f} to {rising[-1]:.1f} %"
        raise CalibrationError(f"a loss of {loss_pct} % is outside what the damage costs: {reach}")
    above = int(np.argmax(rising >= loss_pct))
    low, high = float(rising[above - 1]), float(rising[above])
    start, end = float(strengths[above - 1]), float(strengths[above])
    return round(start + (loss_pct - low) / (high - low) * (end - start), 4)


def losses_pct(
    baseline: Sequence[UtteranceScores], candidate: Sequence[UtteranceScores]
) -> dict[str, float]:
    """Return the loss of each mean DNSMOS score, in percent of the baseline's.

    Raises:
        ValueError: A score is missing.
    """
    found = {}
    for metric in MOS:
        base, other = (
            [getattr(item, metric) for item in side if getattr(item, metric) is not None]
            for side in (baseline, candidate)
        )
        if len(base) < len(baseline) or len(other) < len(candidate):
            raise ValueError(f"{metric} is missing on some utterance: {candidate[0].failures}")
        found[metric] = 100 * (1 - float(np.mean(other)) / float(np.mean(base)))
    return found


def worse_loss_pct(
    baseline: Sequence[UtteranceScores], candidate: Sequence[UtteranceScores]
) -> float:
    """Return the larger of the two losses."""
    return max(losses_pct(baseline, candidate).values())


def main() -> None:
    """Build the pools that are not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the pools")
    parser.add_argument("--voices", nargs="+", choices=VOICES, default=list(VOICES))
    parser.add_argument("--n", type=int, default=N_PROMPTS, help="prompts per voice")
    parser.add_argument("--workers", type=int, default=0, help="of the judge; 0 is one per core")
    parser.add_argument("--minutes", type=float, default=25.0, help="start no voice beyond these")
    parser.add_argument("--again", action="store_true", help="build also what is there already")
    args = parser.parse_args()
    prompts = load_prompts(PROMPTS, n=args.n)
    wanted = [v for v in args.voices if args.again or not pool_path(args.out, v).exists()]
    started, longest = time.perf_counter(), 0.0
    with (
        Judge("embedded", args.workers, metrics=METRICS) as judge,
        Judge("embedded", args.workers, metrics=("dnsmos",)) as dnsmos,
    ):
        for voice in wanted:
            began = time.perf_counter()
            if began - started + longest > 60 * args.minutes:
                print(f"{voice} would not end in time; run the same command again to have it")
                break
            try:
                path = build(voice, prompts, judge, dnsmos, args.out)
            except (VoiceMissingError, CalibrationError) as error:
                print(f"{voice}: {error}", flush=True)
                continue
            longest = max(longest, time.perf_counter() - began)
            print(
                f"{path}: {len(prompts)} prompts in {time.perf_counter() - began:.0f} s", flush=True
            )


if __name__ == "__main__":
    main()
