"""The winner's second hearing: timed turn by turn with the baseline, judged on unseen prompts.

A single timing is noisy and the best of many trials is partly lucky. So baseline and winner take
turns in fresh processes, and the winner speaks prompts and seeds that the search never saw.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from search.config import METRICS
from search.events import Notice
from search.judging import Reference, load_reference
from search.prompts import PromptSet, confirm_prompts
from search.ranking import contenders
from search.record import Confirmation, TrialRecord
from search.runner import Runner
from search.space import Candidate
from search.trial import BudgetOverError
from tts.options import Options

TIMED_PHASES = ("load", "compile", "measure")
# At most this share of the study's time is kept back for the confirmation.
MAX_SHARE = 0.35


def timing_s(record: TrialRecord) -> float:
    """Return the seconds one process takes to time this configuration."""
    return sum(record.phases.get(phase, 0.0) for phase in TIMED_PHASES)


class Confirmer:
    """Confirms contenders, best first, until one stands."""

    def __init__(self, runner: Runner, baseline: TrialRecord) -> None:
        self.runner, self.baseline = runner, baseline
        self.config = runner.config
        self.prompts = confirm_prompts(runner.config)
        self.metric = self.config.objectives[0]

    def cost_s(self, record: TrialRecord) -> float:
        """Estimate the seconds that confirming a record takes."""
        whole = sum(self.baseline.phases.values()) + sum(record.phases.values())
        n_timed = max(0, self.config.confirm.pairs - (1 if self.prompts.utterances else 0))
        pair = timing_s(self.baseline) + timing_s(record)
        return (whole if self.prompts.utterances else 0.0) + n_timed * pair

    def reserve_s(self, contenders: Sequence[TrialRecord]) -> float:
        """Return the seconds to keep back while the search goes on."""
        seconds = self.config.budget.seconds
        if seconds is None or not (self.config.confirm.pairs or self.config.confirm.n):
            return 0.0
        likely = contenders[0] if contenders else self.baseline
        return min(1.15 * self.cost_s(likely), MAX_SHARE * seconds)

    def first_to_stand(
        self, contenders: Sequence[TrialRecord]
    ) -> tuple[TrialRecord | None, Confirmation | None]:
        """Return the best contender that was not refuted, and how it was confirmed.

        When the time runs out the best one left stands unconfirmed: with None.
        """
        for contender in contenders:
            try:
                confirmation = self.confirm(contender)
            except BudgetOverError:
                return contender, None
            if confirmation is None or stands(confirmation):
                return contender, confirmation
        return None, None

    def confirm(self, contender: TrialRecord) -> Confirmation | None:
        """Confirm one contender; None when this sweep does not confirm."""
        options = Options.from_mapping(contender.options)
        known = self.runner.known(self.runner.digest(options, self.prompts))
        if known is None and not (self.prompts.utterances or self.config.confirm.pairs):
            return None
        known = known or self.second_hearing(contender, options)
        if known is None:
            return None
        return read_confirmation(known, contender.digest, self.metric)

    def second_hearing(self, contender: TrialRecord, options: Options) -> TrialRecord | None:
        """Run the processes of one confirmation and write its record; None without a baseline."""
        base = self.heard_baseline() if self.prompts.utterances else None
        if base is not None and base.failure is not None:
            self.runner.on_event(
                Notice(
                    message="nothing can be confirmed, since the baseline failed on the unseen "
                    f"prompts ({base.failure.kind} in {base.failure.phase}: {base.failure.message})"
                )
            )
            return None
        reference = self.reference(base) if base else None
        candidate = Candidate(requested=options, options=options, recipe=contender.recipe)
        record = self.runner.attempt(candidate, "confirm", self.prompts, reference, keep_s=0.0)
        ours = [record.metrics[self.metric]] if self.metric in record.metrics else []
        theirs = [base.metrics[self.metric]] if base else []
        passed = record.verdict is None or record.verdict["status"] == "PASS"
        if ours and passed:
            self.take_turns(options, ours, theirs)
        return self.runner.keep(_with_turns(record, self.metric, theirs, ours))

    def take_turns(self, options: Options, ours: list[float], theirs: list[float]) -> None:
        """Time baseline and winner in turn, in fresh processes, as long as there is time."""
        baseline = Options.from_mapping(self.baseline.options)
        try:
            while min(len(ours), len(theirs)) < self.config.confirm.pairs:
                turn, who = (theirs, baseline) if len(theirs) <= len(ours) else (ours, options)
                seconds = self.time(who)
                if seconds is None:
                    return
                turn.append(seconds)
        except BudgetOverError:
            return

    def time(self, options: Options) -> float | None:
        """Time one fresh process that speaks nothing for the judge; None if it failed."""
        candidate = Candidate(requested=options, options=options)
        nothing = PromptSet(utterances=(), references={})
        # A number of its own: the confirmation's record, not written yet, has the next one.
        number = self.runner.next_number + 1
        record = self.runner.attempt(candidate, "confirm", nothing, None, keep_s=0.0, number=number)
        self.runner.folder.remove_trial(record.folder_name)
        return record.metrics.get(self.metric)

    def heard_baseline(self) -> TrialRecord:
        """Return the baseline's record on the confirmation's prompts; run it if need be.

        One that failed is not kept.
        """
        options = Options.from_mapping(self.baseline.options)
        known = self.runner.known(self.runner.digest(options, self.prompts))
        if known is not None:
            return known
        candidate = Candidate(requested=options, options=options)
        record = self.runner.attempt(candidate, "confirm", self.prompts, None, keep_s=0.0)
        if record.failure is None:
            return self.runner.keep(record)
        # A confirmation that failed once must not be in the way of the next sitting's.
        self.runner.folder.remove_trial(record.folder_name)
        return record

    def reference(self, base: TrialRecord) -> Reference:
        """Return what the confirmation is compared with."""
        return load_reference(self.runner.folder.trials / base.folder_name, base.utterances)


def _with_turns(
    record: TrialRecord, metric: str, theirs: Sequence[float], ours: Sequence[float]
) -> TrialRecord:
    ratios = _ratios(metric, theirs, ours)
    found: dict[str, Any] = dict(record.measurements)
    found[f"turns_baseline_{metric}"] = {"unit": "", "samples": list(theirs)}
    found[f"turns_winner_{metric}"] = {"unit": "", "samples": list(ours)}
    metrics: Mapping[str, float] = record.metrics
    if ratios:
        metrics = {
            **metrics, "speedup": statistics.median(ratios), "speedup_low": min(ratios),
            "speedup_high": max(ratios),
        }  # fmt: skip
    return replace(record, measurements=found, metrics=metrics)


def _ratios(metric: str, theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    pairs = zip(theirs, ours, strict=False)
    return [mine / other if METRICS[metric] else other / mine for other, mine in pairs]


def read_confirmation(record: TrialRecord, digest: str, metric: str) -> Confirmation:
    """Read a confirmation from the record that it was written into."""
    turns = [
        tuple(record.measurements.get(f"turns_{who}_{metric}", {}).get("samples", ()))
        for who in ("baseline", "winner")
    ]
    return Confirmation(
        digest=digest, metric=metric, baseline_samples=turns[0], winner_samples=turns[1],
        speedup=record.metrics.get("speedup", 0.0),
        speedup_low=record.metrics.get("speedup_low", 0.0),
        speedup_high=record.metrics.get("speedup_high", 0.0),
        verdict=record.verdict,
    )  # fmt: skip


def stands(confirmation: Confirmation) -> bool:
    """Whether a confirmation upholds the winner: faster in turn, and passed where it was judged."""
    judged = confirmation.verdict
    return confirmation.speedup > 1.0 and (judged is None or judged["status"] == "PASS")


def best_standing(
    objectives: Sequence[str], records: Sequence[TrialRecord], baseline: TrialRecord
) -> tuple[TrialRecord | None, Confirmation | None]:
    """Return the best contender that no confirmation among the records refutes."""
    turns = f"turns_winner_{objectives[0]}"
    heard = [r for r in records if r.role == "confirm" and turns in r.measurements]
    for contender in contenders(objectives, records, baseline):
        again = [r for r in heard if r.options == contender.options]
        if not again:
            return contender, None
        confirmation = read_confirmation(again[-1], contender.digest, objectives[0])
        if stands(confirmation):
            return contender, confirmation
    return None, None
