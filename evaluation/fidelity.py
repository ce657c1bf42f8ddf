"""The token level: how far a candidate's probabilities are from the baseline's, tokens given.

The baseline's own speech tokens are fed to both (teacher forcing), so nothing depends on chance
and a few hundred positions tell what dozens of judged utterances would. It sees the language model
at temperature 1 and nothing else: neither the vocoder nor the sampling parameters (temperature,
top-p, guidance). So it may reject, and it may never accept. Arrays in, numbers out.

Source: KL divergence and top-1 agreement on given text are what llama.cpp's ``--kl-divergence``
reports of quantized models; the end decision is added because a wrong one is a cut or endless
utterance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.drift import Drift
from evaluation.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class FidelityStats:
    """What a candidate's probabilities are like beside the baseline's.

    Args:
        n_sentences: Sentences compared.
        n_positions: Positions compared, one end per sentence included.
        kl_mean: KL(baseline || candidate) in nats, mean over positions.
        kl_p99: Its 99th percentile.
        top1: Share of positions where the likeliest token is the same.
        eos_drift: Mean absolute change of the probability of the end, over all positions.
        eos_drift_max: The largest.
        eos_drift_final: Mean absolute change where the baseline ended.
        log_likelihood_change: Change of the log-likelihood of the baseline's tokens, the end
            included, in nats per position; below 0 they have become less likely.
        n_not_finite: Positions with NaN or nothing but "never"; these count as ``FLOOR``.
    """

    n_sentences: int
    n_positions: int
    kl_mean: float
    kl_p99: float
    top1: float
    eos_drift: float
    eos_drift_max: float
    eos_drift_final: float
    log_likelihood_change: float
    n_not_finite: int

    def to_mapping(self) -> dict[str, Any]:
        """Return a mapping of JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> FidelityStats:
        """Read what ``to_mapping`` wrote."""
        return cls(**mapping)

    def metrics(self) -> dict[str, float]:
        """Return the figures that people compare, under the names they have in a record."""
        return {
            "fidelity_kl_mean": self.kl_mean,
            "fidelity_kl_p99": self.kl_p99,
            "fidelity_top1": self.top1,
            "fidelity_eos_drift": self.eos_drift_max,
            "fidelity_log_likelihood_change": self.log_likelihood_change,
        }


@dataclass(frozen=True, kw_only=True)
class FidelityConfig:
    """What is plainly broken; measured on the embedded voice in ``benchmarks/fidelity/``.

    Real configurations (16 bits, 8-bit weights, activations and cache) lie a hundredfold below
    the first limit, simulated 4-bit weights sevenfold. All cases beyond a limit that were heard
    also failed the gate, by words alone.

    Args:
        max_kl_mean: Nats, over all positions. A model without its sixth layer has 0.48 and may
            still be understood; one whose 8-bit cache has scales half as large again has 0.85
            and is not.
        max_kl_p99: Nats, at one position in a hundred: 2.5 and 6.6 for the two above. With few
            positions it is almost the worst one, so this asks for a catastrophe.
        min_top1: Share of positions: 0.51 and 0.46, and 0.43 for 3-bit weights, which fail.
        max_eos_drift_final: Mean absolute change of the end's probability where it was due:
            0.001 and 0.13. The screen sees few ends, and one of three that is missed altogether
            makes 0.33.
        max_likelihood_loss: Nats per position that the baseline's tokens may lose: 0.72 and 1.1.
    """

    max_kl_mean: float = 0.7
    max_kl_p99: float = 5.0
    min_top1: float = 0.35
    max_eos_drift_final: float = 0.5
    max_likelihood_loss: float = 1.0

    def __post_init__(self) -> None:
        """Refuse limits that reject everything or mean nothing.

        Raises:
            ValueError: A limit outside its range.
        """
        for name in ("max_kl_mean", "max_kl_p99", "max_likelihood_loss"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("min_top1", "max_eos_drift_final"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")


def screen(stats: FidelityStats, config: FidelityConfig) -> tuple[str, ...]:
    """Return why a candidate is rejected without being heard; empty is no acceptance.

    A figure that is no number never keeps its limit.
    """
    c, loss = config, -stats.log_likelihood_change
    lost = f"{stats.n_not_finite} of {stats.n_positions} positions have no finite probabilities"
    kl = f"KL {stats.kl_mean:.3g} nats to the baseline on its own tokens (limit {c.max_kl_mean:g})"
    worst = f"KL {stats.kl_p99:.3g} nats at one position in a hundred (limit {c.max_kl_p99:g})"
    top = (
        f"the likeliest token is the baseline's at {100 * stats.top1:.0f} % of the positions "
        f"(limit {100 * c.min_top1:g} %)"
    )
    end = (
        f"the probability of the end is off by {stats.eos_drift_final:.2f} where the baseline ends "
        f"(limit {c.max_eos_drift_final:g})"
    )
    less = f"the baseline's tokens lose {loss:.3g} nats each (limit {c.max_likelihood_loss:g})"
    checks = (
        (stats.n_not_finite == 0, lost),
        (stats.kl_mean <= c.max_kl_mean, kl),
        (stats.kl_p99 <= c.max_kl_p99, worst),
        (stats.top1 >= c.min_top1, top),
        (stats.eos_drift_final <= c.max_eos_drift_final, end),
        (loss <= c.max_likelihood_loss, less),
    )
    return tuple(f"Broken at the token level: {said}." for is_kept, said in checks if not is_kept)


def rejection(reasons: tuple[str, ...]) -> Verdict:
    """Return the verdict on a candidate that nobody needs to hear.

    Raises:
        ValueError: There is no reason: the screen never accepts.
    """
    if not reasons:
        raise ValueError("there is no reason to reject, and a screen cannot accept")
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    summary = f"FAIL: nothing was heard. {reasons[0]}{more}"
    return Verdict(status="FAIL", n=0, bounds=(), reasons=reasons, summary=summary)


def summarise(drifts: Sequence[Drift]) -> FidelityStats:
    """Sum up the sentences of one candidate.

    Raises:
        ValueError: There are none.
    """
    if not drifts:
        raise ValueError("there is no sentence to sum up")
    kl = np.concatenate([d.kl for d in drifts])
    ends = np.concatenate([np.abs(d.end_change) for d in drifts])
    return FidelityStats(
        n_sentences=len(drifts),
        n_positions=len(kl),
        kl_mean=float(kl.mean()),
        kl_p99=float(np.percentile(kl, 99)),
        top1=float(np.concatenate([d.is_same_top for d in drifts]).mean()),
        eos_drift=float(ends.mean()),
        eos_drift_max=float(ends.max()),
        eos_drift_final=math.fsum(abs(float(d.end_change[-1])) for d in drifts) / len(drifts),
        log_likelihood_change=float(np.concatenate([d.target_change for d in drifts]).mean()),
        n_not_finite=sum(d.n_not_finite for d in drifts),
    )
