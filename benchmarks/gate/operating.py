"""How often does the gate accept and reject, on real speech of a known true loss?

    python -m benchmarks.gate.operating --pools benchmarks/gate --out benchmarks/gate/operating.json

Draws judgements from the pools of ``benchmarks.gate.pool`` as a sweep would make them: looks after
8, 16, 32, ... utterances, all metrics. Each voice is judged on as many utterances as the arming of
a gate would plan for it from the pool's two hearings (``confirm.n: auto``: 128 at least, and no
more than the pool holds); what is ruined must be caught at 128 too. See ``draws`` for what a true
loss is and why prompts are drawn with replacement.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gate import draws
from benchmarks.gate.damage import RUINS
from benchmarks.gate.draws import MOS, Pool
from benchmarks.gate.promises import promises
from benchmarks.provenance import provenance
from evaluation.gate import GateConfig, Verdict, decide
from evaluation.planning import Plan, plan
from evaluation.statistics import clopper_pearson_lower, clopper_pearson_upper

N = 128
"""The fewest utterances of a full judgement."""
LOSSES_PCT = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
POINTS_PCT = (0.0, 2.0, 5.0, 10.0)
"""Losses that a promise is about; drawn more often than the rest of the curve."""
OLD_N, OLD_DRAWS = 5, 20_000
RUINED_SHARE = 0.02

Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One operating point: a pool, and what the candidate is.

    Args:
        pool: Its file.
        n: Utterances of the full judgement.
        n_draws: How many judgements.
        loss_pct: True loss; None where utterances are ruined instead.
        ruins: ``"exactly"`` 2 % of the utterances, or each ``"by chance"``, or one kind's name
            (then one utterance alone).
    """

    pool: Path
    n: int
    n_draws: int
    loss_pct: float | None = None
    ruins: str = ""


@cache
def _pool(path: Path) -> Pool:
    return Pool.read(path)


def run(task: Task) -> Result:
    """Draw and judge one operating point."""
    pool, config = _pool(task.pool), GateConfig()
    rng = np.random.default_rng(
        zlib.crc32(repr((task.pool.name, task.n, task.loss_pct, task.ruins)).encode())
    )
    verdicts, spent, by_mean = [], [], []
    for _ in range(task.n_draws):
        baseline, candidate = _draw(task, pool, rng)
        verdict, n_spent = draws.judge(baseline, candidate, config)
        verdicts.append(verdict)
        spent.append(n_spent)
        # At the full n, also where the tail has ended the judgement long before.
        is_full = n_spent == task.n
        by_mean.append(mean_alone(verdict if is_full else decide(baseline, candidate, config)))
    return {
        "voice": pool.header["voice"],
        "loss_pct": task.loss_pct,
        "ruins": task.ruins,
        "n": task.n,
        "n_draws": task.n_draws,
        **shares(verdict.status for verdict in verdicts),
        "mean_alone_accepts": float(np.mean(by_mean)),
        "mean_spent": float(np.mean(spent)),
        "not_passed_by": blame(verdicts),
    }


def _draw(task: Task, pool: Pool, rng: np.random.Generator) -> tuple[draws.Side, draws.Side]:
    if task.loss_pct is None:
        return draws.draw_ruined(pool, task.n, _ruins(task, rng), rng)
    if task.loss_pct == 0:
        return draws.draw_same(pool, task.n, rng)
    return draws.draw_damaged(pool, task.n, task.loss_pct, rng)


def _ruins(task: Task, rng: np.random.Generator) -> list[str]:
    """Return the kinds of the utterances to ruin."""
    if task.ruins in RUINS:
        return [task.ruins]
    count = round(RUINED_SHARE * task.n)
    if task.ruins == "by chance":
        count = int(rng.binomial(task.n, RUINED_SHARE))
    return [str(kind) for kind in rng.choice(list(RUINS), size=count)]


def shares(statuses: Iterable[str]) -> Result:
    """Return how often each verdict was given, and 95 % two-sided bounds of the PASS share."""
    counts = Counter(statuses)
    n = counts.total()
    passed = counts["PASS"]
    return {
        "status": {name: counts[name] / n for name in sorted(counts)},
        "accepted": passed / n,
        "accepted_low": clopper_pearson_lower(passed, n, 0.975),
        "accepted_high": clopper_pearson_upper(passed, n, 0.975),
        "rejected": counts["FAIL"] / n,
        "rejected_high": clopper_pearson_upper(counts["FAIL"], n, 0.975),
    }


def mean_alone(verdict: Verdict) -> bool:
    """Say whether both means keep the budget, whatever the words, the tail and the length do."""
    return all(bound.status == "PASS" for bound in verdict.bounds if bound.metric in MOS)


