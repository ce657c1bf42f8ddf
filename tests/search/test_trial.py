"""Trials that go wrong, each in a real child process that does it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from evaluation.gate import GateConfig
from evaluation.scores import Clip, UtteranceScores
from search.errors import InfrastructureError
from search.job import Job
from search.judging import Brief
from search.process import Standby
from search.record import Failure
from search.reference import Reference
from search.scoring import Scoring
from search.trial import BudgetOverError, Outcome, Trial, is_transient
from tests.search import fakes
from tts.options import Options, Sampling
from tts.types import Utterance

PHASES = ("load", "compile", "fidelity", "measure", "render", "synthesize")
DEADLINES = dict.fromkeys(PHASES, 50.0)
SIXTY = tuple(Utterance(id=f"p{i}", text="la", seed=i) for i in range(60))
UTTERANCES = SIXTY[:9]


@pytest.fixture
def scoring() -> Iterator[Scoring]:
    with Scoring(fakes.FakeScorer()) as scoring:
        yield scoring


def run(
    folder: Path,
    scoring: Scoring,
    temperature: float = fakes.FINE,
    *,
    deadlines: dict[str, float] | None = None,
    reference: Reference | None = None,
    should_stop: Callable[[], str] = lambda: "",
    utterances: tuple[Utterance, ...] = UTTERANCES,
    batch_size: int = 1,
    warm: bool = False,
    surpassed: Callable[[Mapping[str, float]], str] | None = None,
    overlap: bool = True,
    on_hold: Callable[[bool], None] = lambda held: None,
) -> Outcome:
    options = Options(batch_size=batch_size, sampling=Sampling(temperature=temperature))
    job = Job(
        folder=str(folder), model="tests.search.fakes:FakeVoice", device="cpu",
        options=options.to_mapping(), repeats=5, warmup=1, texts=("la",), measure_ttfa=True,
        utterances=tuple(asdict(u) for u in utterances), n_render_own=2,
    )  # fmt: skip
    brief = Brief(
        folder=folder, references={u.id: "la" for u in utterances}, gate=GateConfig(),
        reference=reference, surpassed=surpassed, overlap=overlap, on_hold=on_hold,
    )  # fmt: skip
    limits = {**DEADLINES, **(deadlines or {})}
    with Standby(folder / "standby.log", {}) as standby:
        if warm:
            standby.prepare()
        return Trial(job, brief, limits, scoring, standby, lambda phase: None, should_stop).run()


def test_a_trial_that_works(tmp_path: Path, scoring: Scoring) -> None:
    outcome = run(tmp_path, scoring, batch_size=4)
    got = outcome.collected
    assert (outcome.status, outcome.failure, outcome.attempts) == ("completed", None, 1)
    assert [s.utterance_id for s in outcome.scores] == [u.id for u in UTTERANCES]
    assert set(got.phases) == {*PHASES, "judge"}
    assert len(got.measurements["latency_s"]["samples"]) == 5
    assert got.metrics["latency_p50_s"] <= got.metrics["latency_p95_s"]
    # Five batches of four, half a second of audio each.
    assert got.metrics["measured_audio_s"] == pytest.approx(10.0)
    assert got.metrics["throughput_audio_s_per_s"] * got.metrics["rtf"] == pytest.approx(1.0)
    assert got.observed == {"kernel": "none"}
    assert len(list((tmp_path / "audio").glob("*.wav"))) == 9
    assert len(list((tmp_path / "render").glob("*.wav"))) == 2


def test_a_process_that_stood_by_runs_a_trial_like_any_other(
    tmp_path: Path, scoring: Scoring
) -> None:
    outcome = run(tmp_path, scoring, warm=True)
    assert (outcome.status, outcome.attempts) == ("completed", 1)
    again = run(tmp_path, scoring, fakes.ABORT, warm=True)
    assert again.failure is not None
    assert "Fatal Python error: Aborted" in again.failure.message


@pytest.mark.parametrize(
    ("fault", "phase", "kind", "message"),
    [
        (fakes.REFUSED, "load", "refused", "temperature=0.11: this voice is too shy"),
        (fakes.OUT_OF_MEMORY, "compile", "oom", "80.00 GiB"),
        (fakes.LIMITED, "load", "oom", "can't allocate memory"),
        (fakes.RAISE, "compile", "error", "ValueError: the tone is flat"),
        (fakes.SILENT, "judge", "silence", "all 9 judged utterances are silent"),
    ],
)
def test_what_fails_every_time_is_not_run_again(
    tmp_path: Path, scoring: Scoring, fault: float, phase: str, kind: str, message: str
) -> None:
    outcome = run(tmp_path, scoring, fault)
    assert outcome.failure is not None
    assert (outcome.failure.phase, outcome.failure.kind) == (phase, kind)
    assert message in outcome.failure.message
    assert (outcome.status, outcome.attempts) == ("infeasible", 1)


def test_the_same_crash_twice_is_no_accident(tmp_path: Path, scoring: Scoring) -> None:
    outcome = run(tmp_path, scoring, fakes.ABORT)
    assert outcome.failure is not None
    assert (outcome.failure.phase, outcome.failure.kind) == ("compile", "crash")
    assert outcome.failure.message.startswith("died of SIGABRT\n")
    assert "Fatal Python error: Aborted" in outcome.failure.message
    assert (outcome.status, outcome.attempts) == ("infeasible", 2)


def test_what_passes_the_second_time_is_a_trial_like_any_other(
    tmp_path: Path, scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOSGATE_TEST_FLAG", str(tmp_path / "flag"))
    outcome = run(tmp_path, scoring, fakes.ONCE)
    assert (outcome.status, outcome.failure, outcome.attempts) == ("completed", None, 2)


@pytest.mark.parametrize("fault", [fakes.HANG, fakes.HANG_AND_IGNORE])
def test_a_hang_ends_at_the_phases_deadline(tmp_path: Path, scoring: Scoring, fault: float) -> None:
    outcome = run(tmp_path, scoring, fault, deadlines={"compile": 0.5})
    assert outcome.failure == Failure(
        phase="compile", kind="timeout",
        message="still in phase compile after its deadline of 0.5 s",
    )  # fmt: skip
    assert (outcome.status, outcome.attempts) == ("infeasible", 1)


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A baseline heard on sixty utterances, for all that are held to it."""
    with Scoring(fakes.FakeScorer()) as scoring:
        return Reference(
            scores=run(tmp_path_factory.mktemp("baseline"), scoring, utterances=SIXTY).scores
        )


