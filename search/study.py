"""The loop: baseline, known recipes, what the sampler proposes, confirmation.

Everything that matters is in the records on disk. Kill it at any moment; the same call goes on.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from evaluation.gate import check_baseline
from evaluation.judge import Judge
from evaluation.recogniser import doubt
from search import ranking
from search.armed import planned, read_arming, why_nothing_passes
from search.arming import Armer
from search.config import SweepConfig
from search.confirm import Confirmer
from search.environment import describe, model_digest, study_conditions
from search.errors import BaselineUnfitError, InfrastructureError
from search.events import Event, Notice, SweepFinished, SweepStarted
from search.folder import StudyFolder
from search.load_crashes import broken_environment
from search.outbox import Outbox
from search.prompts import PromptSet, confirm_prompts, references_of, search_prompts, spoken_again
from search.record import ASIDE, SweepResult, TrialRecord
from search.reference import Reference, load_reference
from search.runner import Runner
from search.sampler import Proposal, Sampler
from search.scoring import Scorer, Scoring, plain
from search.space import Candidate, Space, recipes, resolve
from search.standing import best_standing
from search.trial import BudgetOverError
from tts.device import probe
from tts.errors import InapplicableError

__all__ = ["SweepResult", "run_sweep"]

METRIC_TIMEOUT_S = 60.0
Report = Callable[[TrialRecord], None]


def run_sweep(
    config: SweepConfig,
    *,
    root: Path,
    on_event: Callable[[Event], None],
    report: Report | None = None,
    scorer: Scorer | None = None,
) -> SweepResult:
    """Run a sweep, or go on with it.

    Args:
        config: What to do.
        root: Where studies are kept, such as ``mlruns``.
        on_event: Told of every step.
        report: Told of every record, those of earlier sittings included; it must bear being told
            the same one again. What it raises becomes a notice and fails nothing.
        scorer: What scores audio; by default ``evaluation.judge.Judge`` with ``config.asr``.

    Raises:
        ConfigError: Something in the configuration cannot be used on this device.
        SweepError: The study is busy or another one, the baseline is unfit, the disk fails, or
            nothing loads any more.
    """
    try:
        caps = probe(config.device)
    except InapplicableError as error:
        raise config.error("device", error.reason) from error
    space = resolve(config, caps)
    known, skipped = recipes(config, space)
    prompts = search_prompts(config)
    environment = describe(caps, config.measure.threads)
    # A mistake there must not wait until the end of the search, nor leave a folder behind.
    model_digest(config.model)
    twice = spoken_again(confirm_prompts(config))
    skipped = [*skipped, *([twice] if twice else [])]
    heard = references_of(config)
    with ExitStack() as stack:
        folder = stack.enter_context(StudyFolder(root, config.study))
        scorer = scorer or stack.enter_context(
            Judge(config.asr, timeout_s=METRIC_TIMEOUT_S, references=heard)
        )
        scored_by = scorer.provenance()
        conditions = study_conditions(config, space, environment, prompts, scored_by)
        folder.check_conditions(conditions, config.to_mapping())
        scoring = stack.enter_context(Scoring(scorer))
        environment |= {f"judge.{k}": v for k, v in scored_by.items()}
        runner = Runner(config, folder, scoring, conditions, environment, caps.torch_name, on_event)
        stack.enter_context(runner.standby)
        sweep = Sweep(runner, space, known, prompts, on_event, report)
        sweep.begin(caps.name, skipped)
        result = sweep.run()
        folder.save_clock()
    on_event(SweepFinished(result=result))
    return result


class Sweep:
    """One sitting of a study."""

    def __init__(
        self,
        runner: Runner,
        space: Space,
        known: Sequence[Candidate],
        prompts: PromptSet,
        on_event: Callable[[Event], None],
        report: Report | None,
    ) -> None:
        self.runner, self.space, self.recipes = runner, space, known
        self.prompts, self.on_event = prompts, on_event
        self.config = runner.config
        self.outbox = Outbox(report, on_event)

    def begin(self, device: str, skipped: Sequence[str]) -> None:
        """Say what is about to happen, and report what earlier sittings found."""
        self.on_event(
            SweepStarted(
                study=self.config.study,
                device=device,
                objectives=self.config.objectives,
                max_trials=self.config.budget.max_trials,
                seconds=self.config.budget.seconds,
                spent_s=self.runner.folder.accounts()["search"],
                known=tuple(self.runner.records),
                confirm_n=self.config.confirm.n,
                is_least=self.config.confirm.auto,
                confirm_s=self.config.confirm.seconds,
            )
        )
        for message in skipped:
            self.on_event(Notice(message=message))
        for record in self.runner.records:
            self.outbox.put(record)

    def run(self) -> SweepResult:
        """Run until the budget or the space is used up, or a person stops it."""
        baseline, arming = self.baseline(), None
        reference = load_reference(
            self.runner.folder.trials / baseline.folder_name, baseline.utterances
        )
        confirmer = Confirmer(self.runner, baseline)
        interrupted = False
        try:
            arming = self.arm(baseline)
            unarmed = why_nothing_passes(arming, self.config.prompts.n)
            self.search(baseline, reference)
            self.outbox.flush()
            n_before = len(self.runner.records)
            standing = confirmer.first_to_stand(self.contenders(baseline), unarmed)
            for record in self.runner.records[n_before:]:
                self.outbox.put(record)
        except KeyboardInterrupt:
            interrupted = True
            arming = arming or self.kept_arming()
            unarmed = why_nothing_passes(arming, self.config.prompts.n)
            confirm = planned(self.config.confirm, self.runner.folder.path)
            standing = best_standing(
                self.config.objectives, self.runner.records, baseline, confirm, unarmed
            )
        return SweepResult(
            study=self.config.study,
            objectives=self.config.objectives,
            records=tuple(self.runner.records),
            baseline=baseline,
            winner=standing.winner,
            front=() if unarmed else self.front(),
            confirmation=standing.confirmation,
            interrupted=interrupted,
            wall_s=self.runner.folder.spent_s,
            unconfirmed=standing.unconfirmed,
            not_confirmed=standing.why,
            arming=arming,
        )

    def arm(self, baseline: TrialRecord) -> Mapping[str, Any] | None:
        """Try the gate on the baseline; where that is left out, say how an earlier try went."""
        n_before = len(self.runner.records)
        found = Armer(self.runner, baseline, self.prompts).arm()
        for record in self.runner.records[n_before:]:
            self.outbox.put(record)
        return self.kept_arming() if found is None else plain(found.to_mapping())

    def kept_arming(self) -> Mapping[str, Any] | None:
        """Return how the gate was last tried in this study, as all that read it do, or None."""
        kept = read_arming(self.runner.folder.path)
        return kept["arming"] if kept else None

    def front(self) -> tuple[TrialRecord, ...]:
        """Return the accepted records that no other one beats in every objective."""
        return tuple(ranking.front(self.config.objectives, self.runner.records))

    def contenders(self, baseline: TrialRecord) -> list[TrialRecord]:
        """Return the accepted records that beat the baseline, best first."""
        return ranking.contenders(self.config.objectives, self.runner.records, baseline)

    def baseline(self) -> TrialRecord:
        """Return the baseline's record; run it first if need be.

        Raises:
            BaselineUnfitError: It fails, or trips a guard, or the time was too short for it.
        """
        candidate = self.space.candidate(self.config.baseline)
        assert isinstance(candidate, Candidate)  # resolve() has checked it
        digest = self.runner.digest(candidate.options, self.prompts)
        record = known = self.runner.known(digest)
        if record is None:
            try:
                record = self.runner.run(candidate, "baseline", self.prompts, None)
            except BudgetOverError as error:
                raise BaselineUnfitError(
                    "the study's time was over before the baseline was done: give it more"
                ) from error
        self.refuse_unfit(record)
        if known is None:
            self.outbox.put(record)
        return record

    def refuse_unfit(self, record: TrialRecord) -> None:
        """Set an unfit baseline aside, one that a killed sitting left behind too.

        Raises:
            BaselineUnfitError: It is unfit.
        """
        reasons = self.unfit(record)
        if not reasons:
            return
        said = f"the baseline is unfit, so nothing can be compared with it: {reasons}"
        self.runner.records.remove(record)
        if self.runner.records:  # it was fit by the rules of an earlier sitting
            n = len(self.runner.records)
            raise BaselineUnfitError(
                f"{said}; {n} other trials were compared with it: mend the model or the baseline's "
                "options and run it as another study"
            )
        path = self.runner.folder.set_aside(record)
        self.runner.folder.forget_conditions()
        raise BaselineUnfitError(
            f"{said}; mend the model or the baseline's options (evidence: {path})"
        )

    def unfit(self, record: TrialRecord) -> str:
        """Return why a baseline cannot be compared with, or ""."""
        if record.failure is not None:
            return f"{record.failure.kind} in {record.failure.phase}: {record.failure.message}"
        missing = [m for m in self.config.objectives if m not in record.metrics]
        if missing:
            return f"{missing[0]} was not measured"
        scores = load_reference(
            self.runner.folder.trials / record.folder_name, record.utterances
        ).scores
        reasons = check_baseline(list(scores), self.config.gate)
        doubted = doubt(scores) if reasons else ""
        return "; ".join([*reasons, *([doubted] if doubted else [])])

    def search(self, baseline: TrialRecord, reference: Reference) -> None:
        """Try recipes, then what the sampler proposes, while the budget lasts."""
        path = self.runner.folder.root / "optuna.db"
        sampler = Sampler(self.config, self.space, path, self.runner.records, baseline)
        for proposal, role in self.proposals(sampler):
            if not self.has_time():
                sampler.forget(proposal)
                self.on_event(Notice(message=f"no time for another trial after {self.n_tried}"))
                return
            try:
                record = self.runner.run(proposal.candidate, role, self.prompts, reference)
            except BudgetOverError:
                sampler.forget(proposal)
                self.on_event(Notice(message="the time was over in the middle of a trial"))
                return
            self.stop_if_broken()
            sampler.tell(proposal, record)
            self.outbox.put(record)

    def proposals(self, sampler: Sampler) -> Iterator[tuple[Proposal, Literal["recipe", "search"]]]:
        """Yield what to try next until trials or grid are used up."""
        for candidate in self.recipes:
            if (
                self.n_tried < self.config.budget.max_trials
                and candidate.options not in sampler.tried
            ):
                yield Proposal(candidate=candidate), "recipe"
        while self.n_tried < self.config.budget.max_trials:
            proposal = sampler.propose()
            if proposal is None:
                self.on_event(Notice(message="every combination of the space has been tried"))
                return
            yield proposal, "search"

    @property
    def searched(self) -> list[TrialRecord]:
        """The records that count against the budget's trials."""
        return [r for r in self.runner.records if r.role not in ASIDE]

    @property
    def n_tried(self) -> int:
        """How many trials count against the budget."""
        return len(self.searched)

    def has_time(self) -> bool:
        """Whether a trial of the usual length still fits."""
        usual = statistics.median(sum(r.phases.values()) for r in self.searched)
        return self.runner.left_s > 0.7 * usual

    def stop_if_broken(self) -> None:
        """End the sweep when it is not the configurations that crash.

        Raises:
            InfrastructureError: The latest trials all crashed while loading; they do not count.
        """
        crashed = broken_environment(self.searched)
        if not crashed:
            return
        for record in crashed:
            self.runner.records.remove(record)
            path = self.runner.folder.set_aside(record)
        failure = crashed[-1].failure
        said = failure.message.partition("\n")[0] if failure else ""
        raise InfrastructureError(
            f"the last {len(crashed)} trials crashed while loading, though other configurations "
            f"loaded before: the environment is broken, not they. The last one: {said} (see "
            f"{path / 'worker.log'}); mend it and run the same command again, which tries them anew"
        )
