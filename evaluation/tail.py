"""The tail beside the mean: which utterances are ruined, whatever the average says.

Two prompts in a hundred that lose 40 % leave the mean inside the budget 98 % of the time, so bad
utterances are counted on their own.
"""

from __future__ import annotations

from evaluation.guards import RelativeLimits, relative_trips
from evaluation.scores import UtteranceScores
from evaluation.verdict import GateConfig

GATED_METRICS = ("audio", "dnsmos", "wer")
"""Metrics whose failure ruins an utterance; PESQ informs and does not gate."""


def bad_reasons(
    scores: UtteranceScores,
    config: GateConfig,
    baseline: UtteranceScores | None = None,
    limits: RelativeLimits | None = None,
) -> tuple[str, ...]:
    """Return why an utterance is bad; empty when it is not.

    Args:
        scores: The utterance to look at.
        config: The limit of a catastrophic word error rate.
        baseline: The same utterance of the baseline, for the guards that compare the two.
        limits: Thresholds of those guards.
    """
    reasons = list(scores.guards)
    reasons += [
        f"{metric} failed: {reason}"
        for metric, reason in scores.failures.items()
        if metric in GATED_METRICS
    ]
    if _is_catastrophic(scores, config):
        reasons.append(f"wer: {scores.wer_errors} errors in {scores.wer_words} words")
    if baseline is not None:
        reasons += relative_trips(baseline, scores, limits or RelativeLimits())
    return tuple(reasons)


def _is_catastrophic(scores: UtteranceScores, config: GateConfig) -> bool:
    """Say whether most words were lost, and more than one of them."""
    wer = scores.wer
    if wer is None or scores.wer_errors is None:
        return False
    return wer > config.catastrophic_wer and scores.wer_errors >= config.catastrophic_min_errors