def test_a_hopeless_candidate_is_stopped_early(
    tmp_path: Path, scoring: Scoring, sixty: Reference
) -> None:
    poor = run(tmp_path, scoring, fakes.POOR, utterances=SIXTY, reference=sixty)
    assert poor.status == "completed"
    assert poor.verdict is not None
    assert poor.verdict.status == "FAIL"
    assert poor.verdict.n == len(poor.scores) == 8
    judged = poor.collected.judged
    assert judged["planned"] == [8, 16, 32, 60]
    assert judged["looks"] == [{"n": 8, "status": "FAIL"}]
    assert 8 <= judged["n_spoken"] < 60
    assert poor.collected.phases["synthesize"] > 0


class SlowScorer(fakes.FakeScorer):
    """Counts the utterances that are on disk when it begins and when it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[tuple[int, int]] = []

    def score(
        self, clips: Sequence[Clip], *, on_progress: Callable[[int, int], None] | None = None
    ) -> list[UtteranceScores]:
        audio = clips[0].wav_path.parent
        before = len(list(audio.glob("*.wav")))
        time.sleep(1.0)
        self.counts.append((before, len(list(audio.glob("*.wav")))))
        return super().score(clips, on_progress=on_progress)


def test_without_cores_to_spare_the_child_stands_still_while_the_judge_looks(
    tmp_path: Path, sixty: Reference
) -> None:
    scorer, holds = SlowScorer(), list[bool]()
    with Scoring(scorer) as scoring:
        same = run(
            tmp_path, scoring, utterances=SIXTY[:30], reference=Reference(scores=sixty.scores[:30]),
            overlap=False, deadlines={"synthesize": 20.0}, on_hold=holds.append,
        )  # fmt: skip
    assert holds == [True, False] * 2
    assert same.verdict is not None
    assert same.verdict.status == "PASS"
    assert [look["n"] for look in same.collected.judged["looks"]] == [8, 16, 30]
    # The child has 50 ms to go on before it is held; free, it would end within the second.
    assert all(spoken < n + 8 and spoken < 30 for n, spoken in scorer.counts[:2])
    assert same.collected.phases["judge"] > 2.0


@pytest.mark.parametrize("temperature", [fakes.FINE, fakes.MUTINOUS, fakes.FULL_DISK])
def test_a_candidate_that_cannot_win_is_not_heard(
    tmp_path: Path, scoring: Scoring, sixty: Reference, temperature: float
) -> None:
    """It is stopped when it is timed; how its process ends in the meantime does not matter."""
    asked: list[Mapping[str, float]] = []

    def surpassed(metrics: Mapping[str, float]) -> str:
        asked.append(metrics)
        time.sleep(0.2)  # so that the child has gone on, or has died
        return "trial 2 is as quick"

    slow = run(
        tmp_path, scoring, temperature, utterances=SIXTY, reference=sixty, surpassed=surpassed
    )
    got = slow.collected
    assert (slow.status, slow.failure, slow.attempts) == ("completed", None, 1)
    assert (slow.scores, slow.verdict) == ((), None)
    assert got.judged == {
        "planned": [8, 16, 32, 60], "looks": [], "n_spoken": 0, "surpassed": "trial 2 is as quick",
    }  # fmt: skip
    assert set(got.phases) == {"load", "compile", "measure"}
    assert len(asked) == 1
    assert "latency_p50_s" in asked[0]
    assert len(got.measurements["latency_s"]["samples"]) == 5
    assert got.observed == {"kernel": "none"}
    assert (got.clips, got.renders) == ({}, {})


def test_a_candidate_that_may_win_fails_where_it_dies(
    tmp_path: Path, scoring: Scoring, sixty: Reference
) -> None:
    died = run(
        tmp_path, scoring, fakes.MUTINOUS, utterances=SIXTY, reference=sixty,
        surpassed=lambda metrics: "",
    )  # fmt: skip
    assert died.failure is not None
    assert (died.failure.phase, died.failure.kind) == ("synthesize", "crash")
    assert "surpassed" not in died.collected.judged


def test_time_that_is_over_when_all_is_known_costs_no_trial(
    tmp_path: Path, scoring: Scoring, sixty: Reference
) -> None:
    over: list[str] = []

    def surpassed(metrics: Mapping[str, float]) -> str:
        over.append("the study's time is over")
        return "trial 2 is as quick"

    slow = run(
        tmp_path, scoring, utterances=SIXTY, reference=sixty, surpassed=surpassed,
        should_stop=lambda: over[0] if over else "",
    )  # fmt: skip
    assert slow.status == "completed"
    assert slow.collected.judged["surpassed"] == "trial 2 is as quick"


def test_a_trial_without_time_leaves_no_outcome(tmp_path: Path, scoring: Scoring) -> None:
    with pytest.raises(BudgetOverError):
        run(tmp_path, scoring, fakes.HANG, should_stop=lambda: "the study's time is over")


def test_a_full_disk_stops_the_sweep_and_not_the_trial(tmp_path: Path, scoring: Scoring) -> None:
    with pytest.raises(InfrastructureError, match=r"cannot write .*wav.*free some space"):
        run(tmp_path, scoring, fakes.FULL_DISK)


def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed with -9 while the child hangs in a phase."""
    job = Job(
        folder=str(tmp_path), model="tests.search.fakes:FakeVoice", device="cpu",
        options=Options(sampling=Sampling(temperature=fakes.HANG)).to_mapping(), repeats=5,
        warmup=1, texts=("la",), measure_ttfa=False,
    )  # fmt: skip
    (tmp_path / "job.json").write_text(job.to_json())
    code = (
        "import pathlib, sys, time; from search.process import Child\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "child = Child(folder / 'start.log')\n"
        "child.begin(folder / 'job.json')\n"
        "while not any(m.get('phase') == 'compile' for m in child.messages(1.0)[0]): pass\n"
        "print(child.process.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()
    deadline = time.monotonic() + 10
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_child_killed_from_outside_is_told_as_out_of_memory(
    tmp_path: Path, scoring: Scoring
) -> None:
    outcome = run(tmp_path, scoring, fakes.KILLED)
    assert outcome.failure is not None
    assert outcome.failure.kind == "oom"
    assert "SIGKILL" in outcome.failure.message


def working_in(folder: Path) -> int:
    """Return the process whose output goes to a trial folder's log, or 0."""
    for path in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            if path.readlink() == folder.resolve() / "worker.log":
                return int(path.parts[2])
        except OSError:
            continue
    return 0


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("refused", "x", False),
        ("oom", "CUDA error: unspecified launch failure", False),
        ("timeout", "x", False),
        ("error", "ValueError: x", False),
        ("error", "RuntimeError: CUDA error: unspecified launch failure", True),
        ("crash", "died of SIGSEGV", True),
    ],
)
def test_which_failures_may_pass(kind: str, message: str, expected: bool) -> None:
    failure = Failure(phase="load", kind=kind, message=message)  # type: ignore[arg-type]
    assert is_transient(failure) is expected
