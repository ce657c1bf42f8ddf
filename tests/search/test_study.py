"""The whole loop on a voice that fails on demand, with real processes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from evaluation.scores import Clip, UtteranceScores
from search.armed import ARMING
from search.commands.studies import load_study
from search.config import SweepConfig
from search.errors import BaselineUnfitError, ConfigError, InfrastructureError
from search.events import Event, Notice, PhaseStarted, TrialFinished, TrialStarted
from search.record import SweepResult, TrialRecord, read_records
from search.sampler import DIGEST
from search.study import run_sweep
from tests.search import fakes, toy
from tests.search.test_trial import working_in

SWEEP = f"""
study: a
model: tests.search.fakes:FakeVoice
device: cpu
prompts: {{path: prompts.tsv, n: 9}}
space: {{precision: [fp32], quantization: [none], attention: [math], compile: [none, default],
        kv_cache: [dynamic, static], temperature: [{fakes.FINE}, {fakes.POOR}, {fakes.RAISE}]}}
arming: {{enabled: false}}
confirm: {{n: 0}}
recipes: [compiled]
"""


def lines(further: str) -> str:
    """Return ``SWEEP`` with further lines, which take the place of those of the same key."""
    keys = {line.partition(":")[0] for line in further.splitlines()}
    kept = [line for line in SWEEP.splitlines() if line.partition(":")[0] not in keys]
    return "\n".join([*kept, further]) + "\n"


@pytest.fixture
def sweep(toy_sweep: Callable[[str], SweepConfig]) -> Callable[[str], SweepConfig]:
    """Return a function from further YAML lines to a configuration."""
    return lambda further: toy_sweep(lines(further))


def run(
    config: SweepConfig,
    root: Path,
    on_event: Callable[[Event], None] = lambda event: None,
    report: Callable[[TrialRecord], None] | None = None,
) -> SweepResult:
    return run_sweep(config, root=root, on_event=on_event, report=report, scorer=fakes.FakeScorer())


def told(root: Path) -> list[str]:
    """Return the digests that Optuna knows, as often as it was told them."""
    study = optuna.load_study(study_name="a", storage=f"sqlite:///{root / 'optuna.db'}")
    found = [t.user_attrs[DIGEST] for t in study.trials if DIGEST in t.user_attrs]
    study._storage.remove_session()
    return sorted(found)


@pytest.fixture(scope="module")
def two_trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a sweep's baseline and its recipe, once for all that begin after them."""
    folder = tmp_path_factory.mktemp("two_trials")
    result = run(toy.sweep(folder, lines("budget: {max_trials: 2}")), folder / "mlruns")
    assert [record.role for record in result.records] == ["baseline", "recipe"]
    return folder / "mlruns"


@pytest.fixture
def begun(two_trials: Path, tmp_path: Path) -> Path:
    """Return a root where a sitting before this one has run the first two trials."""
    return Path(shutil.copytree(two_trials, tmp_path / "mlruns"))


@pytest.mark.slow
def test_a_sweep_from_nothing_to_a_confirmed_winner(
    tmp_path: Path, sweep: Callable[[str], SweepConfig]
) -> None:
    root, events, reported = tmp_path / "mlruns", list[Event](), list[TrialRecord]()
    config = sweep("budget: {max_trials: 3}\nconfirm: {n: 9, pairs: 2}")
    result = run(config, root, events.append, reported.append)
    roles = [record.role for record in result.records]
    assert roles == ["baseline", "recipe", "search", "confirm", "confirm"]
    assert result.winner is not None
    assert result.winner.options["compile"] == "default"
    assert result.winner.verdict is not None
    assert result.winner.verdict["status"] == "PASS"
    assert result.front == (result.winner,)
    assert result.confirmation is not None
    assert len(result.confirmation.winner_samples) == 2
    assert len(result.confirmation.baseline_samples) == 2
    assert result.confirmation.speedup > 1
    assert result.confirmation.verdict is not None
    assert result.confirmation.verdict["status"] == "PASS"
    heard = {u["utterance_id"] for u in result.records[-1].utterances}
    assert heard.isdisjoint({u["utterance_id"] for u in result.baseline.utterances})
    assert tuple(read_records(root / "a")) == result.records
    assert reported == list(result.records)
    assert told(root) == sorted(r.digest for r in result.records if r.role != "confirm")
    assert [e.record for e in events if isinstance(e, TrialFinished)] == list(result.records)
    # A second call finds everything done: it runs nothing and comes to the same end.
    again = run(config, root, lambda event: _refuse(event, TrialStarted))
    assert (again.winner, again.confirmation) == (result.winner, result.confirmation)


