"""Optuna, and nothing else of it anywhere: asked for the next point, told from records.

The records on disk are the truth. Optuna's database is brought into line with them at every start,
so a kill at any moment loses nothing, and nothing is told twice.
"""

from __future__ import annotations

import random
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from search.config import METRICS, SweepConfig
from search.errors import InfrastructureError
from search.ranking import objective_values
from search.record import ASIDE, TrialRecord
from search.space import Candidate, Space, options_of
from tts.errors import InapplicableError
from tts.options import Options

# Proposals in a row that are known or refused, before one is drawn from what is left.
MAX_ASKS = 10
DIGEST = "mosgate.digest"


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A configuration to try, and the Optuna trial that waits for its outcome, if any."""

    candidate: Candidate
    trial: optuna.Trial | None = None


class Sampler:
    """Proposes configurations that were not tried yet.

    Args:
        config: Study name, objectives, kind of sampler, seed.
        space: The grid.
        path: The sqlite file.
        records: Everything on disk, the baseline included; kept up to date by ``tell``.
        baseline: Gives failed trials a finite objective.
    """

    def __init__(
        self,
        config: SweepConfig,
        space: Space,
        path: Path,
        records: Sequence[TrialRecord],
        baseline: TrialRecord,
    ) -> None:
        self.config, self.space, self.baseline = config, space, baseline
        # An axis with one choice teaches a sampler nothing, and costs a write a trial.
        self.fixed = {axis: c[0] for axis, c in space.choices.items() if len(c) == 1}
        self.distributions: dict[str, BaseDistribution] = {
            axis: CategoricalDistribution(c) for axis, c in space.choices.items() if len(c) > 1
        }
        self.tried = {Options.from_mapping(r.options): r for r in records if r.role not in ASIDE}
        self.random = random.Random(config.seed + len(records))
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            self.storage = optuna.storages.RDBStorage(
                f"sqlite:///{path}", engine_kwargs={"creator": lambda: _connect(path)}
            )
            self.study = self._open(len(records))
            self._reconcile(list(self.tried.values()))
        except Exception as error:
            raise InfrastructureError(
                f"cannot use Optuna's database {path}: {error}; it holds nothing that the records "
                "do not: move it away and run the same command again"
            ) from error

    def _open(self, n_known: int) -> optuna.Study:
        maximize, minimize = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
        directions = [maximize if METRICS[m] else minimize for m in self.config.objectives]
        return optuna.create_study(
            storage=self.storage,
            study_name=self.config.study,
            directions=directions,
            load_if_exists=True,
            sampler=_sampler(self.config, n_known),
        )

    def _reconcile(self, records: Sequence[TrialRecord]) -> None:
        """Bring the database into line with the records."""
        digests = {record.digest for record in records}
        told = {t.user_attrs[DIGEST] for t in self.study.trials if DIGEST in t.user_attrs}
        if told - digests:
            # Records were moved away, or the folder is another one: start the database anew.
            optuna.delete_study(study_name=self.config.study, storage=self.storage)
            self.study, told = self._open(len(records)), set()
        for trial in self.study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING)):
            # Its process was killed before there was a record: it never happened.
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        for record in sorted(records, key=lambda r: r.number):
            if record.digest not in told:
                self._add(record)

    def propose(self) -> Proposal | None:
        """Return something new to try, or None when the grid is used up."""
        for _ in range(MAX_ASKS):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                trial = self.study.ask(self.distributions)
            candidate = self.space.candidate(options_of({**self.fixed, **trial.params}))
            if isinstance(candidate, InapplicableError):
                self._tell(trial, None, {"refused": str(candidate)})
            elif candidate.options in self.tried:
                known = self.tried[candidate.options]
                self._tell(trial, known, {"same_as": known.digest})
            else:
                return Proposal(candidate=candidate, trial=trial)
        return self._any_untried()

    def _any_untried(self) -> Proposal | None:
        left = [(c, r) for c, r in self.space.distinct.items() if c not in self.tried]
        if not left:
            return None
        options, requested = self.random.choice(left)
        return Proposal(candidate=Candidate(requested=requested, options=options))

    def tell(self, proposal: Proposal, record: TrialRecord) -> None:
        """Tell the outcome of a proposal from its record."""
        self.tried[proposal.candidate.options] = record
        attributes = {DIGEST: record.digest, "number": str(record.number)}
        if proposal.trial is None:
            self._add(record)
        else:
            self._tell(proposal.trial, record, attributes)

    def forget(self, proposal: Proposal) -> None:
        """Close a proposal that was not carried out."""
        if proposal.trial is not None:
            self.study.tell(proposal.trial, state=TrialState.FAIL)

    def _tell(
        self, trial: optuna.Trial, record: TrialRecord | None, attributes: Mapping[str, str]
    ) -> None:
        for key, text in attributes.items():
            trial.set_user_attr(key, text)
        if record is not None and record.status == "failed":
            self.study.tell(trial, state=TrialState.FAIL)
            return
        told = record or self.baseline
        for key in self.baseline.constraints:
            trial.set_constraint(key, told.constraints[key] if record else 1.0)
        self.study.tell(trial, self._values(record))

    def _values(self, record: TrialRecord | None) -> list[float]:
        failed = record is None or record.status != "completed"
        return objective_values(self.config.objectives, None if failed else record, self.baseline)

    def _add(self, record: TrialRecord) -> None:
        """Tell a record that no trial of Optuna's waits for, if it lies within the grid."""
        point = None
        for options in (record.requested, record.options):
            point = point or self.space.point(Options.from_mapping(options))
        if point is None:
            return
        failed = record.status == "failed"
        self.study.add_trial(
            create_trial(
                state=TrialState.FAIL if failed else TrialState.COMPLETE,
                values=None if failed else self._values(record),
                params={axis: point[axis] for axis in self.distributions},
                distributions=dict(self.distributions),
                user_attrs={DIGEST: record.digest, "number": str(record.number)},
                constraints=None if failed else dict(record.constraints),
            )
        )


def _connect(path: Path) -> sqlite3.Connection:
    """Open the database without waiting for the disk: the records can rebuild it at any time."""
    connection = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
    connection.execute("PRAGMA synchronous=OFF")
    return connection


def _sampler(config: SweepConfig, n_known: int) -> optuna.samplers.BaseSampler:
    # Another seed at each start: else a resumed sweep would be proposed what it has already done.
    seed = config.seed + n_known
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if config.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        if config.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=8)