def blame(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Count the compared quantities that kept a verdict from passing."""
    counts = Counter(
        bound.metric
        for verdict in verdicts
        if verdict.status != "PASS"
        for bound in verdict.bounds
        if bound.status != "PASS"
    )
    return dict(counts.most_common())


def planned(pool: Pool) -> Plan:
    """Plan a judgement from the pool's two hearings, as the arming of a gate does.

    Raises:
        ValueError: The pool lacks a score of some kind.
    """
    found = plan(pool.a, pool.b, decide(pool.a, pool.b, GateConfig()).bounds, GateConfig())
    if found is None:
        raise ValueError(f"the pool of {pool.header['voice']} lacks scores to plan from")
    return found


@cache
def _full_n(path: Path) -> int:
    return full_n(_pool(path))


def full_n(pool: Pool) -> int:
    """Return the utterances of a full judgement: as planned, 128 at least, no more than there are.

    Nothing new is drawn beyond what the pool holds.
    """
    return max(N, min(pool.n, planned(pool).n or pool.n))


def tasks(path: Path, n_draws: int, n_full: int | None = None) -> list[Task]:
    """List the operating points of one pool; losses that it does not have are left out.

    A judgement of several times as many utterances takes as much longer and is drawn less often.

    Args:
        path: The pool.
        n_draws: Judgements of a point that a promise is about.
        n_full: Utterances of the full judgement; None takes what is planned.
    """
    pool, n = _pool(path), n_full or _full_n(path)
    scaled = min(n_draws, max(1, 2 * n_draws * N // n))
    reach = pool.losses.max(axis=1)
    listed = []
    for loss in LOSSES_PCT:
        count = scaled if loss in POINTS_PCT else max(1, scaled // 5)
        if loss == 0 or reach[0] <= loss <= reach[-1]:
            listed.append(Task(pool=path, n=n, n_draws=count, loss_pct=loss))
    by_share = ("exactly", "by chance")
    listed += [
        Task(pool=path, n=size, n_draws=max(1, count // 2), ruins=kind)
        for size, count in {N: n_draws, n: scaled}.items()
        for kind in by_share
    ]
    return listed + [
        Task(pool=path, n=N, n_draws=max(1, n_draws // 2), ruins=kind) for kind in RUINS
    ]


def describe(path: Path) -> Result:
    """Return what a pool is, and what the old practice does on it."""
    pool = _pool(path)
    reach = pool.losses.max(axis=1)
    old = []
    for loss in LOSSES_PCT:
        if loss and not reach[0] <= loss <= reach[-1]:
            continue
        row: Result = {"loss_pct": loss, "n": OLD_N, "n_draws": OLD_DRAWS}
        for name, metrics in (("both", MOS), ("ovrl_alone", MOS[:1])):
            row[name] = draws.accepts_by_points(
                pool, loss, OLD_N, metrics, n_draws=OLD_DRAWS, seed=1
            )
        old.append(row)
    return {
        "voice": pool.header["voice"],
        "n_pairs": pool.n,
        "n_prompts": pool.header.get("n_prompts", pool.n),
        "n_full": _full_n(path),
        "plan": asdict(planned(pool)),
        "pool_commit": pool.header["commit"],
        "sigma_pct": draws.sigma_pct(pool),
        "strengths": [0.0, *pool.header["strengths"]],
        "true_losses_pct": [dict(zip(MOS, row, strict=True)) for row in pool.losses.tolist()],
        "point_estimate_on_five": old,
    }


def main() -> None:
    """Judge every operating point of every pool and write one JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pools", type=Path, required=True, help="folder of the pools")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--n", type=int, help="of the full judgement, instead of as planned; pools may hold fewer"
    )
    parser.add_argument("--draws", type=int, default=1_000, help="judgements per point")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    paths = sorted(args.pools.glob("pool-*.jsonl.gz"))
    if not paths:
        parser.error(f"no pool in {args.pools}: run python -m benchmarks.gate.pool first")
    listed = [task for path in paths for task in tasks(path, args.draws, args.n)]
    with multiprocessing.get_context("spawn").Pool(args.processes) as workers:
        points = workers.map(run, listed, chunksize=1)
    kept = promises(points)
    result = {
        **provenance(),
        "voices": [describe(p) for p in paths],
        "points": points,
        "promises": kept,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for row in kept:
        found = f"{row['what']}: {row['value']:.3f} ({row['asked']})"
        print(f"{row['outcome']:6s} {row['voice']:13s} n={row['n']:<4d} {found}")


if __name__ == "__main__":
    main()
