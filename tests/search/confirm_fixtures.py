"""A confirmation whose processes are made up: each answers with the next of its endings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

from search.config import SweepConfig
from search.confirm import Confirmer
from search.events import Event
from search.prompts import PromptSet
from search.record import Failure, TrialRecord
from search.sections import ConfirmConfig, PromptsConfig
from search.space import Candidate
from search.trial import BudgetOverError
from tests.search.test_record import make
from tts.options import Options
from tts.types import Utterance

PHASES = {"load": 2.0, "compile": 3.0, "measure": 5.0, "synthesize": 20.0, "judge": 10.0}
METRIC = "latency_p50_s"
BASELINE = make(
    number=0, digest="b" * 16, options=Options().to_mapping(), phases=PHASES,
    metrics={METRIC: 1.0},
)  # fmt: skip
FAST, FASTER = (Options(compile=c) for c in ("default", "max-autotune"))
REJECTED = "rejected"  # at the token level: nothing is heard and nothing timed
SLOW = Failure(phase="synthesize", kind="timeout", message="too slow")
Ending = float | Failure | Literal["rejected"]


def unseen(config: SweepConfig) -> PromptSet:
    """Return as many prompts as the confirmation asks for."""
    names = [f"u{i}" for i in range(config.confirm.n)]
    return PromptSet(
        utterances=tuple(Utterance(id=name, text=f"la {name}", seed=0) for name in names),
        references=dict.fromkeys(names, "la"),
    )


def contender(options: Options, seconds: float) -> TrialRecord:
    return make(
        number=1, digest=options.digest, options=options.to_mapping(),
        metrics={METRIC: seconds}, phases=PHASES,
    )  # fmt: skip


class Accounts:
    """A folder that knows whose time is running."""

    def __init__(self) -> None:
        self.account, self.removed, self.trials = "search", list[str](), Path()

    def spend_on(self, account: str) -> None:
        self.account = account

    def accounts(self) -> dict[str, float]:
        return {"search": 0.0, "confirm": 0.0}

    def remove_trial(self, name: str) -> None:
        self.removed.append(name)


class FakeRunner:
    """Answers each process with the next ending of its options; the time is over after them."""

    def __init__(
        self,
        latencies: dict[Options, list[Ending]],
        *,
        statuses: dict[Options, str] | None = None,
        **confirm: int,
    ) -> None:
        self.config = SweepConfig(
            study="a", prompts=PromptsConfig(path="p"),
            confirm=ConfirmConfig(**{"pairs": 1, "n": 8, **confirm}),  # type: ignore[arg-type]
        )  # fmt: skip
        self.latencies, self.statuses = latencies, statuses or {}
        self.ran, self.records = list[Options](), list[TrialRecord]()
        self.drafts = dict[str, TrialRecord]()
        self.folder, self.told = Accounts(), list[Event]()
        self.on_event = self.told.append

    def digest(self, options: Options, prompts: object) -> str:
        assert isinstance(prompts, PromptSet)
        return f"confirm-{options.digest}-{len(prompts.utterances)}"

    def known(self, digest: str) -> TrialRecord | None:
        return next((r for r in self.records if r.digest == digest), None)

    def draft(self, digest: str) -> TrialRecord | None:
        return self.drafts.get(digest)

    def attempt(
        self, candidate: Candidate, role: str, prompts: PromptSet, reference: object
    ) -> TrialRecord:
        assert self.folder.account == "confirm"
        options, n = candidate.options, len(prompts.utterances)
        if not self.latencies[options]:
            raise BudgetOverError("the confirmation's time is over")
        self.ran.append(options)
        ending = self.latencies[options].pop(0)
        found = make(
            role=role, digest=self.digest(options, prompts), options=options.to_mapping(),
            number=10 + len(self.ran), metrics={}, verdict=None,
        )  # fmt: skip
        if isinstance(ending, Failure):
            return replace(found, status="infeasible", failure=ending)
        if ending == REJECTED:
            return replace(found, verdict={"status": "FAIL", "n": 0})
        status = self.statuses.get(options, "PASS")
        judged = {"planned": [n], "looks": [{"n": n, "status": status}], "n_spoken": n}
        verdict = {"status": status, "n": n}
        return replace(found, metrics={METRIC: ending}, verdict=verdict, judged=judged)

    def put_off(self, record: TrialRecord) -> TrialRecord:
        self.drafts[record.digest] = record
        return record

    def keep(self, record: TrialRecord) -> TrialRecord:
        self.drafts.pop(record.digest, None)
        self.records.append(record)
        return record


def confirmer(runner: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> Confirmer:
    monkeypatch.setattr("search.confirm.confirm_prompts", unseen)
    found = Confirmer(runner, BASELINE)  # type: ignore[arg-type]
    monkeypatch.setattr(found, "reference", lambda base: SimpleNamespace())
    return found
