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

from evaluation import statistics
from evaluation.comparisons import MOS_METRICS, Comparison, Pair, is_number
from evaluation.guards import RelativeLimits, relative_trips
from evaluation.scores import UtteranceScores
from evaluation.verdict import Bound, GateConfig, Status
from evaluation.wording import label

GATED_METRICS = ("audio", "guards", "dnsmos", "wer")
"""Metrics whose failure ruins an utterance; PESQ informs and does not gate."""
HEARD_SIGNS = frozenset({"wer", "transcript_loop", "repeated_words"})
"""Signs that rest on the recogniser, which mishears by chance: they need lost words besides."""
_LIMITS = RelativeLimits(max_noise_floor_rise_db=20.0)
"""One utterance's noise floor jumps by up to 15 dB by itself; the mean of all has its own limit."""
_SHOWN = 3


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
        newly_good: Utterances that the candidate mends, of the signs it newly shows elsewhere.
        base_bad: Utterances of these pairs that the baseline ruins by itself.
        cand_bad: Utterances that are bad on the candidate, newly or not.
        bad_rate: Share of *all* of the baseline's utterances that are bad by themselves.
        flaky_rate: The same without what only the recogniser says: it mishears the same texts
            again and again, so those do not move to other utterances.
        n_full: Utterances of the whole baseline.
    """

    n: int
    newly_bad: tuple[str, ...]
    newly_good: int
    base_bad: int
    cand_bad: int
    bad_rate: float
    flaky_rate: float
    n_full: int


def count(pairs: Sequence[Pair], config: GateConfig, baseline: Sequence[UtteranceScores]) -> Counts:
    """Count what is newly bad and newly good.

    Args:
        pairs: What is judged so far; at least one.
        config: Limits of the signs.
        baseline: All of the baseline, also what the candidate has not spoken yet.
    """
    known = {item.utterance_id: own_signs(item, config) for item in baseline}
    own = [own_signs(candidate, config) for _, candidate in pairs]
    new = [new_signs(base, cand, config) for base, cand in pairs]
    lost = [
        known[base.utterance_id].keys() - mine for (base, _), mine in zip(pairs, own, strict=True)
    ]
    # Silence loses its words too: words mended elsewhere must not make up for it. Only what has
    # no other sign than those that were mended is made up for.
    mended = {name for gone in lost for name in gone}
    answered = all(signs.keys() <= mended for signs in new)
    names = {name for signs in new for name in signs} if answered else set()
    return Counts(
        n=len(pairs),
        newly_bad=tuple(
            f"{cand.utterance_id}: {next(iter(signs.values()))}"
            for (_, cand), signs in zip(pairs, new, strict=True)
            if signs
        ),
        newly_good=sum(
            not signs and bool(gone & names) for signs, gone in zip(new, lost, strict=True)
        ),
        base_bad=sum(bool(known[base.utterance_id]) for base, _ in pairs),
        cand_bad=sum(bool(mine or signs) for mine, signs in zip(own, new, strict=True)),
        bad_rate=sum(map(bool, known.values())) / len(known),
        flaky_rate=sum(bool(signs.keys() - HEARD_SIGNS) for signs in known.values()) / len(known),
        n_full=len(known),
    )


def compare_bad_utterances(counts: Counts, config: GateConfig) -> Comparison:
    """Bound the rate at which the candidate newly ruins utterances.

    PASS when nothing is newly ruined, or when the Clopper-Pearson upper bound of that rate, less
    the lower bound of the rate at which the candidate mends what the baseline ruins in the same
    way, is at most ``max_bad_rate``; FAIL when the lower bound is above it. A truncation mended
    makes up for a truncation elsewhere and never for a loop.
    """
    n, ruined = counts.n, len(counts.newly_bad)
    lower = statistics.clopper_pearson_lower(ruined, n, config.confidence)
    upper = statistics.clopper_pearson_upper(ruined, n, config.tail_confidence)
    status: Status = "UNDECIDED"
    if _may_pass(ruined, counts.newly_good, n, config):
        status = "PASS"
    elif lower > config.max_bad_rate + max(counts.newly_good / n, counts.bad_rate):
        status = "FAIL"
    bound = Bound(
        metric="bad_utterances",
        baseline_mean=counts.base_bad / n,
        candidate_mean=counts.cand_bad / n,
        delta_pct=100 * ruined / n,
        lower_pct=100 * lower,
        upper_pct=100 * upper,
        sigma_pct=0.0,
        n=n,
        status=status,
        power=_power(counts, config),
    )
    reasons = () if status == "PASS" else (_reason(status, counts, upper, config),)
    return Comparison(status=status, bound=bound, reasons=reasons)


def is_hopeless(counts: Counts, config: GateConfig) -> bool:
    """Say whether nothing that the full judgement may still show can make the tail pass.

    The count of ruined utterances only grows, and no more can be mended than the baseline ruins.
    """
    most_mended = round(counts.bad_rate * counts.n_full)
    return not _may_pass(len(counts.newly_bad), most_mended, counts.n_full, config)


def _may_pass(ruined: int, mended: int, n: int, config: GateConfig) -> bool:
    if ruined == 0:
        return True
    upper = statistics.clopper_pearson_upper(ruined, n, config.tail_confidence)
    credit = statistics.clopper_pearson_lower(min(mended, n), n, config.tail_confidence)
    return upper - credit <= config.max_bad_rate


def _power(counts: Counts, config: GateConfig) -> float:
    """Return the chance that a candidate equal to the baseline passes, at the baseline's rate.

    Such a candidate ruins with probability r (1 - r) what the baseline did not, and mends as much.
    """
    flips = counts.flaky_rate * (1 - counts.flaky_rate)
    mended = round(flips * counts.n)
    allowed = 0
    while allowed < counts.n and _may_pass(allowed + 1, mended, counts.n, config):
        allowed += 1
    return statistics.binomial_cdf(allowed, counts.n, flips)


def _reason(status: Status, counts: Counts, upper: float, config: GateConfig) -> str:
    """Name the ruined, and what would decide."""
    ruined = len(counts.newly_bad)
    seen = f"{ruined} of {counts.n} utterances are newly ruined"
    seen += f" ({'; '.join(counts.newly_bad[:_SHOWN])})"
    allowed = f"{100 * config.max_bad_rate:g} %"
    if status == "FAIL":
        return f"{seen}, more than the {allowed} allowed."
    if config.max_bad_rate == 0:
        return f"{seen}, and none may be ruined."
    needed = statistics.required_n_for_count(ruined, config.max_bad_rate, config.tail_confidence)
    return (
        f"{seen}, and up to {100 * upper:.1f} % of all cannot be ruled out ({allowed} allowed: no "
        f"more than these in {needed} would pass)."
    )


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