def _refuse(event: Event, kind: type) -> None:
    assert not isinstance(event, kind)


RUN = """
import sys
from pathlib import Path
from search.config import load_config
from search.study import run_sweep
from tests.search.fakes import FakeScorer

def say(event):
    number, phase = getattr(event, "number", ""), getattr(event, "phase", "")
    print(type(event).__name__, number, phase, flush=True)

config = load_config(Path(sys.argv[1]))
run_sweep(config, root=Path(sys.argv[2]), on_event=say, scorer=FakeScorer())
"""


def kill_at(tmp_path: Path, moment: str) -> None:
    """Run ``sweep.yaml`` in a process that is killed with -9 at this moment."""
    command = [sys.executable, "-c", RUN, str(tmp_path / "sweep.yaml"), str(tmp_path / "mlruns")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(moment):
                process.kill()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "number"),
    [("synthesize", 1), ("compile", 2)],
    ids=["before the first utterance", "compiling"],
)
def test_the_same_command_goes_on_after_kill_9(
    tmp_path: Path, sweep: Callable[[str], SweepConfig], phase: str, number: int
) -> None:
    n = number + 2  # the killed one, and one after it
    killed = sweep(f"budget: {{max_trials: {n}}}")
    kill_at(tmp_path, f"PhaseStarted {number} {phase}")
    root = tmp_path / "mlruns"
    before = {p: p.read_bytes() for p in (root / "a" / "trials").glob("*/record.json")}
    assert len(before) == number
    trial = next((root / "a" / "trials").glob(f"{number:04d}-*"))
    deadline = time.monotonic() + 10
    while working_in(trial) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not working_in(trial)
    started: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, TrialStarted):
            started.append(event.number)

    result = run(killed, root, note)
    assert started == list(range(number, n))
    assert [r.number for r in result.records] == list(range(n))
    assert len({r.digest for r in result.records}) == n
    assert {p: p.read_bytes() for p in before} == before
    assert told(root) == sorted(r.digest for r in result.records)
    assert sorted(p.name for p in (root / "a" / "trials").iterdir()) == [
        r.folder_name for r in result.records
    ]


@pytest.mark.slow
def test_what_cannot_win_is_not_heard_and_teaches_as_much_as_undecided(
    tmp_path: Path, toy_sweep: Callable[[str], SweepConfig]
) -> None:
    root, scorer = tmp_path / "mlruns", fakes.FakeScorer()
    config = toy_sweep(
        "study: a\nmodel: tests.search.fakes:FakeVoice\ndevice: cpu\nrecipes: []\n"
        "prompts: {path: prompts.tsv, n: 9}\narming: {enabled: false}\nconfirm: {n: 0}\n"
        "baseline: {compile: default, kv_cache: static}\n"
        "space: {precision: [fp32], quantization: [none], attention: [math], compile: [none],\n"
        f"  kv_cache: [dynamic], temperature: [{fakes.FINE}, {fakes.BABBLE}]}}\n"
    )
    for sitting in range(2):  # the second one finds everything there
        result = run_sweep(config, root=root, on_event=lambda event: None, scorer=scorer)
        assert scorer.n_scored == 9, sitting  # the baseline's alone
        slow = result.records[1:]
        assert len(slow) == 2
        for record in slow:
            assert record.status == "completed"
            assert record.surpassed == "the baseline is at least as good in latency_p50_s"
            assert (record.verdict, record.utterances) == (None, ())
            assert record.constraints == {"runs": 0.0, "gate": 0.1}
            assert not list((root / "a" / "trials" / record.folder_name).glob("audio/*"))
        assert told(root) == sorted(r.digest for r in slow)  # the baseline is not in the space


