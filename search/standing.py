"""Who stands: the best contender that a confirmation has upheld, read from the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search.config import METRICS
from search.ranking import contenders
from search.record import Confirmation, TrialRecord
from search.sections import CONFIRM_N, ConfirmConfig


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How contenders stand when the confirmation is over, or was cut short.

    Args:
        winner: The best contender that was confirmed, or None.
        confirmation: How it was confirmed.
        unconfirmed: Where there is no winner: the best contender that is neither confirmed nor
            refuted.
        why: Why nobody was confirmed although there were contenders, and what to do; or "".
    """

    winner: TrialRecord | None = None
    confirmation: Confirmation | None = None
    unconfirmed: TrialRecord | None = None
    why: str = ""


def turns_name(who: str, metric: str) -> str:
    """Name the measurement that holds one side's turns."""
    return f"turns_{who}_{metric}"


def turns_of(record: TrialRecord, metric: str) -> tuple[list[float], list[float]]:
    """Return the turns of baseline and contender that a confirmation's record holds."""
    theirs, ours = (
        [float(x) for x in record.measurements.get(turns_name(who, metric), {}).get("samples", ())]
        for who in ("baseline", "winner")
    )
    return theirs, ours


def ratios(metric: str, theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Return how many times better the contender was in each pair."""
    pairs = zip(theirs, ours, strict=False)
    return [mine / other if METRICS[metric] else other / mine for other, mine in pairs]


def read_confirmation(record: TrialRecord, digest: str, metric: str) -> Confirmation:
    """Read a confirmation from the record that it was written into.

    Args:
        record: Of the role ``confirm``.
        digest: Of the search's record that it confirms.
        metric: The first objective.
    """
    theirs, ours = turns_of(record, metric)
    return Confirmation(
        digest=digest, metric=metric, baseline_samples=tuple(theirs), winner_samples=tuple(ours),
        speedup=record.metrics.get("speedup", 0.0),
        speedup_low=record.metrics.get("speedup_low", 0.0),
        speedup_high=record.metrics.get("speedup_high", 0.0),
        verdict=record.verdict, slo_violations=record.slo_violations,
        n_pairs=int(record.judged.get("pairs", 0)),
    )  # fmt: skip


def stands(confirmation: Confirmation) -> bool:
    """Whether a confirmation upholds a contender.

    It must PASS on what it never spoke, meet every service level there and be faster in turn.
    """
    judged = confirmation.verdict
    passed = judged is not None and judged["status"] == "PASS"
    return passed and not confirmation.slo_violations and confirmation.speedup > 1.0


def fell_by_accident(record: TrialRecord) -> bool:
    """Whether a hearing failed for an outside reason, which says nothing of the contender.

    A machine that is busy runs out of time; what fails in another way each time is no refutation.
    """
    failure = record.failure
    return failure is not None and (record.status == "failed" or failure.kind == "timeout")


def decisive(
    metric: str, contender: TrialRecord, records: Sequence[TrialRecord]
) -> TrialRecord | None:
    """Return the confirmation that counts: the one planned on most utterances, then the latest.

    A confirmation that refuted on many cannot be outdone by one on few.
    """
    heard = [
        r
        for r in records
        if r.role == "confirm"
        and r.options == contender.options
        and turns_name("winner", metric) in r.measurements
        and not fell_by_accident(r)
    ]
    return max(heard, key=lambda r: (n_planned(r), r.number), default=None)


def n_planned(record: TrialRecord) -> int:
    """Return how many utterances a confirmation was meant to be judged on."""
    planned = record.judged.get("planned") or [(record.verdict or {}).get("n", 0)]
    return int(planned[-1])


def best_standing(
    objectives: Sequence[str],
    records: Sequence[TrialRecord],
    baseline: TrialRecord,
    confirm: ConfirmConfig,
    unarmed: str = "",
) -> Standing:
    """Return how things stand by the records alone; see ``first_standing``."""
    found = contenders(objectives, records, baseline)
    return first_standing(objectives[0], found, records, confirm, unarmed)


def first_standing(
    metric: str,
    found: Sequence[TrialRecord],
    records: Sequence[TrialRecord],
    confirm: ConfirmConfig,
    unarmed: str = "",
) -> Standing:
    """Return the first contender that stands, or the first that has yet to be heard.

    The one rule for the sweep, which hears whom this names unconfirmed and asks again, and for all
    that only read a study. A confirmation counts if it was planned on as many utterances as are
    asked for now.

    Args:
        metric: The first objective.
        found: The contenders, best first.
        records: All of the study.
        confirm: What is asked for.
        unarmed: Why the gate lets nothing pass, or "": then no earlier PASS counts either.
    """
    if unarmed:
        return Standing(why=unarmed)
    for n_refuted, contender in enumerate(found):
        if n_refuted >= confirm.k:
            return Standing(why=too_many_refuted(confirm.k))
        again = decisive(metric, contender, records)
        if not confirm.n or again is None or n_planned(again) < confirm.n:
            return Standing(unconfirmed=contender, why=not_finished(confirm))
        confirmation = read_confirmation(again, contender.digest, metric)
        if stands(confirmation):
            return Standing(winner=contender, confirmation=confirmation)
    return Standing()


def not_finished(confirm: ConfirmConfig) -> str:
    """Say why there is no confirmation yet and what to do about it."""
    if confirm.n == 0:
        return (
            "the confirmation is left out (confirm.n is 0): run the same sweep with "
            f"--set confirm.n={CONFIRM_N}"
        )
    if confirm.seconds is None:
        return "its confirmation is not finished: run the same command again, which goes on with it"
    return (
        f"the confirmation's time of {confirm.seconds:g} s was over first: run the same command "
        f"again with more time, such as --set confirm.seconds={2 * confirm.seconds:g}"
    )


def too_many_refuted(k: int) -> str:
    """Say that the last contender that may be tried was refuted."""
    return (
        f"the best {k} were judged again and none stood: run the same command again with "
        f"--set confirm.k={2 * k} to try others"
    )


def few(confirmation: Confirmation | None) -> str:
    """Return a warning where a confirmation rests on less than it should; or ""."""
    if confirmation is None or confirmation.verdict is None:
        return ""
    n, pairs = int(confirmation.verdict["n"]), len(confirmation.winner_samples)
    said = [f"confirmed on n = {n} utterances only"] if n < CONFIRM_N else []
    if pairs < confirmation.n_pairs:
        asked = confirmation.n_pairs
        said.append(f"timed in {pairs} of {asked} pairs only, since a turn failed twice")
    return "; ".join(said)
