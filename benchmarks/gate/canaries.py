"""Does the gate turn down every canary, and let a change of gain pass?

    python -m benchmarks.gate.canaries --out benchmarks/gate/canaries.json

Each voice that is installed speaks the search's prompts with two seeds; the gate is armed on them
as before a sweep, at the full n and with its default thresholds. Because damage is usually turned
down at the first look, it is then sent again from other places of the list, so that each draw
begins with other prompts. Harmless changes are judged on every prompt. About nine minutes a voice
on two quiet cores; ``--n 16 --draws 2`` tries it out in two.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.gate.scoring import METRICS, write_clips
from benchmarks.gate.voices import VOICES, VoiceMissingError, speaker
from benchmarks.provenance import provenance
from evaluation.arming import Arming, Judged, arm
from evaluation.canaries import CANARIES
from evaluation.canary_trials import judge_canaries
from evaluation.judge import Judge
from evaluation.prompts import Prompt, load_prompts, prompt_digest
from evaluation.scores import UtteranceScores
from evaluation.verdict import GateConfig

PROMPTS = Path("configs/prompts/english.tsv")
SEEDS = (0, 250_000)
VOICES_ASKED = ("embedded", "flite_rms", "flite_slt", "espeak_en_us")
T = TypeVar("T")
DAMAGES = tuple(canary for canary in CANARIES if not canary.harmless)


def try_voice(voice: str, prompts: Sequence[Prompt], judge: Judge, draws: int) -> dict[str, Any]:
    """Arm the gate on one voice, then send the damage from other places; return plain values.

    Raises:
        VoiceMissingError: It is not installed.
    """
    speak, began = speaker(voice), time.perf_counter()
    config = GateConfig()
    with tempfile.TemporaryDirectory() as place:
        first, second = (
            write_clips(folder(place, seed), prompts, list(speak(prompts, seed))) for seed in SEEDS
        )
        baseline, again = judge.score(first), judge.score(second)
        armed = arm(first, baseline, again, judge, config)
        said = [list(armed.canaries)]
        for start in starts(len(prompts), draws)[1:]:
            clips, scores = turned(first, start), turned(baseline, start)
            said.append(list(judge_canaries(DAMAGES, clips, scores, judge, config)[0]))
    return {
        "voice": voice,
        "n": len(prompts),
        "draws": len(said),
        "armed": armed.armed,
        "missed": list(armed.missed),
        "again": again_of(armed),
        "baseline_wer": round(corpus_wer(baseline), 4),
        "sigma_pct": {name: round(value, 2) for name, value in armed.sigma_pct.items()},
        "canaries": [tally(canary.name, said) for canary in CANARIES],
        "arming_s": round(armed.seconds, 1),
        "arming_n_judged": armed.n_judged,
        "took_s": round(time.perf_counter() - began, 1),
    }


def folder(place: str, seed: int) -> Path:
    """Return a new folder for what one seed says."""
    path = Path(place) / str(seed)
    path.mkdir()
    return path


def starts(n: int, draws: int) -> list[int]:
    """Return where in the list each draw begins, evenly spread."""
    return [n * draw // draws for draw in range(draws)]


def turned(items: Sequence[T], start: int) -> list[T]:
    """Return the list from ``start`` on, and then its beginning."""
    return [*items[start:], *items[:start]]


def again_of(armed: Arming) -> dict[str, Any]:
    """Return how the baseline fared against itself."""
    assert armed.again is not None  # there is a second hearing
    verdict = armed.again
    return {"status": verdict.status, "summary": verdict.summary, "power": verdict.power}


def corpus_wer(scores: Sequence[UtteranceScores]) -> float:
    """Return the word error rate: how well the recogniser follows this voice."""
    words = sum(item.wer_words or 0 for item in scores)
    return sum(item.wer_errors or 0 for item in scores) / words


def tally(name: str, said: Sequence[Sequence[Judged]]) -> dict[str, Any]:
    """Count what was said to one canary over the draws."""
    found = [judged for draw in said for judged in draw if judged.name == name]
    statuses = [judged.status for judged in found]
    return {
        "name": name,
        "what": found[0].what,
        "harmless": found[0].harmless,
        "draws": len(found),
        "right": sum(judged.is_right for judged in found),
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
        "n": [judged.n for judged in found],
        "wrong": [asdict(judged) for judged in found if not judged.is_right],
        "reason": found[0].reason,
    }


def shares(voices: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the share of damage turned down and of harmless changes accepted, in percent."""
    counts = {False: [0, 0], True: [0, 0]}
    for canary in (canary for voice in voices for canary in voice["canaries"]):
        counts[canary["harmless"]][0] += canary["right"]
        counts[canary["harmless"]][1] += canary["draws"]
    (down, damages), (passed, harmless) = counts[False], counts[True]
    return {
        "damage_turned_down_pct": 100 * down / damages,
        "harmless_accepted_pct": 100 * passed / harmless,
    }


def show(found: dict[str, Any]) -> None:
    """Print one voice's table."""
    again = found["again"]
    print(f"{found['voice']}, n={found['n']}: against itself {again['summary']}")
    for missed in found["missed"]:
        print(f"  UNARMED: {missed}")
    for canary in found["canaries"]:
        wanted = "accepted" if canary["harmless"] else "turned down"
        said = ", ".join(f"{status} {count}" for status, count in canary["statuses"].items())
        looks = f"n={min(canary['n'])} to {max(canary['n'])}"
        print(
            f"  {canary['what']:<34} {wanted} {canary['right']}/{canary['draws']} "
            f"({said}; {looks}) {canary['reason'][:80]}"
        )
    print(f"  {found['took_s']:.0f} s, of which arming {found['arming_s']:.0f} s", flush=True)


def main() -> None:
    """Try every voice, print the tables and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--voices", nargs="+", choices=VOICES, default=list(VOICES_ASKED))
    parser.add_argument("--n", type=int, default=128, help="prompts: the full n of the gate")
    parser.add_argument("--draws", type=int, default=8, help="places of the list to begin at")
    parser.add_argument("--workers", type=int, default=0, help="of the judge; 0 is one per core")
    args = parser.parse_args()
    if not 1 <= args.draws <= args.n:
        parser.error(f"--draws {args.draws}: give 1 to {args.n}, the number of prompts")
    prompts = load_prompts(PROMPTS, n=args.n)
    voices = []
    with Judge("embedded", args.workers, metrics=METRICS) as judge:
        for voice in args.voices:
            try:
                voices.append(try_voice(voice, prompts, judge, args.draws))
            except VoiceMissingError as error:
                print(error)
                continue
            show(voices[-1])
        result = {
            **provenance(),
            "prompts": {"file": str(PROMPTS), "n": args.n, "digest": prompt_digest(prompts)},
            "gate": asdict(GateConfig()),
            "judge": judge.provenance(),
            "shares": shares(voices) if voices else {},
            "voices": voices,
        }
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(result["shares"])


if __name__ == "__main__":
    main()