@pytest.mark.slow
def test_nothing_wins_when_the_confirmations_time_is_over_first(
    begun: Path, sweep: Callable[[str], SweepConfig]
) -> None:
    config = sweep("budget: {max_trials: 2}\nconfirm: {n: 9, pairs: 2, seconds: 1}")
    result = run(config, begun)
    assert [r.role for r in result.records] == ["baseline", "recipe"]
    assert (result.winner, result.unconfirmed) == (None, result.records[1])
    assert "--set confirm.seconds=2" in result.not_confirmed
    shown, _ = load_study(begun, "a")
    assert dataclasses.replace(shown, wall_s=result.wall_s) == result


@pytest.mark.slow
def test_a_confirmation_that_was_killed_hears_and_times_nothing_twice(
    tmp_path: Path, begun: Path, sweep: Callable[[str], SweepConfig]
) -> None:
    root = begun
    config = sweep("budget: {max_trials: 2}\nconfirm: {n: 9, pairs: 2}")
    kill_at(tmp_path, "PhaseStarted 4 compile")  # in the first turn, when both have been heard
    assert [r.number for r in read_records(root / "a")] == [0, 1, 2]
    audio = sorted((root / "a" / "trials").glob("000[23]-*/audio/*.wav"))
    before = {path: path.stat().st_mtime_ns for path in audio}
    assert len(before) == 18

    events: list[Event] = []
    result = run(config, root, events.append)
    assert [e.number for e in events if isinstance(e, TrialStarted)] == [4, 4]  # the two turns
    assert result.winner == result.records[1]
    assert result.confirmation is not None
    assert len(result.confirmation.winner_samples) == 2
    assert [r.number for r in result.records] == [0, 1, 2, 3]
    assert {path: path.stat().st_mtime_ns for path in audio} == before
    assert list((root / "a" / "trials").glob("*/draft.json")) == []


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Take SIGINT even where a shell started the tests in the background, with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("hears_ctrl_c")
def test_an_interruption_ends_the_child_and_reporting_ends_nothing(
    tmp_path: Path, sweep: Callable[[str], SweepConfig]
) -> None:
    notices: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.message)
        if isinstance(event, PhaseStarted) and (event.number, event.phase) == (2, "compile"):
            os.kill(os.getpid(), signal.SIGINT)

    def report(record: TrialRecord) -> None:
        raise ConnectionError("the tracking server is away")

    root = tmp_path / "mlruns"
    result = run(sweep(""), root, on_event, report)
    assert result.interrupted
    assert [r.number for r in result.records] == [0, 1]
    assert (result.winner, result.unconfirmed) == (None, result.records[1])
    assert [n for n in notices if "trial 1 could not be reported (the tracking server" in n]
    trial = next((root / "a" / "trials").glob("0002-*"))
    assert not working_in(trial)


