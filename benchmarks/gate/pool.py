"""Build pools of real, scored speech, from which thousands of judgements can be drawn.

    python -m benchmarks.gate.pool --out benchmarks/gate
    python -m benchmarks.gate.pool --out DIR --voices embedded --device cuda:0 --seconds 290

For each voice that is installed, every prompt is spoken with two seeds; the second is damaged at
three strengths, calibrated so that the worse of OVRL and P808 loses about 2, 5 and 12 % of its
mean, and ruined outright in one of four ways. A voice that ruins an utterance now and then by its
own sampling needs more pairs: it speaks more prompts, in several turns of other seeds. Everything
is scored by the judge as in a sweep; with a GPU, words and DNSMOS are taken in batches there.
Writes ``pool-VOICE.jsonl.gz`` (scores only) condition by condition: a run that is cut names what is
missing. Goes on with the missing voices when run again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.gate import scorefile
from benchmarks.gate.balance import balanced_swaps
from benchmarks.gate.damage import RUINS, blend, ruin
from benchmarks.gate.deadline import Deadline, OutOfTimeError
from benchmarks.gate.scorers import InBatches, OnJudge, Scorer
from benchmarks.gate.voices import VOICES, Spoken, VoiceMissingError
from benchmarks.provenance import provenance
from evaluation.prompts import Prompt, load_prompts, prompt_digest
from evaluation.scores import UtteranceScores

PROMPTS = Path("configs/prompts/english.tsv")
N_PROMPTS = 148
SIZES = {"embedded": (296, 3)}
"""Prompts and turns of a voice of which 148 pairs do not show how often it ruins one by itself."""
SEEDS = (1_000, 2_000)
"""Where the seeds of both sides start; they count on over all turns."""
LOSSES_PCT = (2.0, 5.0, 12.0)
"""What the damage alone is calibrated to cost; the last lies beyond the 10 % that is reported."""
GRID = (0.03, 0.08, 0.2, 0.4, 0.8)
N_CALIBRATION = 32
MOS = ("dnsmos_ovrl", "dnsmos_p808")
CLEAN = ("a", "b")
T = TypeVar("T")

Condition = tuple[str, list[UtteranceScores]]


class CalibrationError(RuntimeError):
    """No strength of the damage costs this voice what is wanted."""


def utterances(prompts: Sequence[Prompt], n_turns: int) -> tuple[Prompt, ...]:
    """Return every prompt in every turn, under a name of its own where there are several.

    Several turns are in the order of their length, so that batches end together.
    """
    if n_turns == 1:
        return tuple(prompts)
    turns = [replace(p, id=f"{p.id}.{turn}") for turn in range(n_turns) for p in prompts]
    return tuple(sorted(turns, key=lambda p: (len(p.text), p.id)))


def build(voice: str, prompts: Sequence[Prompt], scorer: Scorer, path: Path) -> None:
    """Speak, damage and score with one voice, and write its pool as it grows.

    Raises:
        VoiceMissingError: It is not installed.
        CalibrationError: The damage does not hurt it enough.
        OutOfTimeError: The time was up; the file says what it lacks.
    """
    began = time.perf_counter()
    header: dict[str, Any] = {
        **provenance(),
        "voice": voice,
        "n": len(prompts),
        "n_prompts": len({prompt.text for prompt in prompts}),
        "seeds": SEEDS,
        "prompts": {"file": str(PROMPTS), "digest": prompt_digest(prompts)},
        "judge": scorer.provenance(),
        "losses_pct_wanted": LOSSES_PCT,
    }
    conditions: dict[str, list[UtteranceScores]] = {}
    header["missing"] = n_missing = len(CLEAN) + len(LOSSES_PCT) + 1
    for name, scores in _conditions(voice, prompts, scorer, header):
        conditions[name] = scores
        header["missing"] = n_missing - len(conditions)
        header["took_s"] = round(time.perf_counter() - began, 1)
        scorefile.write(path, header, conditions)
        print(f"{voice}: {name} after {header['took_s']:.0f} s", flush=True)
    header["agreement"] = scorer.agreement()
    scorefile.write(path, header, conditions)


def _conditions(
    voice: str, prompts: Sequence[Prompt], scorer: Scorer, header: dict[str, Any]
) -> Iterator[Condition]:
    """Yield the scores of one condition after the other, and note in the header how they came."""
    began = time.perf_counter()
    one, other = (scorer.speak(voice, prompts, seed) for seed in SEEDS)
    header["spoke_s"] = round(time.perf_counter() - began, 1)
    of_one, of_other = (scorer.score(prompts, side) for side in (one, other))
    swaps = balanced_swaps(of_one, of_other)
    header["n_swapped"] = sum(swaps)
    _, second = swapped(one, other, swaps)
    yield from zip(CLEAN, swapped(of_one, of_other, swaps), strict=True)
    curve = measure_curve(prompts, second, scorer)
    strengths = [strength_for(loss, curve) for loss in LOSSES_PCT]
    n_heard = min(N_CALIBRATION, len(prompts))
    header["calibration"] = {"n": n_heard, "loss_pct_by_strength": curve}
    header["strengths"] = strengths
    # The ruined ones first: what they promise needs no strength.
    kinds = [ruin_of(i) for i in range(len(prompts))]
    header["ruins"] = kinds
    ruined = [
        replace(item, samples=ruin(item.samples, kind, prompt.id), tokens=())
        for item, kind, prompt in zip(second, kinds, prompts, strict=True)
    ]
    yield "ruined", scorer.score(prompts, ruined)
    for strength in strengths:
        damaged = [damage(item, strength) for item in second]
        yield f"strength {strength:.4f}", scorer.score(prompts, damaged)


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
    prompts: Sequence[Prompt], spoken: Sequence[Spoken], scorer: Scorer
) -> list[tuple[float, float]]:
    """Measure (strength, percent lost of the undamaged) by DNSMOS alone, on some of the prompts."""
    step = max(1, len(prompts) // N_CALIBRATION)
    some, heard = prompts[::step][:N_CALIBRATION], spoken[::step][:N_CALIBRATION]
    clean = scorer.opinions(some, heard)
    points = [(0.0, 0.0)]
    for strength in GRID:
        found = scorer.opinions(some, [damage(item, strength) for item in heard])
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


def is_whole(path: Path) -> bool:
    """Say whether a pool is there and lacks nothing."""
    return path.exists() and not scorefile.read(path)[0].get("missing")


def build_all(voices: Sequence[str], scorer: Scorer, args: argparse.Namespace) -> None:
    """Build pools, one voice after the other, until the time is up."""
    for voice in voices:
        n_prompts, n_turns = SIZES.get(voice, (N_PROMPTS, 1))
        prompts = load_prompts(PROMPTS, n=args.n_prompts or n_prompts)
        path, began = pool_path(args.out, voice), time.perf_counter()
        try:
            build(voice, utterances(prompts, args.turns or n_turns), scorer, path)
        except (VoiceMissingError, CalibrationError) as error:
            print(f"{voice}: {error}", flush=True)
        except OutOfTimeError:
            print(f"{path}: cut, the time is up; {_lacks(path)}. Run the same command again")
            return
        else:
            print(f"{path}: whole, in {time.perf_counter() - began:.0f} s", flush=True)


def _lacks(path: Path) -> str:
    """Say what a pool lacks."""
    if not path.exists():
        return "nothing was scored"
    missing = scorefile.read(path)[0]["missing"]
    return f"{missing} conditions are missing" if missing else "only the comparison is missing"


def main() -> None:
    """Build the pools that are not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the pools")
    parser.add_argument("--voices", nargs="+", choices=VOICES, default=list(VOICES))
    parser.add_argument("--n-prompts", type=int, help="instead of what the voice needs")
    parser.add_argument("--turns", type=int, help="of every prompt, instead of what it needs")
    parser.add_argument("--device", default="cpu", help="of the embedded voice and of batches")
    parser.add_argument(
        "--batched", action="store_true", help="words and DNSMOS in batches; a GPU always does"
    )
    parser.add_argument("--processes", type=int, default=4, help="that use the device in batches")
    parser.add_argument("--workers", type=int, default=0, help="of the judge; 0 is one per core")
    parser.add_argument(
        "--seconds", type=float, default=3600.0, help="end by then with what is there"
    )
    parser.add_argument("--again", action="store_true", help="build also what is there already")
    args = parser.parse_args()
    wanted = [v for v in args.voices if args.again or not is_whole(pool_path(args.out, v))]
    deadline = Deadline.after(args.seconds)
    scorer = (
        InBatches(args.device, args.processes, args.workers, deadline)
        if args.batched or args.device != "cpu"
        else OnJudge(args.workers, deadline)
    )
    with scorer:
        build_all(wanted, scorer, args)


if __name__ == "__main__":
    main()
