"""The gate as a classifier: its verdicts at n = 128 against a reference judgement at n >= 500.

    python -m benchmarks.gate.confusion --scores DIR/classify.jsonl.gz --out DIR/confusion.json

The reference of a configuration is the gate's own verdict on everything that was spoken: PASS is
good, FAIL is bad, and what even that many utterances leave open is unclear. Each draw takes other
prompts of these, in another order, and judges with early looks as a sweep does. The draw's own
utterances are part of the reference, which flatters the gate a little, so the table is also given
against the reference without them.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gate import draws, scorefile
from benchmarks.gate.configurations import BASELINE
from benchmarks.provenance import provenance
from evaluation.gate import GateConfig, Verdict, decide
from evaluation.scores import UtteranceScores
from evaluation.statistics import clopper_pearson_lower, clopper_pearson_upper

N = 128
N_DRAWS = 40
TRUTHS = {"PASS": "good", "FAIL": "bad", "UNDECIDED": "unclear"}
N_RESAMPLES = 2_000

Result = dict[str, Any]
Scores = Sequence[UtteranceScores]


def judge_all(
    conditions: Mapping[str, Scores], n: int, n_draws: int, config: GateConfig
) -> list[Result]:
    """Judge every configuration by everything, and again and again by a draw.

    The draws take the same utterances for all configurations, as a sweep does.

    Raises:
        ValueError: There are fewer prompts than a draw takes.
    """
    baseline = conditions[BASELINE]
    prompts = sorted({prompt_of(item) for item in baseline})
    if n > len(prompts):
        raise ValueError(f"a draw of {n} needs as many prompts; there are {len(prompts)}")
    picks = [_pick(baseline, prompts, n, np.random.default_rng(i)) for i in range(n_draws)]
    rows = []
    for name, candidate in conditions.items():
        if name == BASELINE:
            continue
        reference = decide(baseline, candidate, config)
        rows.append(
            {
                "name": name,
                "reference": described(reference),
                "truth": TRUTHS[reference.status],
                "draws": [_judge_draw(baseline, candidate, pick, config) for pick in picks],
            }
        )
    return rows


def prompt_of(item: UtteranceScores) -> str:
    """Return the prompt behind an utterance: its name without the seed's number."""
    return item.utterance_id.rpartition(".")[0]


def _pick(baseline: Scores, prompts: Sequence[str], n: int, rng: np.random.Generator) -> list[int]:
    """Choose n prompts in random order, and one of the seeds of each."""
    places: dict[str, list[int]] = {}
    for i, item in enumerate(baseline):
        places.setdefault(prompt_of(item), []).append(i)
    chosen = rng.permutation(len(prompts))[:n]
    return [int(rng.choice(places[prompts[i]])) for i in chosen]


def _judge_draw(
    baseline: Scores, candidate: Scores, pick: Sequence[int], config: GateConfig
) -> Result:
    """Judge one draw, and by everything that is not in it."""
    verdict, spent = draws.judge([baseline[i] for i in pick], [candidate[i] for i in pick], config)
    rest = sorted(set(range(len(baseline))) - set(pick))
    others = decide([baseline[i] for i in rest], [candidate[i] for i in rest], config)
    return {"status": verdict.status, "spent": spent, "truth_of_others": TRUTHS[others.status]}


def described(verdict: Verdict) -> Result:
    """Return a verdict's figures as plain values."""
    changes = {
        bound.metric: [round(v, 2) for v in (bound.delta_pct, bound.lower_pct, bound.upper_pct)]
        for bound in verdict.bounds
    }
    return {
        "status": verdict.status,
        "n": verdict.n,
        "summary": verdict.summary,
        "change_lower_upper": changes,
    }