@pytest.mark.slow
def test_a_broken_environment_ends_the_sweep_and_condemns_nothing(
    tmp_path: Path, sweep: Callable[[str], SweepConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, flag, reported = tmp_path / "mlruns", tmp_path / "broken", list[TrialRecord]()
    monkeypatch.setenv("MOSGATE_TEST_BROKEN", str(flag))

    def on_event(event: Event) -> None:
        if isinstance(event, TrialFinished):
            flag.touch()

    config = sweep("sampler: random")
    with pytest.raises(InfrastructureError, match=r"last \d trials crashed.*worker\.log") as caught:
        run(config, root, on_event, reported.append)
    assert "ImportError: libnowhere.so" in str(caught.value)
    assert [r.role for r in reported] == ["baseline"]
    assert tuple(read_records(root / "a")) == tuple(reported)
    logs = list((root / "a" / "unfit").glob("*/worker.log"))
    assert len(logs) >= 4
    assert str(max(logs)) in str(caught.value)
    flag.unlink()
    config = sweep("sampler: random\nbudget: {max_trials: 2}")
    result = run(config, root, lambda event: None)
    assert [(r.number, r.status) for r in result.records] == [(0, "completed"), (1, "completed")]
    assert told(root) == sorted(r.digest for r in result.records)


def test_a_baseline_that_trips_the_guards_ends_the_sweep(
    tmp_path: Path, sweep: Callable[[str], SweepConfig]
) -> None:
    silent = sweep(f"baseline: {{sampling: {{temperature: {fakes.SILENT}}}}}")
    with pytest.raises(BaselineUnfitError, match=r"silent or empty.*mend the model"):
        run(silent, tmp_path / "mlruns")
    evidence = list((tmp_path / "mlruns" / "a" / "unfit").glob("0000-*/record.json"))
    assert json.loads(evidence[0].read_text())["failure"]["kind"] == "silence"


def test_a_baseline_that_only_a_deaf_recogniser_ruins_is_told_so(
    tmp_path: Path, sweep: Callable[[str], SweepConfig]
) -> None:
    class Deaf(fakes.FakeScorer):
        def _one(self, clip: Clip) -> UtteranceScores:
            return dataclasses.replace(super()._one(clip), wer_errors=6)  # of six words

    named = "baseline utterances are bad .*The recogniser gets 100 % of the baseline's own words"
    with pytest.raises(BaselineUnfitError, match=named):
        run_sweep(sweep(""), root=tmp_path / "mlruns", on_event=lambda _: None, scorer=Deaf())


def test_an_unfit_baseline_is_not_taken_after_a_kill(
    tmp_path: Path, sweep: Callable[[str], SweepConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record is written, and the process dies before it is set aside."""

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    root, silent = tmp_path / "mlruns", f"baseline: {{sampling: {{temperature: {fakes.SILENT}}}}}"
    with monkeypatch.context() as patch:
        patch.setattr("search.study.StudyFolder.set_aside", die)
        with pytest.raises(Killed):
            run(sweep(silent), root)
    assert len(read_records(root / "a")) == 1
    with pytest.raises(BaselineUnfitError, match=r"silent or empty.*mend the model"):
        run(sweep(silent), root, lambda event: _refuse(event, TrialStarted))
    assert read_records(root / "a") == []
    assert len(list((root / "a" / "unfit").glob("0000-*/record.json"))) == 1
    # Another baseline may take its place.
    assert run(sweep("budget: {max_trials: 1}"), root).baseline.failure is None


@pytest.mark.slow
def test_what_stood_falls_with_a_gate_that_is_no_longer_armed(
    tmp_path: Path, sweep: Callable[[str], SweepConfig]
) -> None:
    root = tmp_path / "mlruns"
    further = "budget: {max_trials: 2}\nconfirm: {n: 9, pairs: 1}\narming: {enabled: true}"
    assert run(sweep(further), root).winner is not None
    path = root / "a" / ARMING
    kept = json.loads(path.read_text())
    kept["arming"] |= {"armed": False, "missed": ["It accepts noise."]}
    path.write_text(json.dumps(kept))
    result = run(sweep(further), root, lambda event: _refuse(event, TrialStarted))
    assert (result.winner, result.confirmation, result.unconfirmed) == (None, None, None)
    assert result.front == ()
    assert "It accepts noise." in result.not_confirmed
    shown, _ = load_study(root, "a")
    assert dataclasses.replace(shown, wall_s=result.wall_s) == result


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ("device: cuda:99", r"sweep\.yaml:\d+: device: "),
        ("model: nowhere.at_all:Voice", "there is no module 'nowhere.at_all'"),
        ("prompts: {path: none.tsv}", r"none\.tsv"),
        ("prompts: {path: prompts.tsv, n: 9000}", "ask for 1 to 10"),
        ("recipes: [magic]", "unknown: 'magic'"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_made(
    tmp_path: Path, sweep: Callable[[str], SweepConfig], further: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(sweep(further), tmp_path / "mlruns")
    assert not (tmp_path / "mlruns").exists()
