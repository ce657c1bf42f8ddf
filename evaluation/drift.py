"""Two models' probabilities of the same given tokens, sentence by sentence.

The baseline's are kept small (``Sketch``), a candidate's are compared with them and thrown away
(``Drift``). ``evaluation.fidelity`` sums up and says what is too far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