def table(pairs: Sequence[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Count (truth, status) pairs into rows of good, bad and unclear."""
    counts = Counter(pairs)
    statuses = ("PASS", "UNDECIDED", "FAIL")
    return {t: {s: counts[t, s] for s in statuses} for t in TRUTHS.values()}


def first_draw(rows: Sequence[Result]) -> Result:
    """Return the table of the first draw: one judgement a configuration, so bounds are exact."""
    found = table([(row["truth"], row["draws"][0]["status"]) for row in rows])
    return {
        "table": found,
        "bad_accepted": _share(found["bad"]["PASS"], sum(found["bad"].values())),
        "good_accepted": _share(found["good"]["PASS"], sum(found["good"].values())),
    }


def _share(count: int, n: int) -> Result:
    """Return a share with its two-sided 95 % Clopper-Pearson bounds; None of nothing."""
    if n == 0:
        return {"count": 0, "n": 0, "share": None, "low": None, "high": None}
    return {
        "count": count,
        "n": n,
        "share": count / n,
        "low": clopper_pearson_lower(count, n, 0.975),
        "high": clopper_pearson_upper(count, n, 0.975),
    }


def all_draws(rows: Sequence[Result]) -> Result:
    """Return the table over all draws; its bounds come of resampling whole configurations.

    Draws of one configuration are of one truth, so they are not independent of each other.
    """
    judged = [(row["truth"], d["status"]) for row in rows for d in row["draws"]]
    others = [(d["truth_of_others"], d["status"]) for row in rows for d in row["draws"]]
    spent = {
        truth: float(np.mean([d["spent"] for r in rows if r["truth"] == truth for d in r["draws"]]))
        for truth in sorted({row["truth"] for row in rows})
    }
    return {
        "table": table(judged),
        "table_against_the_rest": table(others),
        "accepted": {truth: _accepted(rows, truth) for truth in TRUTHS.values()},
        "mean_spent": spent,
    }


def _accepted(rows: Sequence[Result], truth: str) -> Result | None:
    """Return the mean PASS share of configurations of one truth, with 95 % bootstrap bounds."""
    rates = np.array(
        [np.mean([d["status"] == "PASS" for d in r["draws"]]) for r in rows if r["truth"] == truth]
    )
    if not len(rates):
        return None
    picks = np.random.default_rng(0).integers(len(rates), size=(N_RESAMPLES, len(rates)))
    means = rates[picks].mean(axis=1)
    low, high = (float(np.quantile(means, q)) for q in (0.025, 0.975))
    return {"n": len(rates), "share": float(rates.mean()), "low": low, "high": high}


def main() -> None:
    """Judge and write one JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--scores", type=Path, required=True, help="of benchmarks.gate.classify")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=N, help="utterances of the gate's judgement")
    parser.add_argument("--draws", type=int, default=N_DRAWS)
    args = parser.parse_args()
    header, conditions = scorefile.read(args.scores)
    if BASELINE not in conditions:
        parser.error(f"{args.scores} has no baseline: run benchmarks.gate.classify again")
    rows = judge_all(conditions, args.n, args.draws, GateConfig())
    result = {
        **provenance(),
        "scored_with": {key: header[key] for key in ("commit", "gpu", "cpu", "n_cpus", "versions")},
        "identity": header["identity"],
        "same_words": header["same_words"],
        "same_dnsmos": header.get("same_dnsmos"),
        "refused": header["refused"],
        "failed": header["failed"],
        "n": args.n,
        "n_reference": len(conditions[BASELINE]),
        "n_draws": args.draws,
        "first_draw": first_draw(rows),
        "all_draws": all_draws(rows),
        "configurations": [
            {**row, "draws": dict(Counter(d["status"] for d in row["draws"])),
             "options": header["options"][row["name"]]}
            for row in rows
        ],
    }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for row in result["configurations"]:
        print(f"{row['truth']:8s} {row['name']:32s} {row['draws']}  {row['reference']['summary']}")
    print(json.dumps(result["first_draw"], indent=1))


if __name__ == "__main__":
    main()
