"""The tail beside the mean: which utterances are ruined, whatever the average says.

Two prompts in a hundred that lose 40 % leave the mean inside the budget 98 % of the time, so
ruined utterances are counted on their own. With 128 utterances and 2 % ruined, none at all is
drawn 7.5 times in a hundred; a gate that is to catch 90 of a hundred must therefore stop at the
first. So a sign must be one that honest resampling almost never gives, and only what is *new*
counts: what the baseline's same utterance shows too is not the candidate's doing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from evaluation.comparisons import MOS_METRICS, Pair, is_number
from evaluation.guards import RelativeLimits, relative_trips
from evaluation.scores import UtteranceScores
from evaluation.verdict import GateConfig
from evaluation.wording import label

GATED_METRICS = ("audio", "guards", "dnsmos", "wer")
"""Metrics whose failure ruins an utterance; PESQ informs and does not gate."""
HEARD_SIGNS = frozenset({"wer", "transcript_loop", "repeated_words"})
"""Signs that rest on the recogniser, which mishears by chance: they need lost words besides."""
_LIMITS = RelativeLimits(max_noise_floor_rise_db=20.0)
"""One utterance's noise floor jumps by up to 15 dB by itself; the mean of all has its own limit."""


def own_signs(scores: UtteranceScores, config: GateConfig) -> dict[str, str]:
    """Return what is wrong with an utterance by itself: name of the sign to what was seen.

    Args:
        scores: The utterance to look at.
        config: The limits of a catastrophic word error rate.
    """
    signs = {reason.partition(":")[0]: reason for reason in scores.guards}
    for metric, reason in scores.failures.items():
        if metric in GATED_METRICS:
            signs[f"{metric} failed"] = f"{metric} failed: {reason}"
    if _is_catastrophic(scores, config):
        signs["wer"] = f"wer: {scores.wer_errors} errors in {scores.wer_words} words"
    return signs


