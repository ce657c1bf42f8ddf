"""The second hearing of the best: judged on unseen prompts, timed turn by turn with the baseline.

A single timing is noisy and the best of many trials is partly lucky. So a contender speaks prompts
and seeds that the search never saw, and if it passes there, baseline and contender take turns in
fresh processes. What is done is on disk at once, as a draft of the confirmation's record: a
sitting that is cut short repeats neither what was spoken nor a turn.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evaluation.planning import MOST
from search.armed import CONFIRMATION, read_arming
from search.events import ConfirmStarted, Notice
from search.prompts import PromptSet, confirm_prompts, spoken_again
from search.record import TrialRecord, write_atomically
from search.reference import Reference, load_reference
from search.runner import Runner
from search.space import Candidate
from search.standing import (
    Standing,
    fell_by_accident,
    first_standing,
    ratios,
    turns_name,
    turns_of,
)
from search.trial import BudgetOverError, now
from tts.options import Options

TIMED_PHASES = ("load", "compile", "measure")
SPOKEN_PHASES = ("synthesize", "render", "judge")


class UnheardError(Exception):
    """Baseline or contender could not be heard on the unseen prompts; it says what to do."""


class Confirmer:
    """Confirms contenders, best first, until one stands."""

    def __init__(self, runner: Runner, baseline: TrialRecord) -> None:
        self.runner, self.baseline = runner, baseline
        self.config = runner.config
        self.confirm = runner.config.confirm
        self.prompts = confirm_prompts(runner.config)
        self.metric = self.config.objectives[0]
        self.is_announced = False

    def first_to_stand(self, contenders: Sequence[TrialRecord], unarmed: str = "") -> Standing:
        """Try at most ``confirm.k`` contenders; only one that is confirmed wins.

        The time from here on is the confirmation's.

        Args:
            contenders: Best first.
            unarmed: Why the gate lets nothing pass, or "".
        """
        if self.confirm.auto and contenders and not unarmed:
            self.plan()
        self.runner.folder.spend_on("confirm")
        try:
            return self._first_to_stand(contenders, unarmed)
        finally:
            self.runner.folder.spend_on("search")

    def plan(self) -> None:
        """Take as many utterances as the arming planned; say what they are short of."""
        folder = self.runner.folder.path
        known = read_arming(folder) if self.config.arming.enabled else None
        plan = (known["arming"].get("plan") or {}) if known else {}
        wanted = MOST if plan and plan["n"] is None else int(plan.get("n", 0))
        self.prompts = confirm_prompts(self.config, wanted)
        n = len(self.prompts.utterances)
        self.confirm = replace(self.confirm, n=n)
        write_atomically(folder / CONFIRMATION, json.dumps({"n": n}))
        if not plan:
            self.tell(f"nothing was planned by an arming, so the confirmation takes n={n}")
        elif wanted > n:
            least = f"more than n={MOST}" if plan["n"] is None else f"n={wanted}"
            self.tell(f"the gate's arming planned {least}; the prompts give n={n}")

    def tell(self, message: str) -> None:
        """Say what a person may want to change."""
        self.runner.on_event(Notice(message=message))

    def _first_to_stand(self, contenders: Sequence[TrialRecord], unarmed: str) -> Standing:
        confirm, heard = self.confirm, set[str]()
        while True:
            records = self.runner.records
            standing = first_standing(self.metric, contenders, records, confirm, unarmed)
            contender = standing.unconfirmed
            if contender is None or not confirm.n:
                return standing
            if contender.digest in heard:
                raise AssertionError(f"the confirmation of trial {contender.number} is not seen")
            heard.add(contender.digest)
            self.announce(contender, len(contenders))
            try:
                self.second_hearing(contender, Options.from_mapping(contender.options))
            except BudgetOverError:
                return standing
            except UnheardError as error:
                return replace(standing, why=str(error))

    def announce(self, contender: TrialRecord, n_contenders: int) -> None:
        """Say, once, what is about to happen and how long it may take."""
        if self.is_announced:
            return
        self.is_announced = True
        twice = spoken_again(self.prompts) if self.confirm.auto else ""
        if twice:
            self.tell(twice)
        event = ConfirmStarted(
            n_contenders=min(n_contenders, self.confirm.k),
            n=len(self.prompts.utterances),
            about_s=self.cost_s(contender),
            seconds=self.confirm.seconds,
            spent_s=self.runner.folder.accounts()["confirm"],
        )
        self.runner.on_event(event)

    def cost_s(self, record: TrialRecord) -> float:
        """Estimate the seconds that it takes to hear the baseline and one contender again."""
        total = 0.0
        for one in (self.baseline, record):
            timed = sum(one.phases.get(phase, 0.0) for phase in TIMED_PHASES)
            spoken = sum(one.phases.get(phase, 0.0) for phase in SPOKEN_PHASES)
            share = len(self.prompts.utterances) / max(1, len(one.utterances))
            total += self.confirm.pairs * timed + share * spoken
        return total

    def second_hearing(self, contender: TrialRecord, options: Options) -> TrialRecord:
        """Go on with one confirmation to its end and write its record.

        Raises:
            BudgetOverError: The time was over first; what is done stays as a draft.
            UnheardError: Baseline or contender failed for a reason that refutes nothing.
        """
        base = self.heard_baseline()
        digest = self.runner.digest(options, self.prompts)
        draft = self.runner.draft(digest) or self.spoken(contender, options, base)
        if draft.accepted and self.metric in draft.metrics:
            draft = self.take_turns(draft, options)
        return self.runner.keep(draft)

    def spoken(self, contender: TrialRecord, options: Options, base: TrialRecord) -> TrialRecord:
        """Have a contender speak the unseen prompts; its own timing is the first turn."""
        reference = self.reference(base)
        candidate = Candidate(requested=options, options=options, recipe=contender.recipe)
        record = self.runner.attempt(candidate, "confirm", self.prompts, reference)
        if fell_by_accident(record):
            raise self.unheard(f"trial {contender.number}", record)
        # One that was never heard was planned all the same: it outdoes a PASS on fewer.
        planned = record.judged.get("planned") or [len(self.prompts.utterances)]
        record = replace(record, judged={**record.judged, "planned": planned})
        turns = [
            [r.metrics[self.metric]] if self.metric in r.metrics else [] for r in (base, record)
        ]
        return self.runner.put_off(_with_turns(record, self.metric, *turns))

    def take_turns(self, draft: TrialRecord, options: Options) -> TrialRecord:
        """Time baseline and contender in turn, in fresh processes.

        A turn that fails twice is the last: what was timed before it counts, with a warning.

        Raises:
            BudgetOverError: The time was over first; the turns that were taken stay in the draft.
        """
        baseline = Options.from_mapping(self.baseline.options)
        theirs, ours = turns_of(draft, self.metric)
        n_pairs = self.confirm.pairs
        draft = replace(draft, judged={**draft.judged, "pairs": n_pairs})
        while min(len(ours), len(theirs)) < n_pairs:
            turn, who = (theirs, baseline) if len(theirs) <= len(ours) else (ours, options)
            seconds = self.time(who) or self.time(who)
            if seconds is None:
                break
            turn.append(seconds)
            draft = self.runner.put_off(_with_turns(draft, self.metric, theirs, ours))
        return draft

    def time(self, options: Options) -> float | None:
        """Time one fresh process that speaks nothing for the judge; None if it failed."""
        candidate = Candidate(requested=options, options=options)
        nothing = PromptSet(utterances=(), references={})
        record = self.runner.attempt(candidate, "confirm", nothing, None)
        self.runner.folder.remove_trial(record.folder_name)
        return record.metrics.get(self.metric)

    def heard_baseline(self) -> TrialRecord:
        """Return the baseline's record on the unseen prompts; all contenders share it.

        Raises:
            BudgetOverError: The confirmation's time was over first.
            UnheardError: It failed, which leaves no record.
        """
        options = Options.from_mapping(self.baseline.options)
        known = self.runner.known(self.runner.digest(options, self.prompts))
        if known is not None:
            return known
        candidate = Candidate(requested=options, options=options)
        record = self.runner.attempt(candidate, "confirm", self.prompts, None)
        if record.failure is None:
            return self.runner.keep(record)
        raise self.unheard("the baseline", record)

    def unheard(self, who: str, record: TrialRecord) -> UnheardError:
        """Clear away a failed hearing, which must not be in the next sitting's way, and name it."""
        self.runner.folder.remove_trial(record.folder_name)
        failure = record.failure
        assert failure is not None
        remedy = "run the same command again"
        if failure.kind == "timeout":
            more_s = 2 * getattr(self.config.deadlines, failure.phase)
            remedy += f" with more time, such as --set deadlines.{failure.phase}={more_s:g}"
        elif not fell_by_accident(record):
            remedy = f"mend that and {remedy}"
        return UnheardError(
            f"{who} failed on the unseen prompts ({failure.kind} in {failure.phase}: "
            f"{failure.message}): {remedy}"
        )

    def reference(self, base: TrialRecord) -> Reference:
        """Return what the confirmation is compared with."""
        return load_reference(self.runner.folder.trials / base.folder_name, base.utterances)


def _with_turns(
    record: TrialRecord, metric: str, theirs: Sequence[float], ours: Sequence[float]
) -> TrialRecord:
    found: dict[str, Any] = dict(record.measurements)
    for who, samples in (("baseline", theirs), ("winner", ours)):
        found[turns_name(who, metric)] = {"unit": "", "samples": list(samples)}
    gained = ratios(metric, theirs, ours)
    metrics: Mapping[str, float] = record.metrics
    if gained:
        metrics = {
            **metrics, "speedup": statistics.median(gained), "speedup_low": min(gained),
            "speedup_high": max(gained),
        }  # fmt: skip
    return replace(record, measurements=found, metrics=metrics, ended_at=now())
