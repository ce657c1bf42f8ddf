"""What looking early costs and saves, drawn many times: the schedule of ``evaluation.sequential``.

    python -m benchmarks.gate.simulate --out benchmarks/gate/simulate.json

Paired differences are drawn from a normal distribution with the sigma given; the two DNSMOS scores
lose the same or only one loses, and correlate as given. Rejection and acceptance are by the t
bounds that ``decide`` uses, without words and tail. The tail's figures are exact, not drawn.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import special

from benchmarks.provenance import provenance
from evaluation.gate import GateConfig
from evaluation.sequential import early_confidence, looks
from evaluation.statistics import binomial_cdf
from evaluation.tail_bound import passing_counts

Array = npt.NDArray[np.float64]
SIZES = (32, 64, 128)
SIGMAS = (4.0, 5.0, 6.0, 7.0, 8.0)
LOSSES = (0.0, 2.0, 3.0, 5.0, 10.0)
CORRELATION = 0.5


@dataclass(frozen=True, kw_only=True)
class Row:
    """Shares of the draws.

    Args:
        n: Utterances of the full judgement.
        sigma_pct: Of one paired difference, of both scores.
        loss_pct: True loss.
        n_losing: Scores that lose it, 1 or 2.
        accepted_at_full_n: Accepted by the last look alone.
        accepted: Accepted, early looks in use.
        cost: Utterances judged, on average, as a share of n.
    """

    n: int
    sigma_pct: float
    loss_pct: float
    n_losing: int
    accepted_at_full_n: float
    accepted: float
    cost: float


def simulate(
    n: int, sigma_pct: float, loss_pct: float, n_losing: int, *, n_draws: int, seed: int
) -> Row:
    """Draw candidates of one true loss and judge each with the early looks and without."""
    rng = np.random.default_rng(seed)
    config = GateConfig()
    scores = _draw(rng, n_draws, n, sigma_pct, (loss_pct, loss_pct if n_losing == 2 else 0.0))
    running = np.ones(n_draws, dtype=bool)
    judged = np.full(n_draws, float(n))
    for size in looks(n)[:-1]:
        confidence = early_confidence(size, config.confidence)
        rejected = np.zeros(n_draws, dtype=bool)
        for values in scores:
            mean, reach = _interval(values[:, :size], confidence)
            rejected |= mean + reach < -config.mos_budget_pct
        judged[running & rejected] = size
        running &= ~rejected
    passed = np.ones(n_draws, dtype=bool)
    for values in scores:
        mean, reach = _interval(values, config.confidence)
        passed &= mean - reach > -config.mos_budget_pct
    return Row(
        n=n,
        sigma_pct=sigma_pct,
        loss_pct=loss_pct,
        n_losing=n_losing,
        accepted_at_full_n=float(passed.mean()),
        accepted=float((passed & running).mean()),
        cost=float(judged.mean() / n),
    )


def _draw(
    rng: np.random.Generator, n_draws: int, n: int, sigma_pct: float, losses: tuple[float, float]
) -> tuple[Array, Array]:
    """Return two scores' paired differences in percent, each of shape (n_draws, n)."""
    one = rng.standard_normal((n_draws, n))
    other = rng.standard_normal((n_draws, n))
    other = CORRELATION * one + np.sqrt(1 - CORRELATION**2) * other
    return sigma_pct * one - losses[0], sigma_pct * other - losses[1]


def _interval(values: Array, confidence: float) -> tuple[Array, Array]:
    """Return mean and reach of the one-sided t bound of each row."""
    n = values.shape[1]
    reach = special.stdtrit(n - 1, confidence) * values.std(axis=1, ddof=1) / np.sqrt(n)
    return values.mean(axis=1), reach


def tail_row(n: int, ruined_rate: float) -> dict[str, float]:
    """Return what the tail makes of a rate of newly ruined utterances that nothing makes up for."""
    config = GateConfig()
    allowed = int(passing_counts(n, config)[0])
    return {
        "n": n,
        "ruined_rate": ruined_rate,
        "allowed": allowed,
        "not_accepted": 1 - binomial_cdf(allowed, n, ruined_rate),
    }


def main() -> None:
    """Draw every setting and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    settings = [
        (n, sigma, loss, n_losing)
        for n in SIZES
        for sigma in SIGMAS
        for loss in LOSSES
        for n_losing in ((2,) if loss == 0 else (1, 2))
    ]
    rows = [simulate(*one, n_draws=args.draws, seed=args.seed) for one in settings]
    tail = [tail_row(n, rate) for n in (*SIZES, 256) for rate in (0.0, 0.0002, 0.001, 0.02, 0.05)]
    result = {
        **provenance(),
        "n_draws": args.draws,
        "correlation": CORRELATION,
        "early_confidence": {size: early_confidence(size, 0.95) for size in looks(max(SIZES))[:-1]},
        "looks": [asdict(row) for row in rows],
        "tail": tail,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(
            f"n={row.n:3d} sigma={row.sigma_pct:g} loss={row.loss_pct:4g} x{row.n_losing}: "
            f"accepted {row.accepted:.4f} ({row.accepted_at_full_n:.4f} without early looks), "
            f"cost {row.cost:.3f} of n"
        )


if __name__ == "__main__":
    main()
