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
import numpy.typing as npt

from evaluation.verdict import Verdict

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

TOP_K = 256
"""Tokens kept per position of the baseline; see ``Sketch`` for what that costs."""
FLOOR = -100.0  # nats: what "never" counts as, so that every figure is finite


@dataclass(frozen=True, kw_only=True, eq=False)
class Sketch:
    """The baseline's distributions over one sentence, kept small.

    The likeliest ``TOP_K`` tokens as they are, the rest as one sum. KL computed from it is that
    of the lumped distributions and so never above the true one (data processing inequality);
    ``benchmarks/fidelity/NOTES.md`` says by how much it is below.

    Args:
        name: Which sentence, so that the candidate's is found beside it.
        targets: The given tokens, the end last; shape (n,).
        end_token: The id of the end decision.
        ids: The likeliest tokens, likeliest first; shape (n, k).
        log_probs: Their natural log-probabilities; shape (n, k).
        rest: Logarithm of the sum of all others' probabilities; shape (n,).
        target_log_probs: Of the given tokens; shape (n,).
        end_log_probs: Of the end decision; shape (n,).
    """

    name: str
    targets: Ints
    end_token: int
    ids: Ints
    log_probs: Floats
    rest: Floats
    target_log_probs: Floats
    end_log_probs: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Drift:
    """How one sentence changed, per position; arrays of shape (n,)."""

    kl: npt.NDArray[np.float64]
    is_same_top: npt.NDArray[np.bool_]
    end_change: npt.NDArray[np.float64]
    target_change: npt.NDArray[np.float64]
    n_not_finite: int


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
    """What is plainly broken; measured in ``benchmarks/fidelity/``.

    Args:
        max_kl_mean: Nats, over all positions.
        min_top1: Share of positions.
        max_eos_drift_final: Mean absolute change of the end's probability where it was due.
        max_likelihood_loss: Nats per position that the baseline's tokens may lose.
    """

    max_kl_mean: float = 0.5
    min_top1: float = 0.4
    max_eos_drift_final: float = 0.4
    max_likelihood_loss: float = 0.5


def screen(stats: FidelityStats, config: FidelityConfig) -> tuple[str, ...]:
    """Return why a candidate is rejected without being heard; empty is no acceptance."""
    checks = (
        (
            stats.n_not_finite > 0,
            f"{stats.n_not_finite} of {stats.n_positions} positions have no finite probabilities",
        ),
        (
            not stats.kl_mean <= config.max_kl_mean,
            (
                f"KL {stats.kl_mean:.2g} nats to the baseline on its own tokens "
                f"(limit {config.max_kl_mean:g})"
            ),
        ),
        (
            not stats.top1 >= config.min_top1,
            (
                f"the likeliest token is the baseline's at {100 * stats.top1:.0f} % of the positions "
                f"(limit {100 * config.min_top1:.0f} %)"
            ),
        ),
        (
            not stats.eos_drift_final <= config.max_eos_drift_final,
            (
                f"the probability of the end is off by {stats.eos_drift_final:.2f} where the baseline "
                f"ends (limit {config.max_eos_drift_final:g})"
            ),
        ),
        (
            not -stats.log_likelihood_change <= config.max_likelihood_loss,
            (
                f"the baseline's tokens lose {-stats.log_likelihood_change:.2g} nats each "
                f"(limit {config.max_likelihood_loss:g})"
            ),
        ),
    )
    return tuple(f"Broken at the token level: {said}." for is_bad, said in checks if is_bad)


def rejection(reasons: tuple[str, ...]) -> Verdict:
    """Return the verdict on a candidate that nobody needs to hear."""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    summary = f"FAIL: nothing was judged. {reasons[0]}{more}"
    return Verdict(status="FAIL", n=0, bounds=(), reasons=reasons, summary=summary)


