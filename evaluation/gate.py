"""The gate: may this candidate ship in place of the baseline, and how do we know?

Non-inferiority on paired utterances. PASS needs the one-sided t bound of the mean to keep the
budget on both DNSMOS scores, the word error rate to keep its margin by the same kind of bound,
no more bad utterances than the baseline's plus an allowance, and speech of the same length.
What failed on the candidate counts as the worst case; what is missing is never a pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from evaluation.comparisons import (
    MOS_METRICS,
    Comparison,
    Pair,
    compare_bad_utterances,
    compare_duration,
    compare_mos,
    compare_wer,
    is_number,
)
from evaluation.scores import UtteranceScores
from evaluation.tail import bad_reasons
from evaluation.verdict import Bound, GateConfig, Status, Verdict
from evaluation.wording import summarise

__all__ = ["Bound", "GateConfig", "Status", "Verdict", "check_baseline", "decide"]


def decide(
    baseline: Sequence[UtteranceScores],
    candidate: Sequence[UtteranceScores],
    config: GateConfig,
    *,
    complete: bool = True,
) -> Verdict:
    """Judge a candidate against the baseline on the utterances they share.

    Args:
        baseline: Scores of the baseline; every utterance of the prompt set.
        candidate: Scores of the candidate; all of the baseline's utterances when ``complete``.
        config: Budget, confidence and limits.
        complete: False at an early look: such a look may FAIL but never PASS.
    """
    pairs, unpaired = _pair_up(baseline, candidate, complete)
    if len(pairs) < 2:
        too_few = f"{len(pairs)} utterances in common are too few for any bound."
        return _verdict("UNGATED", len(pairs), (), (*unpaired, too_few))
    if complete and len(pairs) < config.min_n:
        unpaired.append(f"{len(pairs)} utterances are too few: the gate needs {config.min_n}.")
    comparisons = _compare(pairs, config, baseline)
    bounds = tuple(item.bound for item in comparisons if item.bound is not None)
    reasons = (*unpaired, *(reason for item in comparisons for reason in item.reasons))
    statuses = [item.status for item in comparisons]
    status = _combined([*statuses, "UNGATED"] if unpaired else statuses)
    if status == "PASS" and not complete:
        status, reasons = "UNDECIDED", ("An early look may reject and never accept.",)
    return _verdict(status, len(pairs), bounds, reasons)


def check_baseline(scores: Sequence[UtteranceScores], config: GateConfig) -> list[str]:
    """Return why a baseline is unfit to be compared with; empty when it is fit.

    A baseline may have as many bad utterances as a candidate may have beyond it (one at least,
    because a single prompt that the recogniser cannot follow says nothing about the voice), but
    every gated metric must have been measured on every utterance.
    """
    reasons: list[str] = []
    if len(scores) < config.min_n:
        reasons.append(f"{len(scores)} utterances are too few: the gate needs {config.min_n}.")
    reasons += [
        f"Two utterances of the baseline are called {name!r}."
        for name, count in Counter(item.utterance_id for item in scores).items()
        if count > 1
    ]
    for item in scores:
        reasons += _unmeasured(item)
    bad = {item.utterance_id: bad_reasons(item, config) for item in scores}
    bad = {name: why for name, why in bad.items() if why}
    if len(bad) > max(1, int(config.max_bad_rate * len(scores))):
        shown = "; ".join(f"{name}: {why[0]}" for name, why in list(bad.items())[:3])
        reasons.append(f"{len(bad)} of {len(scores)} baseline utterances are bad ({shown}).")
    return reasons


def _pair_up(
    baseline: Sequence[UtteranceScores], candidate: Sequence[UtteranceScores], complete: bool
) -> tuple[list[Pair], list[str]]:
    """Return the pairs in the baseline's order, and what kept others from pairing."""
    problems: list[str] = []
    for name, side in (("baseline", baseline), ("candidate", candidate)):
        if len({item.utterance_id for item in side}) < len(side):
            problems.append(f"The {name} has two utterances of one name.")
    ours = {item.utterance_id: item for item in candidate}
    known = {item.utterance_id for item in baseline}
    foreign = sorted(set(ours) - known)
    absent = sorted(known - set(ours))
    if foreign:
        problems.append(f"{len(foreign)} utterances have no baseline, such as {foreign[0]!r}.")
    if absent and complete:
        problems.append(f"{len(absent)} utterances were not judged, such as {absent[0]!r}.")
    theirs = {item.utterance_id: item for item in baseline}
    return [(theirs[name], ours[name]) for name in theirs if name in ours], problems


def _compare(
    pairs: Sequence[Pair], config: GateConfig, baseline: Sequence[UtteranceScores]
) -> list[Comparison]:
    """Compare all that the gate looks at, in the order in which people read it."""
    return [
        *(compare_mos(metric, pairs, config) for metric in MOS_METRICS),
        compare_wer(pairs, config),
        compare_bad_utterances(pairs, config, baseline),
        compare_duration(pairs, config),
    ]


def _combined(statuses: Sequence[Status]) -> Status:
    """Return the verdict of all parts: what rejects wins, then what is missing or open."""
    order: tuple[Status, ...] = ("FAIL", "UNGATED", "UNDECIDED")
    return next((status for status in order if status in statuses), "PASS")


def _verdict(
    status: Status, n: int, bounds: tuple[Bound, ...], reasons: tuple[str, ...]
) -> Verdict:
    summary = summarise(status, bounds, n, reasons)
    return Verdict(status=status, n=n, bounds=bounds, reasons=reasons, summary=summary)


def _unmeasured(item: UtteranceScores) -> list[str]:
    """Say which gated values of a baseline's utterance are missing."""
    reasons = []
    metrics = dict.fromkeys(MOS_METRICS, "dnsmos") | {"wer_errors": "wer", "wer_words": "wer"}
    for name, metric in (*metrics.items(), ("duration_s", "audio")):
        if not is_number(getattr(item, name)):
            failures = item.failures
            why = failures.get(metric) or failures.get("audio") or "not measured"
            reasons.append(f"The baseline has no {name} for {item.utterance_id!r}: {why}")
    return reasons
