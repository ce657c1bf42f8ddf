"""Draw judgements from a pool, each of a candidate whose true loss is known exactly.

A draw takes prompts *with* replacement: the pool is then the whole population, its means are the
truth, and draws are independent. (Without replacement a draw of 128 of 148 prompts would hardly
differ from the next, and the shares would flatter the gate.) What the figures do not hold is how
far a pool's prompts are from all the prompts of the world; nor does a true loss need that.

A candidate of a wanted true loss takes each utterance from one of two neighbouring strengths of
the damage, by a coin weighted so that the expected loss of the worse score is the wanted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.gate import scorefile
from evaluation.gate import GateConfig, Verdict, decide
from evaluation.scores import UtteranceScores
from evaluation.sequential import looks

MOS = ("dnsmos_ovrl", "dnsmos_p808")
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Side = list[UtteranceScores]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One voice's scored utterances, prompt by prompt in the same order everywhere.

    Args:
        header: Where they come from.
        a: The baseline.
        b: The baseline with other seeds.
        levels: ``b``, then ``b`` damaged ever more strongly.
        ruined: ``b`` ruined outright.
        kinds: How each prompt's utterance is ruined.
    """

    header: dict[str, Any]
    a: Sequence[UtteranceScores]
    b: Sequence[UtteranceScores]
    levels: Sequence[Sequence[UtteranceScores]]
    ruined: Sequence[UtteranceScores]
    kinds: Sequence[str]

    @classmethod
    def read(cls, path: Path) -> Pool:
        """Read what ``benchmarks.gate.pool`` wrote.

        Raises:
            ScoreFileError: The file is missing, damaged or of a run that was cut.
        """
        header, found = scorefile.read(path)
        if header.get("missing"):
            raise scorefile.ScoreFileError(
                f"{path} lacks {header['missing']} conditions; build it again"
            )
        levels = [found[name] for name in found if name.startswith("strength")]
        return cls(
            header=header,
            a=found["a"],
            b=found["b"],
            levels=[found["b"], *levels],
            ruined=found["ruined"],
            kinds=header["ruins"],
        )

    @property
    def n(self) -> int:
        """How many prompts there are."""
        return len(self.a)

    @cached_property
    def losses(self) -> Floats:
        """True loss of each level and DNSMOS score, in percent: shape (levels, 2)."""
        base = mos(self.a).mean(axis=0)
        return np.array([100 * (1 - mos(level).mean(axis=0) / base) for level in self.levels])

    def mixture(self, loss_pct: float) -> tuple[int, float]:
        """Return a level, and the share of utterances that take the next level instead.

        Raises:
            ValueError: No two levels have this loss between them.
        """
        for level, (low, high) in enumerate(zip(self.losses[:-1], self.losses[1:], strict=True)):
            if low.max() <= loss_pct <= high.max():
                return level, _share(low, high, loss_pct)
        reach = self.losses.max(axis=1)
        raise ValueError(f"{loss_pct} % is not between the levels {np.round(reach, 2).tolist()} %")


def mos(scores: Sequence[UtteranceScores]) -> Floats:
    """Return both DNSMOS scores: shape (n, 2)."""
    return np.array([[getattr(item, metric) for metric in MOS] for item in scores], np.float64)


def _share(low: Floats, high: Floats, loss_pct: float) -> float:
    """Find the share of the higher level whose worse score loses this much, by bisection."""
    below, above = 0.0, 1.0
    for _ in range(60):
        middle = (below + above) / 2
        if ((1 - middle) * low + middle * high).max() < loss_pct:
            below = middle
        else:
            above = middle
    return above


def draw_same(pool: Pool, n: int, rng: np.random.Generator) -> tuple[Side, Side]:
    """Draw the baseline against itself: which seed is which side is a coin, so the loss is 0."""
    baseline, candidate = [], []
    for i, swapped in zip(_prompts(pool, n, rng), rng.random(n) < 0.5, strict=True):
        sides = (pool.b[i], pool.a[i]) if swapped else (pool.a[i], pool.b[i])
        baseline.append(sides[0])
        candidate.append(sides[1])
    return _named(baseline), _named(candidate)