def new_signs(
    baseline: UtteranceScores,
    candidate: UtteranceScores,
    config: GateConfig,
    limits: RelativeLimits = _LIMITS,
) -> dict[str, str]:
    """Return what is wrong with a candidate's utterance and was not with the baseline's.

    Args:
        baseline: The same utterance of the baseline.
        candidate: The utterance to look at.
        config: Limits of lost words and of a collapsed score.
        limits: Thresholds of the guards that compare the two.
    """
    known, signs = own_signs(baseline, config), own_signs(candidate, config)
    # What failed on both sides was not compared: nobody knows whether it is new.
    signs = {k: why for k, why in signs.items() if k not in known or k.endswith(" failed")}
    if signs and not _has_lost_words(baseline, candidate, config):
        signs = {k: why for k, why in signs.items() if k not in HEARD_SIGNS}
    for reason in relative_trips(baseline, candidate, limits):
        signs[reason.partition(":")[0]] = reason
    collapse = _collapse(baseline, candidate, config)
    if collapse is not None:
        signs["collapse"] = collapse
    return signs


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was counted over the pairs judged so far.

    Args:
        n: Pairs.
        newly_bad: ``"utterance: reason"`` of each that the candidate newly ruins.
        answered: How many of these are each made up for by another utterance, which the candidate
            mends of the very same signs.
        answerable: How many of them the whole baseline can still make up for.
        mended: Utterances that the candidate mends, of whatever sign.
        base_bad: Utterances of these pairs that the baseline ruins by itself.
        cand_bad: Utterances that are bad on the candidate, newly or not.
        bad_rate: Share of *all* of the baseline's utterances that are bad by themselves.
        flaky_rate: The same without what only the recogniser says: it mishears the same texts
            again and again, so those do not move to other utterances.
        n_full: Utterances of the whole baseline.
    """

    n: int
    newly_bad: tuple[str, ...]
    answered: int
    answerable: int
    mended: int
    base_bad: int
    cand_bad: int
    bad_rate: float
    flaky_rate: float
    n_full: int


def count(pairs: Sequence[Pair], config: GateConfig, baseline: Sequence[UtteranceScores]) -> Counts:
    """Count what is newly bad and what is mended.

    Args:
        pairs: What is judged so far; at least one.
        config: Limits of the signs.
        baseline: All of the baseline, also what the candidate has not spoken yet.
    """
    known = {item.utterance_id: own_signs(item, config) for item in baseline}
    new = [new_signs(base, cand, config) for base, cand in pairs]
    ruined = [frozenset(signs) for signs in new if signs]
    gone = [
        mended_signs(base, cand, config)
        for (base, cand), signs in zip(pairs, new, strict=True)
        if known[base.utterance_id] and not signs
    ]
    return Counts(
        n=len(pairs),
        newly_bad=tuple(
            f"{cand.utterance_id}: {next(iter(signs.values()))}"
            for (_, cand), signs in zip(pairs, new, strict=True)
            if signs
        ),
        answered=_matched(ruined, gone),
        answerable=_matched(ruined, [frozenset(signs) for signs in known.values()]),
        mended=sum(map(bool, gone)),
        base_bad=sum(bool(known[base.utterance_id]) for base, _ in pairs),
        cand_bad=sum(
            bool(signs or own_signs(cand, config))
            for (_, cand), signs in zip(pairs, new, strict=True)
        ),
        bad_rate=sum(map(bool, known.values())) / len(known),
        flaky_rate=sum(bool(signs.keys() - HEARD_SIGNS) for signs in known.values()) / len(known),
        n_full=len(known),
    )


def mended_signs(
    baseline: UtteranceScores, candidate: UtteranceScores, config: GateConfig
) -> frozenset[str]:
    """Return the baseline's own signs that would be new if the candidate were the baseline.

    The same rule both ways: of two equal sides neither ruins more than it mends. What shows only
    beside the other side is left out: a length too short for one is too long for the other.
    """
    return frozenset(own_signs(baseline, config).keys() & new_signs(candidate, baseline, config))


def _matched(ruined: Sequence[frozenset[str]], mended: Sequence[frozenset[str]]) -> int:
    """Return how many ruined utterances find a mended one each that had all of their signs.

    Silence loses its words too: words mended elsewhere do not make up for it, and no mended
    utterance makes up for two.
    """
    fits = np.array([[signs <= gone for gone in mended] for signs in ruined], np.int8)
    if not fits.any():
        return 0
    return int((maximum_bipartite_matching(csr_array(fits), perm_type="column") >= 0).sum())


def _is_catastrophic(scores: UtteranceScores, config: GateConfig) -> bool:
    """Say whether most words were lost, and enough of them."""
    wer, errors = scores.wer, scores.wer_errors
    if wer is None or errors is None:
        return False
    return wer > config.catastrophic_wer and errors >= _words_to_lose(scores, config)


def _words_to_lose(scores: UtteranceScores, config: GateConfig) -> int:
    """Return how many wrong words make a catastrophe: all of a very short text, never one alone."""
    return max(2, min(config.catastrophic_min_errors, scores.wer_words or 0))


def _has_lost_words(
    baseline: UtteranceScores, candidate: UtteranceScores, config: GateConfig
) -> bool:
    """Say whether a recogniser that follows the baseline loses the candidate."""
    if baseline.wer_errors is None or candidate.wer_errors is None or baseline.wer is None:
        return False
    excess = candidate.wer_errors - baseline.wer_errors
    return baseline.wer <= config.heard_wer and excess >= _words_to_lose(candidate, config)


def _collapse(
    baseline: UtteranceScores, candidate: UtteranceScores, config: GateConfig
) -> str | None:
    """Say which MOS of this utterance lost so much that no resampling explains it."""
    for metric in MOS_METRICS:
        before, after = getattr(baseline, metric), getattr(candidate, metric)
        if not (is_number(before) and is_number(after)) or before <= 0:
            continue
        loss_pct = 100 * (before - after) / before
        if loss_pct > config.collapse_pct:
            return f"collapse: {label(metric)} loses {loss_pct:.0f} % ({config.collapse_pct:g} %)"
    return None
