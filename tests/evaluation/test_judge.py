"""The judge with real child processes that really die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from evaluation.errors import JudgeError
from evaluation.judge import Judge
from evaluation.scores import Clip
from tests.evaluation.sounds import RATE, voice, write

DEADLY = "tests.evaluation.deadly_metrics:Deadly"
HARMLESS = "tests.evaluation.deadly_metrics:Harmless"
HUNGRY = "tests.evaluation.deadly_metrics:Hungry"
UNGUARDED_PESQ = "tests.evaluation.deadly_metrics:UnguardedPesq"
UNGUARDED_DNSMOS = "tests.evaluation.deadly_metrics:UnguardedDnsmos"


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("judge") / "voice.wav", voice(0.5))


def clips(wav: Path, *wishes: str) -> list[Clip]:
    return [
        Clip(utterance_id=f"u{i}", wav_path=wav, reference=wish) for i, wish in enumerate(wishes)
    ]


def rendered(name: str, wav: Path) -> Clip:
    """Return a clip whose two renderings are itself."""
    return Clip(
        utterance_id=name, wav_path=wav, reference="fine", render_path=wav, baseline_render_path=wav
    )


@pytest.fixture
def judge() -> Iterator[Judge]:
    with Judge("none", 1, 20.0, metrics=(DEADLY, HARMLESS)) as running:
        yield running


def is_alive(pid: float) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ("refuse", "no, thank you"),
        ("raise", "ZeroDivisionError: oops"),
        ("memory", "MemoryError: "),
        ("nan", "pid is nan: not finite"),
        ("words", "pid is 'seven': expected a number"),
        ("abort", "its process was ended by SIGABRT: Fatal Python error: Aborted"),
        ("kill", "its process was ended by SIGKILL (out of memory?)"),
        ("segfault", "its process was ended by SIGSEGV: Fatal Python error: Segmentation fault"),
        ("exit", "its process ended with code 7"),
    ],
)
def test_a_metric_that_fails_or_dies_is_recorded_and_survived(
    judge: Judge, wav: Path, wish: str, reason: str
) -> None:
    found = judge.score(clips(wav, "fine", wish, "fine"))
    assert [item.utterance_id for item in found] == ["u0", "u1", "u2"]
    assert found[1].failures == {DEADLY: reason}
    assert "pid" not in found[1].extra
    assert all(item.extra["harmless"] == 1.0 for item in found)
    assert found[0].failures == found[2].failures == {}
    assert found[1].duration_s == 0.5


@pytest.mark.parametrize("wish", ["hang", "hang with the lock"])
def test_a_metric_that_hangs_is_ended_at_its_deadline(wav: Path, wish: str) -> None:
    with Judge("none", 1, 1.0, metrics=(DEADLY, HARMLESS)) as judge:
        found = judge.score(clips(wav, wish, "fine"))
    assert found[0].failures == {DEADLY: "it did not end within its deadline of 1 s"}
    assert found[0].extra == {"harmless": 1.0}
    assert found[1].failures == {}


def test_a_metric_that_always_dies_is_given_up(judge: Judge, wav: Path) -> None:
    found = judge.score(clips(wav, *["abort"] * 6))
    reasons = [item.failures[DEADLY] for item in found]
    assert [reason.startswith("its process was ended") for reason in reasons] == [True] * 3 + (
        [False] * 3
    )
    assert reasons[-1] == "not tried: it ended its process 3 times"
    assert all(item.extra == {"harmless": 1.0} for item in found)


@pytest.mark.slow
def test_a_metric_that_eats_memory_without_end_dies_alone(judge: Judge, wav: Path) -> None:
    found = judge.score(clips(wav, "fine", "hoard", "fine", "leak in c", "fine"))
    assert found[1].failures == {DEADLY: "MemoryError: "}
    assert "SIGSEGV: Fatal Python error: Segmentation fault" in found[3].failures[DEADLY]
    assert [found[i].failures for i in (0, 2, 4)] == [{}, {}, {}]
    assert all(item.extra["harmless"] == 1.0 for item in found)
    assert judge.leaks == {DEADLY: 1}  # the hoard was still held


@pytest.mark.slow
def test_a_leak_is_never_the_next_metrics_failure(wav: Path) -> None:
    """Each call keeps 1.75 GiB: three would pass the bound, and another metric would pay."""
    with Judge("none", 1, 20.0, metrics=(DEADLY, HARMLESS, HUNGRY)) as judge:
        found = judge.score(clips(wav, *["leak"] * 3))
    assert [item.failures for item in found] == [{}] * 3
    assert all(item.extra["hungry"] == 2.0**31 for item in found)
    assert all(item.extra["harmless"] == 1.0 for item in found)
    assert judge.leaks == {DEADLY: 3}
    assert len({item.extra["pid"] for item in found}) == 3


def test_a_leak_in_the_last_metric_finishes_its_clip(wav: Path) -> None:
    with Judge("none", 1, 20.0, metrics=(HARMLESS, DEADLY)) as judge:
        found = judge.score(clips(wav, "leak", "fine"))
    assert [item.failures for item in found] == [{}, {}]
    assert judge.leaks == {DEADLY: 1}


def test_a_death_after_the_last_metric_takes_nothing_along(judge: Judge, wav: Path) -> None:
    found = judge.score(clips(wav, "fine", *["die afterwards"] * 4, "fine"))
    assert [item.failures for item in found] == [{}] * 6
    assert all(item.extra["harmless"] == 1.0 for item in found)
    assert len({item.extra["pid"] for item in found}) == 5


@pytest.mark.slow
def test_pesq_on_a_minute_of_many_utterances_ends_its_child_alone(
    wav: Path, tmp_path: Path
) -> None:
    """The library has room for 50 utterances; ours is never given more than 30 s of them."""
    bursts = [np.concatenate([voice(0.5, i), np.zeros(RATE // 2, np.float32)]) for i in range(60)]
    long = write(tmp_path / "long.wav", np.concatenate(bursts))
    with Judge("none", 1, 20.0, metrics=(UNGUARDED_PESQ, "pesq", HARMLESS)) as judge:
        found = judge.score([*clips(wav, "fine"), rendered("long", long), rendered("u2", wav)])
    assert "ended by SIGSEGV" in found[1].failures[UNGUARDED_PESQ]
    assert found[1].failures["pesq"] == "PESQ takes 0.25 to 30 s, the rendering has 60.00 s"
    assert found[1].extra == {"harmless": 1.0}
    assert [found[0].failures, found[2].failures] == [{}, {}]
    assert found[2].pesq_wb == pytest.approx(4.64, abs=0.01)
    assert found[2].extra["unguarded_pesq"] == pytest.approx(4.64, abs=0.01)


@pytest.mark.slow
def test_dnsmos_on_an_empty_clip_is_ended_alone(wav: Path, tmp_path: Path) -> None:
    """speechmos doubles it for ever; ours refuses it."""
    empty = clips(write(tmp_path / "empty.wav", np.zeros(0, np.float32)), "fine")
    with Judge("none", 1, 2.0, metrics=(UNGUARDED_DNSMOS, HARMLESS)) as judge:
        found = judge.score([*empty, *clips(wav, "fine")])
    reason = "it did not end within its deadline of 2 s"
    assert [item.failures for item in found] == [{UNGUARDED_DNSMOS: reason}, {}]
    assert [item.extra for item in found] == [{"harmless": 1.0}] * 2


def test_children_are_kept_between_calls_and_ended_at_the_close(wav: Path) -> None:
    with Judge("none", 2, 20.0, metrics=(DEADLY,)) as judge:
        told: list[tuple[int, int]] = []
        first = judge.score(clips(wav, *["fine"] * 6), on_progress=lambda *at: told.append(at))
        second = judge.score(clips(wav, *["fine"] * 6))
        pids = {item.extra["pid"] for item in [*first, *second]}
        assert 1 <= len(pids) <= 2
        assert all(map(is_alive, pids))
    assert not any(map(is_alive, pids))
    assert told[-1] == (6, 6)
    assert told == sorted(told)
    with pytest.raises(JudgeError, match="closed"):
        judge.score(clips(wav, "fine"))


def test_a_child_that_dies_while_idle_is_replaced(judge: Judge, wav: Path) -> None:
    pid = int(judge.score(clips(wav, "fine"))[0].extra["pid"])
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    found = judge.score(clips(wav, "fine", "fine"))
    assert [item.failures for item in found] == [{}, {}]
    assert found[0].extra["pid"] != pid


def test_children_see_no_gpu_and_print_nowhere(
    judge: Judge, wav: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = judge.score(clips(wav, "print"))
    assert found[0].extra["cuda"] == 0.0
    assert capfd.readouterr() == ("", "")


def test_an_interrupted_call_leaves_nothing_behind(judge: Judge, wav: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge.score(clips(wav, "fine", "fine", "fine"), on_progress=stop)
    found = judge.score(clips(wav, "fine", "refuse"))
    assert [item.failures for item in found] == [{}, {DEADLY: "no, thank you"}]


def test_ctrl_c_is_left_to_the_parent(judge: Judge, wav: Path) -> None:
    pid = int(judge.score(clips(wav, "fine"))[0].extra["pid"])
    os.kill(pid, signal.SIGINT)
    assert judge.score(clips(wav, "fine"))[0].extra["pid"] == pid


def test_files_that_cannot_be_judged_fail_by_name(judge: Judge, wav: Path, tmp_path: Path) -> None:
    bad = {
        "missing": tmp_path / "nowhere.wav",
        "rate": write(tmp_path / "fast.wav", voice(0.5), rate=24_000),
        "stereo": write(tmp_path / "stereo.wav", [[0.1, 0.1]] * 8000),
        "text": tmp_path / "text.wav",
    }
    bad["text"].write_text("not audio")
    inputs = [Clip(utterance_id=k, wav_path=p, reference="fine") for k, p in bad.items()]
    found = {item.utterance_id: item for item in judge.score([*inputs, *clips(wav, "fine")])}
    for name, words in [
        ("missing", "cannot be read"),
        ("rate", "is 24000 Hz; resample it to 16000"),
        ("stereo", "has 2 channels"),
        ("text", "cannot be read"),
    ]:
        assert set(found[name].failures) == {"audio"}
        assert str(bad[name]) in found[name].failures["audio"]
        assert words in found[name].failures["audio"]
        assert found[name].duration_s is None
    assert found["u0"].failures == {}


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("tests.evaluation.deadly_metrics:Broken", "does not load: OSError"),
        ("tests.evaluation.deadly_metrics:Stillborn", "did not start.*code 3: a last word"),
        ("tests.evaluation.deadly_metrics:NoMetric", "lacks __call__"),
        ("mos", "there is no metric 'mos'; known are dnsmos, guards"),
    ],
)
def test_a_metric_that_does_not_load_is_an_error_and_never_left_out(
    wav: Path, metric: str, message: str
) -> None:
    with (
        Judge("none", 1, 20.0, metrics=(metric,)) as judge,
        pytest.raises(JudgeError, match=message),
    ):
        judge.score(clips(wav, "fine"))


def test_some_of_the_metrics_alone(judge: Judge, wav: Path) -> None:
    (scores,) = judge.score(clips(wav, "raise"), metrics=(HARMLESS,))
    assert scores.failures == {}
    assert scores.extra == {"harmless": 1.0}
    with pytest.raises(ValueError, match="this judge has no metric 'wer'"):
        judge.score(clips(wav, "fine"), metrics=("wer",))


def test_no_clips_need_no_children() -> None:
    with Judge("none", 1, 20.0, metrics=("mos",)) as judge:
        assert judge.score([]) == []


def test_provenance_comes_from_the_children(judge: Judge) -> None:
    said = {"deadly": "1", "asr": "none", "metrics": f"{DEADLY},{HARMLESS}"}
    assert said.items() <= judge.provenance().items()


@pytest.mark.parametrize(("workers", "timeout_s"), [(-1, 1.0), (1, 0.0)])
def test_a_judge_that_cannot_work_is_refused(workers: int, timeout_s: float) -> None:
    with pytest.raises(ValueError, match="no judge"):
        Judge("none", workers, timeout_s)


PARENT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from evaluation.judge import Judge
from evaluation.scores import Clip
judge = Judge("none", 1, 60.0, metrics=({metric!r},))
clip = lambda wish: Clip(utterance_id="u", wav_path=Path({wav!r}), reference=wish)
print(int(judge.score([clip("fine")])[0].extra["pid"]), flush=True)
judge.score([clip("hang")])
"""


def test_children_end_with_a_parent_that_was_killed(wav: Path) -> None:
    """Also from a program without a main guard, which multiprocessing would run twice."""
    root = str(Path(__file__).parents[2])
    code = PARENT.format(root=root, metric=DEADLY, wav=str(wav))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    limit = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not is_alive(pid)