def draw_damaged(
    pool: Pool, n: int, loss_pct: float, rng: np.random.Generator
) -> tuple[Side, Side]:
    """Draw a candidate of a true loss.

    Raises:
        ValueError: The pool has no such loss.
    """
    level, share = pool.mixture(loss_pct)
    picked = _prompts(pool, n, rng)
    steps = level + (rng.random(n) < share)
    candidate = [pool.levels[step][i] for step, i in zip(steps, picked, strict=True)]
    return _named([pool.a[i] for i in picked]), _named(candidate)


def draw_ruined(
    pool: Pool, n: int, kinds: Sequence[str], rng: np.random.Generator
) -> tuple[Side, Side]:
    """Draw the baseline against itself with a few utterances ruined, one of each kind given."""
    picked = _prompts(pool, n, rng)
    where = rng.choice(n, size=len(kinds), replace=False)
    candidate = [pool.b[i] for i in picked]
    for position, kind in zip(where, kinds, strict=True):
        i = rng.choice([i for i, known in enumerate(pool.kinds) if known == kind])
        picked[position] = i
        candidate[position] = pool.ruined[i]
    return _named([pool.a[i] for i in picked]), _named(candidate)


def _prompts(pool: Pool, n: int, rng: np.random.Generator) -> Indices:
    return rng.integers(pool.n, size=n)


def _named(scores: Sequence[UtteranceScores]) -> Side:
    """Give every drawn utterance a name of its own: a prompt may be drawn twice."""
    return [replace(item, utterance_id=f"{i:04d}") for i, item in enumerate(scores)]


def judge(baseline: Side, candidate: Side, config: GateConfig) -> tuple[Verdict, int]:
    """Judge as a sweep does: look after 8, 16, 32, ... utterances, and stop when it is settled.

    Returns:
        The verdict, and how many utterances it took.

    Raises:
        ValueError: The gate could not judge at all, which no figure must count as a rejection.
    """
    for size in looks(len(baseline)):
        complete = size == len(baseline)
        verdict = decide(baseline, candidate[:size], config, complete=complete)
        if verdict.status == "UNGATED":
            raise ValueError(f"these scores cannot be compared: {verdict.summary}")
        if verdict.is_final:
            break
    return verdict, size


def sigma_pct(pool: Pool) -> dict[str, float]:
    """Return the standard deviation of one paired difference, baseline against itself."""
    a, b = mos(pool.a), mos(pool.b)
    found = 100 * (b - a).std(axis=0, ddof=1) / a.mean(axis=0)
    return dict(zip(MOS, map(float, found), strict=True))


def accepts_by_points(
    pool: Pool, loss_pct: float, n: int, metrics: Sequence[str], *, n_draws: int, seed: int
) -> float:
    """Return how often the old practice accepts: the mean of a few prompts, without a bound.

    Args:
        pool: To draw from.
        loss_pct: True loss of the worse score; 0 is the baseline against itself.
        n: Prompts, such as five.
        metrics: Which scores must keep 95 %.
        n_draws: How many.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    picked = rng.integers(pool.n, size=(n_draws, n))
    base, other = mos(pool.a), mos(pool.b)
    if loss_pct > 0:
        level, share = pool.mixture(loss_pct)
        steps = level + (rng.random((n_draws, n)) < share)
        table = np.array([mos(level) for level in pool.levels])
        baseline, candidate = base[picked], table[steps, picked]
    else:
        swapped = (rng.random((n_draws, n)) < 0.5)[..., None]
        baseline = np.where(swapped, other[picked], base[picked])
        candidate = np.where(swapped, base[picked], other[picked])
    kept = candidate.mean(axis=1) / baseline.mean(axis=1) >= 0.95
    return float(kept[:, [MOS.index(metric) for metric in metrics]].all(axis=1).mean())