def sketch(name: str, log_probs: Floats, tokens: Sequence[int], end_token: int) -> Sketch:
    """Keep what is needed of a baseline's sentence.

    Args:
        name: Which sentence.
        log_probs: Shape (n_tokens + 1, vocabulary), float32, normalised.
        tokens: The given tokens, without the end.
        end_token: The id of the end decision.

    Raises:
        ValueError: The shapes do not fit, or a value is NaN.
    """
    if log_probs.ndim != 2 or len(log_probs) != len(tokens) + 1:
        raise ValueError(f"{name}: {log_probs.shape} log-probabilities for {len(tokens)} tokens")
    if np.isnan(log_probs).any():
        raise ValueError(f"{name}: the baseline's log-probabilities hold NaN")
    targets = np.array([*tokens, end_token], dtype=np.int32)
    ids = _likeliest(log_probs, min(TOP_K, log_probs.shape[1]))
    kept, rest = _lump(log_probs, ids)
    return Sketch(
        name=name,
        targets=targets,
        end_token=end_token,
        ids=ids,
        log_probs=kept,
        rest=rest,
        target_log_probs=_at(log_probs, targets),
        end_log_probs=log_probs[:, end_token].clip(FLOOR),
    )


def compare(baseline: Sketch, log_probs: Floats) -> Drift:
    """Compare a candidate's log-probabilities, shape (n, vocabulary), with the baseline's.

    Raises:
        ValueError: Another number of positions, or a vocabulary that lacks the baseline's tokens.
    """
    n, vocabulary = log_probs.shape
    needed = 1 + int(max(baseline.ids.max(), baseline.targets.max(), baseline.end_token))
    if n != len(baseline.targets) or vocabulary < needed:
        raise ValueError(
            f"{baseline.name}: log-probabilities of shape {log_probs.shape}, but the baseline's "
            f"sentence has {len(baseline.targets)} positions and tokens up to {needed - 1}"
        )
    # "Never" is a value that a padded token may have; all of them "never" is none.
    is_lost = ~np.isfinite(log_probs.max(axis=1))
    ours = np.where(is_lost[:, None], np.float32(FLOOR), log_probs)
    kept, rest = _lump(ours, baseline.ids)
    theirs = np.concatenate([baseline.log_probs, baseline.rest[:, None]], axis=1).astype(np.float64)
    mine = np.concatenate([kept, rest[:, None]], axis=1).astype(np.float64)
    kl = (np.exp(theirs) * (theirs - mine)).sum(axis=1)
    return Drift(
        kl=np.where(is_lost, -FLOOR, np.maximum(kl, 0.0)),
        is_same_top=~is_lost & (ours.argmax(axis=1) == baseline.ids[:, 0]),
        end_change=_probability(ours[:, baseline.end_token], is_lost)
        - np.exp(baseline.end_log_probs.astype(np.float64)),
        target_change=(_at(ours, baseline.targets) - baseline.target_log_probs).astype(np.float64),
        n_not_finite=int(is_lost.sum()),
    )


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


def _likeliest(log_probs: Floats, k: int) -> Ints:
    """Return the ids of the k largest of each row, largest first."""
    if k < log_probs.shape[1]:
        ids = np.argpartition(log_probs, -k, axis=1)[:, -k:]
    else:
        ids = np.broadcast_to(np.arange(k), log_probs.shape).copy()
    order = np.argsort(-np.take_along_axis(log_probs, ids, axis=1), axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1).astype(np.int32)


def _lump(log_probs: Floats, ids: Ints) -> tuple[Floats, Floats]:
    """Return the log-probabilities at ids (n, k), and the logarithm of the sum of all others'."""
    kept = np.take_along_axis(log_probs, ids, axis=1)
    others = np.exp(log_probs, dtype=np.float64)
    np.put_along_axis(others, ids, 0.0, axis=1)
    with np.errstate(divide="ignore"):
        rest = np.log(others.sum(axis=1))
    return kept.clip(FLOOR).astype(np.float32), rest.clip(FLOOR).astype(np.float32)


def _at(log_probs: Floats, ids: Ints) -> Floats:
    return np.take_along_axis(log_probs, ids[:, None], axis=1)[:, 0].clip(FLOOR)


def _probability(log_probs: Floats, is_lost: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    return np.where(is_lost, 0.0, np.exp(log_probs.astype(np.float64)))
