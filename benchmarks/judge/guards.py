"""Do the guards trip on honest speech, and on speech that is ruined?

    python -m benchmarks.judge.guards --out benchmarks/judge/guards.json

Every voice speaks the same prompts with two seeds. Honest are all of these, by themselves and as
pairs of two seeds. Ruined are silence, a loop, half of it cut off and a burst of noise, each beside
the undamaged clip. WER and DNSMOS are not asked: what is counted here are the guards alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gate.damage import RUINS
from benchmarks.judge.speech import ALL_VOICES, ruin, speak
from benchmarks.provenance import provenance
from evaluation.guards import RelativeLimits, relative_trips
from evaluation.judge import Judge
from evaluation.prompts import Prompt, load_prompts
from evaluation.scores import Clip, UtteranceScores
from evaluation.statistics import clopper_pearson_upper

PROMPTS = Path("configs/prompts/english.tsv")
SEEDS = (1, 2)
CONFIDENCE = 0.95

Pair = tuple[UtteranceScores, UtteranceScores]


def main() -> None:
    """Speak, ruin, judge and write one JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=60, help="prompts")
    parser.add_argument("--n-ruined", type=int, default=15, help="prompts of each ruin and voice")
    parser.add_argument("--voices", nargs="+", default=list(ALL_VOICES), choices=ALL_VOICES)
    args = parser.parse_args()
    prompts = load_prompts(PROMPTS, n=args.n)
    with tempfile.TemporaryDirectory() as folder, Judge("embedded", metrics=METRICS) as judge:
        voices = {
            voice: one_voice(voice, prompts, args.n_ruined, judge, Path(folder))
            for voice in args.voices
        }
    result = {**provenance(), "prompts": str(PROMPTS), "n_prompts": args.n, "seeds": SEEDS,
              "voices": voices, "all": total(voices)}  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["all"], indent=1))


METRICS = ("guards", "wer")
"""The recogniser too: two guards read its transcript."""


def one_voice(
    voice: str, prompts: Sequence[Prompt], n_ruined: int, judge: Judge, folder: Path
) -> dict[str, Any]:
    """Count the trips of one voice: honest clips, honest pairs, and each ruin."""
    clips = {seed: speak(voice, prompts, seed, folder) for seed in SEEDS}
    scores = {seed: judge.score(clips[seed]) for seed in SEEDS}
    first, second = (scores[seed] for seed in SEEDS)
    pairs = list(zip(first, second, strict=True))
    honest = [(item.utterance_id, item.guards) for item in (*first, *second)]
    both_ways = [*pairs, *((b, a) for a, b in pairs)]
    return {
        "honest_clips": counted(honest),
        "honest_pairs": counted([(b.utterance_id, beside(a, b)) for a, b in both_ways]),
        "ruined": {
            kind: ruined(kind, clips[1][:n_ruined], prompts, first, judge, folder) for kind in RUINS
        },
    }


def ruined(
    kind: str,
    clips: Sequence[Clip],
    prompts: Sequence[Prompt],
    baseline: Sequence[UtteranceScores],
    judge: Judge,
    folder: Path,
) -> dict[str, Any]:
    """Count what the guards catch of one ruin."""
    broken = [ruin(c, kind, folder, p) for c, p in zip(clips, prompts, strict=False)]
    found = judge.score(broken)
    return counted([
        (item.utterance_id, (*item.guards, *beside(base, item)))
        for base, item in zip(baseline, found, strict=False)
    ])  # fmt: skip


def beside(baseline: UtteranceScores, candidate: UtteranceScores) -> tuple[str, ...]:
    """Return the trips against the baseline's utterance."""
    return relative_trips(baseline, candidate, RelativeLimits())


def counted(trips: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Any]:
    """Count clips and those that trip anything, by guard; name those that do or do not."""
    tripped = [(name, list(why)) for name, why in trips if why]
    passed = [name for name, why in trips if not why]
    by_guard = Counter(reason.partition(":")[0] for _, why in tripped for reason in why)
    shown = tripped if len(tripped) < len(passed) else passed
    return {
        "n": len(trips), "n_tripped": len(tripped), "by_guard": dict(by_guard),
        "exceptions": shown[:10],
    }  # fmt: skip


def total(voices: dict[str, Any]) -> dict[str, Any]:
    """Add up over the voices; honest counts with the upper bound of their rate."""
    found: dict[str, Any] = {}
    for name in ("honest_clips", "honest_pairs"):
        n, k = (sum(v[name][key] for v in voices.values()) for key in ("n", "n_tripped"))
        upper = clopper_pearson_upper(k, n, CONFIDENCE)
        found[name] = {"n": n, "n_tripped": k, "upper_rate_95": upper}
    for kind in RUINS:
        rows = [v["ruined"][kind] for v in voices.values()]
        found[kind] = {key: sum(row[key] for row in rows) for key in ("n", "n_tripped")}
    return found


if __name__ == "__main__":
    main()
