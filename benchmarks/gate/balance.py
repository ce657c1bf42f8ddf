"""Which of a prompt's two seeds is the baseline, so that the seeds' own luck cancels out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evaluation.gate import GateConfig
from evaluation.scores import UtteranceScores
from evaluation.tail import new_signs

N_TRIALS = 20_000

Floats = npt.NDArray[np.float64]


def balanced_swaps(
    first: Sequence[UtteranceScores], second: Sequence[UtteranceScores]
) -> list[bool]:
    """Choose for each prompt whether its two seeds change places.

    Two seeds of one voice are equally good, but on 148 prompts their means differ by chance: the
    words by a point or more. Left in, that would be a true loss of every candidate drawn from the
    second. Of many random assignments this takes, among those that share out most evenly what
    one seed ruined and the other did not, the one in which OVRL, P808 and words differ least.

    Args:
        first: Scores of one seed.
        second: Scores of the other, the same prompts in the same order.

    Returns:
        True where the second seed is to be the baseline.

    Raises:
        ValueError: A score is missing.
    """
    a, b = _table(first), _table(second)
    # Percent of the mean for both scores, percentage points for the words.
    difference = 100 * (b - a) / np.append(a[:, :2].mean(axis=0), _words(first))
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=(N_TRIALS, len(a)))
    offsets = np.abs(signs @ difference / len(a)).max(axis=1)
    uneven = np.abs(signs @ _ruined_alone(first, second)).sum(axis=1)
    offsets[uneven > uneven.min()] = np.inf
    return [bool(sign < 0) for sign in signs[int(offsets.argmin())]]


def _ruined_alone(first: Sequence[UtteranceScores], second: Sequence[UtteranceScores]) -> Floats:
    """Return, kind by kind of ruin, 1.0 where the second seed alone has it and -1.0 the first.

    Returns:
        Shape (n, n_kinds); what has the same signs makes up for each other in the gate.
    """
    found = [
        (frozenset(new_signs(a, b, GateConfig())), frozenset(new_signs(b, a, GateConfig())))
        for a, b in zip(first, second, strict=True)
    ]
    kinds = sorted({kind for pair in found for kind in pair if kind}, key=sorted)
    return np.array(
        [[float(there == kind) - float(here == kind) for kind in kinds] for there, here in found]
    ).reshape(len(found), len(kinds))


def _table(scores: Sequence[UtteranceScores]) -> Floats:
    """Return OVRL, P808 and word errors: shape (n, 3)."""
    table = np.array(
        [[item.dnsmos_ovrl, item.dnsmos_p808, item.wer_errors] for item in scores], np.float64
    )
    if not np.isfinite(table).all():
        lost = scores[int(np.argmin(np.isfinite(table).all(axis=1)))]
        raise ValueError(f"{lost.utterance_id} lacks a score: {dict(lost.failures)}")
    return table


def _words(scores: Sequence[UtteranceScores]) -> float:
    return float(np.mean([item.wer_words for item in scores]))
