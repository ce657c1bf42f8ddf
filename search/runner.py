"""From a configuration to try to its record on disk."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from search import ranking
from search.config import SweepConfig
from search.environment import trial_digest
from search.events import Event, PhaseHeld, PhaseStarted, TrialFinished, TrialStarted
from search.folder import StudyFolder
from search.job import Job
from search.judging import Brief
from search.process import Standby
from search.prompts import PromptSet
from search.record import ASIDE, Role, TrialRecord, write_draft, write_record
from search.reference import Reference
from search.scoring import Scoring, plain, quality_metrics
from search.space import Candidate
from search.trial import BudgetOverError, Outcome, Trial, now, plain_scores
from tts.options import Options

# Utterances whose baseline tokens every candidate renders, for PESQ.
N_RENDER = 8
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Runner:
    """Runs candidates of one study and keeps its list of records.

    Args:
        config: The sweep.
        folder: The study's folder, held.
        scoring: Scores audio.
        conditions: What results depend on.
        environment: For the records.
        device: The device's own name, as ``tts.build.build`` takes it.
        on_event: Told of every step.
    """

    def __init__(
        self,
        config: SweepConfig,
        folder: StudyFolder,
        scoring: Scoring,
        conditions: Mapping[str, str],
        environment: Mapping[str, Any],
        device: str,
        on_event: Callable[[Event], None],
    ) -> None:
        self.config, self.folder, self.scoring = config, folder, scoring
        self.conditions, self.environment, self.device = conditions, environment, device
        self.on_event = on_event
        self.records = folder.records()
        # Why the gate is not armed: while there is a reason, nothing passes it.
        self.unarmed: tuple[str, ...] = ()
        self.drafts = folder.drafts()
        self.standby = Standby(folder.path / "standby.log", self.child_environment())

    def surpassed(self, metrics: Mapping[str, float]) -> str:
        """Return why a trial with these metrics cannot win, whatever its quality, or ""."""
        rivals = [r for r in self.records if r.role == "baseline" or r.accepted]
        for rival in sorted(rivals, key=lambda r: r.role != "baseline"):
            if ranking.no_better(self.config.objectives, metrics, rival.metrics):
                name = "the baseline" if rival.role == "baseline" else f"trial {rival.number}"
                return f"{name} is at least as good in {' and '.join(self.config.objectives)}"
        return ""

    def child_environment(self) -> dict[str, str]:
        """Return the variables that trials run under.

        Compiled code is kept within the study: what ran on this machine before does not matter.
        """
        n = self.config.measure.threads
        threads = dict.fromkeys(THREAD_VARIABLES, str(n)) if n else {}
        compiled = self.folder.path.resolve() / "compiled"
        return {
            **threads, "TORCHINDUCTOR_CACHE_DIR": str(compiled / "inductor"),
            "TRITON_CACHE_DIR": str(compiled / "triton"),
        }  # fmt: skip

    @property
    def overlap(self) -> bool:
        """Whether the judge may work while the model speaks: only if there are cores to spare."""
        return self.device != "cpu" or 0 < self.config.measure.threads < (os.cpu_count() or 1)

    @property
    def left_s(self) -> float:
        """Seconds left of the search's time, or of the confirmation's; infinite without a limit."""
        account = self.folder.account
        limits = {"search": self.config.budget.seconds, "confirm": self.config.confirm.seconds}
        seconds = limits[account]
        return math.inf if seconds is None else seconds - self.folder.accounts()[account]

    @property
    def next_number(self) -> int:
        """The number of the next record."""
        return max((r.number for r in (*self.records, *self.drafts)), default=-1) + 1

    def digest(self, options: Options, prompts: PromptSet) -> str:
        """Return the content address of options spoken on prompts."""
        return trial_digest(options, self.conditions, prompts.utterances)

    def known(self, digest: str) -> TrialRecord | None:
        """Return the record of a content address, if there is one."""
        return next((r for r in self.records if r.digest == digest), None)

    def draft(self, digest: str) -> TrialRecord | None:
        """Return the draft of a content address, if there is one."""
        return next((r for r in self.drafts if r.digest == digest), None)

    def run(
        self,
        candidate: Candidate,
        role: Role,
        prompts: PromptSet,
        reference: Reference | None,
    ) -> TrialRecord:
        """Run one candidate and write its record.

        Args:
            candidate: What to run.
            role: Why.
            prompts: What it speaks for the judge.
            reference: The baseline on the same prompts; None for the baseline itself.

        Raises:
            BudgetOverError: The time was over first; nothing is recorded.
        """
        return self.keep(self.attempt(candidate, role, prompts, reference))

    def attempt(
        self,
        candidate: Candidate,
        role: Role,
        prompts: PromptSet,
        reference: Reference | None,
    ) -> TrialRecord:
        """Run one candidate; its record is not written yet."""
        number = self.next_number
        digest = self.digest(candidate.options, prompts)
        path = self.folder.make_trial(number, digest)
        total = self.config.budget.max_trials
        flat = candidate.options.to_mapping()
        self.on_event(
            TrialStarted(
                number=number, total=total, role=role, options=flat, recipe=candidate.recipe
            )
        )
        started = now()
        job = self.job(path, candidate.options, prompts, reference)
        if role == "arming":  # only its sound is asked for
            job = replace(job, repeats=0, n_render_own=0)
        try:
            outcome = self.trial(
                job,
                Brief(
                    folder=path, references=prompts.references, gate=self.config.gate,
                    screen=self.config.screen,
                    reference=reference, overlap=self.overlap,
                    surpassed=None if role in ASIDE else self.surpassed, unarmed=self.unarmed,
                    on_hold=lambda held: self.on_event(PhaseHeld(number=number, held=held)),
                ),
                number,
            ).run()  # fmt: skip
        except BudgetOverError:
            self.folder.remove_trial(path.name)
            raise
        self.standby.prepare()  # it loads while this trial is written down and told
        return self.record(candidate, role, number, digest, outcome, started)

    def put_off(self, record: TrialRecord) -> TrialRecord:
        """Write down what there is of a record that is not finished; it counts for nothing yet."""
        write_draft(self.folder.trials / record.folder_name, record)
        self._drop_draft(record)
        self.drafts.append(record)
        self.folder.save_clock()
        return record

    def _drop_draft(self, record: TrialRecord) -> None:
        self.drafts = [d for d in self.drafts if d.number != record.number]

    def keep(self, record: TrialRecord) -> TrialRecord:
        """Write a record, atomically; from here on it is the truth."""
        write_record(self.folder.trials / record.folder_name, record)
        self._drop_draft(record)
        self.records.append(record)
        self.folder.save_clock()
        self.on_event(TrialFinished(record=record))
        return record

    def job(
        self, path: Path, options: Options, prompts: PromptSet, reference: Reference | None
    ) -> Job:
        """Return the work order of one trial."""
        config = self.config
        wants_ttfa = any(m.startswith("ttfa") for m in (*config.objectives, *config.slo))
        tokens = reference.tokens if reference else {}
        return Job(
            folder=str(path.resolve()),
            model=config.model,
            device=self.device,
            options=options.to_mapping(),
            repeats=config.measure.repeats,
            warmup=config.measure.warmup,
            texts=config.measure.texts,
            measure_ttfa=wants_ttfa or options.batch_size == 1,
            utterances=tuple(asdict(u) for u in prompts.utterances),
            render=tuple({"id": k, "tokens": v} for k, v in tokens.items()),
            n_render_own=0 if reference else N_RENDER,
            fidelity=str(reference.fidelity.resolve()) if reference and reference.fidelity else "",
        )

    def deadlines(self, n: int) -> dict[str, float]:
        """Return the seconds per phase of a trial that speaks ``n`` utterances.

        The configuration's are for as many as the search speaks; the confirmation speaks more.
        """
        found: dict[str, float] = asdict(self.config.deadlines)
        n_search = self.config.prompts.n * self.config.prompts.seeds
        found["synthesize"] *= max(1.0, n / n_search)
        return found

    def trial(self, job: Job, brief: Brief, number: int) -> Trial:
        """Return a trial that reports to the view and heeds the time there is."""
        deadlines = self.deadlines(len(brief.references))

        def on_phase(phase: str) -> None:
            deadline_s = deadlines.get(phase, 0.0)
            self.on_event(PhaseStarted(number=number, phase=phase, deadline_s=deadline_s))
            if phase == "synthesize" and self.overlap:  # nothing is timed from here on
                self.standby.prepare()

        def should_stop() -> str:
            return f"the {self.folder.account}'s time is over" if self.left_s <= 0 else ""

        return Trial(job, brief, deadlines, self.scoring, self.standby, on_phase, should_stop)

    def record(
        self, candidate: Candidate, role: Role, number: int, digest: str, outcome: Outcome,
        started: str,
    ) -> TrialRecord:  # fmt: skip
        """Return the record of an outcome."""
        got = outcome.collected
        # One that was only heard again was never timed: that is no missed service level.
        timed = outcome.status == "completed" and bool(got.measurements)
        metrics = {**got.metrics, **quality_metrics(outcome.scores)}
        metrics = {k: float(v) for k, v in metrics.items() if math.isfinite(v)}
        verdict = plain(outcome.verdict.to_mapping()) if outcome.verdict else None
        return TrialRecord(
            study=self.config.study,
            number=number,
            role=role,
            digest=digest,
            options=candidate.options.to_mapping(),
            requested=candidate.requested.to_mapping(),
            status=outcome.status,
            failure=outcome.failure,
            attempts=outcome.attempts,
            recipe=candidate.recipe,
            phases=got.phases,
            applied=tuple(got.applied),
            observed=got.observed,
            measurements=plain(got.measurements),
            metrics=metrics,
            utterances=plain_scores(outcome.scores),
            judged=got.judged,
            verdict=verdict,
            constraints=ranking.constraints(
                self.config, outcome.status, metrics, verdict, "surpassed" in got.judged
            ),
            slo_violations=ranking.slo_violations(self.config, metrics) if timed else (),
            environment={**self.environment, "conditions": dict(self.conditions)},
            started_at=started,
            ended_at=now(),
        )
