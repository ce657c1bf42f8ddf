"""The gate: may this candidate ship in place of the baseline, and how do we know?

Non-inferiority on paired utterances. PASS needs the one-sided t bound of the mean to keep the
budget on both DNSMOS scores, the word error rate to keep its margin by the same kind of bound,
hardly any utterance newly ruined, speech of the same length and no more noise under it. What failed
on the candidate counts as the worst case and is counted besides; what is missing is never a pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from evaluation import tail, tail_bound
from evaluation.comparisons import (
    MOS_METRICS,
    Comparison,
    Pair,
    compare_mos,
    compare_wer,
    is_number,
)
from evaluation.length_and_noise import compare_duration, compare_noise_floor
from evaluation.scores import UtteranceScores
from evaluation.sequential import early_confidence
from evaluation.verdict import Bound, GateConfig, Status, Verdict
from evaluation.wording import summarise

__all__ = ["Bound", "GateConfig", "Status", "Verdict", "check_baseline", "decide", "unarmed"]

_EARLY = "An early look may reject and never accept."


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
        complete: False at an early look: such a look may FAIL, by a stricter bound, and never
            PASS.
    """
    mixed = _mixed_provenance(baseline, candidate)
    if mixed:
        return _verdict("UNGATED", 0, (), tuple(mixed))
    pairs, unpaired = _pair_up(baseline, candidate, complete)
    if len(pairs) < 2:
        too_few = f"{len(pairs)} utterances in common are too few for any bound."
        return _verdict("UNGATED", len(pairs), (), (*unpaired, too_few))
    if complete and len(pairs) < config.min_n:
        unpaired.append(f"{len(pairs)} utterances are too few: the gate needs {config.min_n}.")
    if not complete:
        config = replace(config, confidence=early_confidence(len(pairs), config.confidence))
    counts = tail.count(pairs, config, baseline)
    comparisons = _compare(pairs, config, counts)
    statuses = [item.status for item in comparisons]
    status = _combined([*statuses, "UNGATED"] if unpaired else statuses)
    # What decided is said first.
    ordered = sorted(comparisons, key=lambda item: item.status != status)
    reasons = (*unpaired, *(reason for item in ordered for reason in item.reasons))
    if status == "PASS" and not complete:
        status, reasons = "UNDECIDED", (_EARLY,)
    is_final = complete or status == "FAIL" or tail_bound.is_hopeless(counts, config)
    failures = Counter(
        name for _, cand in pairs for name in cand.failures if name in tail.GATED_METRICS
    )
    return _verdict(status, len(pairs), comparisons, reasons, failures=failures, is_final=is_final)


def unarmed(verdict: Verdict, reasons: Sequence[str]) -> Verdict:
    """Return the verdict of a gate that did not tell good from bad: no PASS, all else unchanged.

    Args:
        verdict: What ``decide`` said.
        reasons: What the gate missed when it was armed.
    """
    if verdict.status != "PASS":
        return verdict
    said = ("The gate is not armed on this baseline.", *reasons)
    disarmed = replace(verdict, status="UNARMED", reasons=said)
    return replace(disarmed, summary=summarise(disarmed))


def check_baseline(scores: Sequence[UtteranceScores], config: GateConfig) -> list[str]:
    """Return why a baseline is unfit to be compared with; empty when it is fit.

    A baseline may have as many bad utterances as a candidate may have beyond it (one at least,
    because a single prompt that the recogniser cannot follow says nothing about the voice), but
    every gated metric must have been measured on every utterance.
    """
    reasons: list[str] = []
    if len(scores) < config.min_n:
        reasons.append(f"{len(scores)} utterances are too few: the gate needs {config.min_n}.")
    hashes = {item.provenance for item in scores}
    if len(hashes) > 1:
        reasons.append(f"The baseline's scores are of {len(hashes)} provenances: judge it again.")
    reasons += [
        f"Two utterances of the baseline are called {name!r}."
        for name, count in Counter(item.utterance_id for item in scores).items()
        if count > 1
    ]
    for item in scores:
        reasons += _unmeasured(item)
    signs = {item.utterance_id: tail.own_signs(item, config) for item in scores}
    bad = {name: list(why.values()) for name, why in signs.items() if why}
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


def _mixed_provenance(
    baseline: Sequence[UtteranceScores], candidate: Sequence[UtteranceScores]
) -> list[str]:
    """Say which scores depend on other code, networks or prompts than the others."""
    hashes = {item.provenance for item in (*baseline, *candidate)}
    if len(hashes) < 2 or not baseline or not candidate:
        return []
    shown = " and ".join(sorted(item or "unknown" for item in hashes)[:3])
    return [f"Scores of different provenance ({shown}) are never compared: judge both again."]


def _compare(
    pairs: Sequence[Pair], config: GateConfig, counts: tail.Counts
) -> tuple[Comparison, ...]:
    """Compare all that the gate looks at, in the order in which people read it."""
    return (
        *(compare_mos(metric, pairs, config) for metric in MOS_METRICS),
        compare_wer(pairs, config),
        tail_bound.compare_bad_utterances(counts, config),
        compare_duration(pairs, config),
        compare_noise_floor(pairs, config),
    )


def _combined(statuses: Sequence[Status]) -> Status:
    """Return the verdict of all parts: what rejects wins, then what is missing or open."""
    order: tuple[Status, ...] = ("FAIL", "UNGATED", "UNDECIDED")
    return next((status for status in order if status in statuses), "PASS")


def _verdict(
    status: Status,
    n: int,
    comparisons: Sequence[Comparison],
    reasons: tuple[str, ...],
    *,
    failures: Mapping[str, int] | None = None,
    is_final: bool = True,
) -> Verdict:
    """Assemble a verdict and put it in words."""
    bounds = tuple(item.bound for item in comparisons if item.bound is not None)
    sigmas = [bound.sigma_pct for bound in bounds if bound.metric in MOS_METRICS]
    verdict = Verdict(
        status=status,
        n=n,
        bounds=bounds,
        reasons=reasons,
        summary="",
        sigma_pct=max(sigmas, default=None),
        power=_joint_power(bounds) if len(bounds) == len(comparisons) else None,
        failures=dict(failures or {}),
        is_final=is_final,
    )
    return replace(verdict, summary=summarise(verdict))


def _joint_power(bounds: Sequence[Bound]) -> float | None:
    """Return the least chance of passing all comparisons, however they depend on each other."""
    if not bounds:
        return None
    return max(0.0, 1.0 - sum(1.0 - (bound.power or 0.0) for bound in bounds))


def _unmeasured(item: UtteranceScores) -> list[str]:
    """Say which gated values of a baseline's utterance are missing."""
    reasons = []
    metrics = dict.fromkeys(MOS_METRICS, "dnsmos") | {"wer_errors": "wer", "wer_words": "wer"}
    metrics |= {"duration_s": "audio", "noise_floor_dbfs": "guards"}
    for name, metric in metrics.items():
        if not is_number(getattr(item, name)):
            failures = item.failures
            why = failures.get(metric) or failures.get("audio") or "not measured"
            reasons.append(f"The baseline has no {name} for {item.utterance_id!r}: {why}")
    return reasons
