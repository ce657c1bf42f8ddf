"""Optuna told from records: once each, after any kill, whatever is in its database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from search import ranking
from search.config import SweepConfig, load_config
from search.errors import InfrastructureError
from search.record import Failure, TrialRecord
from search.sampler import DIGEST, Proposal, Sampler
from search.space import Space, resolve
from tests.search.test_record import make
from tests.search.test_space import CPU
from tts.options import Options

SPACE = """
study: a
prompts: {path: p}
space: {precision: [fp32, bf16], quantization: [none], attention: [math], compile: [none, default],
        kv_cache: [dynamic, static], temperature: [0.7, 0.9]}
"""


def setting(folder: Path, extra: str = "") -> tuple[SweepConfig, Space]:
    path = folder / "sweep.yaml"
    path.write_text(SPACE + extra, encoding="utf-8")
    config = load_config(path)
    return config, resolve(config, CPU)


def record(config: SweepConfig, options: Options, number: int, **changes: object) -> TrialRecord:
    values = {
        "number": number, "digest": options.digest, "options": options.to_mapping(),
        "requested": options.to_mapping(), "role": "search",
        "metrics": {"latency_p50_s": 0.1 + 0.01 * number, "rtf": 0.2}, **changes,
    }  # fmt: skip
    made = make(**values)
    told = ranking.constraints(config, made.status, made.metrics, made.verdict)
    return replace(made, constraints=told)


def open_sampler(
    folder: Path, config: SweepConfig, space: Space, records: list[TrialRecord]
) -> Sampler:
    return Sampler(config, space, folder / "optuna.db", records, records[0])


def baseline(config: SweepConfig) -> TrialRecord:
    return record(config, Options(), 0, role="baseline", verdict=None)


def told(sampler: Sampler) -> list[str]:
    return sorted(t.user_attrs[DIGEST] for t in sampler.study.trials if DIGEST in t.user_attrs)


@pytest.mark.parametrize(("kind", "n_most"), [("tpe", 99), ("gp", 4), ("random", 99)])
def test_it_proposes_until_the_grid_is_used_up_and_nothing_twice(
    tmp_path: Path, kind: str, n_most: int
) -> None:
    config, space = setting(tmp_path, f"sampler: {kind}\n")
    records = [baseline(config)]
    sampler = open_sampler(tmp_path, config, space, records)
    while len(records) < n_most and (proposal := sampler.propose()) is not None:
        options = proposal.candidate.options
        assert options not in {Options.from_mapping(r.options) for r in records}
        failed = len(records) % 3 == 0
        failure = Failure(phase="load", kind="oom", message="no room") if failed else None
        status = "infeasible" if failed else "completed"
        records.append(record(config, options, len(records), status=status, failure=failure))
        sampler.tell(proposal, records[-1])
    assert len(records) == min(n_most, len(space.distinct))
    assert 8 <= len(space.distinct) <= 16
    assert told(sampler) == sorted(r.digest for r in records)


def test_a_failure_is_told_as_infeasible_and_finite(tmp_path: Path) -> None:
    config, space = setting(tmp_path, "slo: {rtf: 0.1}\n")
    sampler = open_sampler(tmp_path, config, space, [baseline(config)])
    proposal = sampler.propose()
    assert proposal is not None
    failed = record(config, proposal.candidate.options, 1, status="infeasible", metrics={})
    sampler.tell(proposal, failed)
    trial = sampler.study.trials[-1]
    assert trial.state is TrialState.COMPLETE
    assert trial.values == [pytest.approx(0.15)]
    assert trial.constraints == {"runs": 1.0, "gate": 1.0, "slo.rtf": 1.0}
    assert sampler.study.trials[0].constraints == {"runs": 0.0, "gate": 0.0, "slo.rtf": 1.0}


def test_what_may_pass_another_time_is_told_as_failed(tmp_path: Path) -> None:
    config, space = setting(tmp_path)
    sampler = open_sampler(tmp_path, config, space, [baseline(config)])
    proposal = sampler.propose()
    assert proposal is not None
    sampler.tell(proposal, record(config, proposal.candidate.options, 1, status="failed"))
    assert sampler.study.trials[-1].state is TrialState.FAIL


def test_a_restart_tells_what_is_missing_and_closes_what_was_left_open(tmp_path: Path) -> None:
    config, space = setting(tmp_path)
    records = [baseline(config)]
    first = open_sampler(tmp_path, config, space, records)
    proposal = first.propose()
    assert proposal is not None
    # Killed here: the record is on disk, Optuna was not told, its trial is still running.
    records.append(record(config, proposal.candidate.options, 1))
    second = open_sampler(tmp_path, config, space, records)
    assert told(second) == sorted(r.digest for r in records)
    assert not second.study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    third = open_sampler(tmp_path, config, space, records)
    assert told(third) == told(second)
    assert len(third.study.trials) == len(second.study.trials)


def test_records_that_were_moved_away_are_forgotten(tmp_path: Path) -> None:
    config, space = setting(tmp_path)
    records = [baseline(config), record(config, Options(kv_cache="static"), 1)]
    assert len(told(open_sampler(tmp_path, config, space, records))) == 2
    assert told(open_sampler(tmp_path, config, space, records[:1])) == [records[0].digest]


def test_a_record_outside_the_grid_is_not_told(tmp_path: Path) -> None:
    config, space = setting(tmp_path)
    outside = record(config, Options(batch_size=4), 1)
    sampler = open_sampler(tmp_path, config, space, [baseline(config), outside])
    assert told(sampler) == [Options().digest]


def test_several_objectives(tmp_path: Path) -> None:
    config, space = setting(tmp_path, "objectives: [latency_p50_s, tokens_per_s]\n")
    first = record(config, Options(), 0, metrics={"latency_p50_s": 0.1, "tokens_per_s": 50.0})
    sampler = open_sampler(tmp_path, config, space, [first])
    assert [d.name for d in sampler.study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert isinstance(sampler.propose(), Proposal)


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    config, space = setting(tmp_path)
    (tmp_path / "optuna.db").write_bytes(b"not a database" * 100)
    with pytest.raises(InfrastructureError, match=r"(?s)optuna.db.*move it away"):
        open_sampler(tmp_path, config, space, [baseline(config)])


def test_optuna_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config, space = setting(tmp_path)
    open_sampler(tmp_path, config, space, [baseline(config)]).propose()
    assert capfd.readouterr().err == ""
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
