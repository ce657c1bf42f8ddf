"""Kill -9 while a child stands still for the judge: SIGSTOP must not keep it from dying."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from search.events import Event, TrialStarted
from tests.search import toy
from tests.search.test_study import RUN, run, told
from tests.search.test_trial import working_in

# 30 utterances, so that the child is far from done at the first look, after 8; all cores are the
# child's, so that it is held while the judge looks.
SWEEP = """
study: a
model: tests.search.fakes:FakeVoice
device: cpu
prompts: {path: prompts.tsv, n: 10, seeds: 3}
space: {precision: [fp32], quantization: [none], attention: [math], compile: [none, default],
        kv_cache: [dynamic, static], temperature: [0.7]}
arming: {enabled: false}
confirm: {n: 0}
recipes: [compiled]
budget: {max_trials: 2}
measure: {threads: CORES}
""".replace("CORES", str(os.cpu_count()))
HELD = RUN.replace(
    "def say",
    """
import time
class Slow(FakeScorer):
    def _one(self, clip):
        if clip.wav_path.parents[1].name.startswith("0001-"):
            time.sleep(600)
        return super()._one(clip)

def say""",
).replace("scorer=FakeScorer()", "scorer=Slow()")


@pytest.mark.slow
def test_kill_9_while_the_child_is_held_leaves_no_process_and_loses_nothing(
    tmp_path: Path,
) -> None:
    config, root = toy.sweep(tmp_path, SWEEP), tmp_path / "mlruns"
    command = [sys.executable, "-c", HELD, str(tmp_path / "sweep.yaml"), str(root)]
    child = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("PhaseHeld 1"):
                trial = next((root / "a" / "trials").glob("0001-*"))
                child = working_in(trial)
                is_held = comes_true(partial(stands_still, child))
                n_spoken = len(list((trial / "audio").glob("*.wav")))
                process.kill()
    assert process.returncode == -signal.SIGKILL
    assert child
    assert is_held
    assert 8 <= n_spoken < 30
    assert comes_true(lambda: not states(child))
    before = {p: p.read_bytes() for p in (root / "a" / "trials").glob("*/record.json")}
    assert len(before) == 1
    started: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, TrialStarted):
            started.append(event.number)

    result = run(config, root, note)
    assert started == [1]
    assert [(r.number, r.status, len(r.utterances)) for r in result.records] == [
        (0, "completed", 30), (1, "completed", 30),
    ]  # fmt: skip
    assert {p: p.read_bytes() for p in before} == before
    assert told(root) == sorted(r.digest for r in result.records)


def comes_true(found: Callable[[], bool]) -> bool:
    """Wait for something that another process does; say whether it came."""
    deadline = time.monotonic() + 10
    while not found() and time.monotonic() < deadline:
        time.sleep(0.02)
    return found()


def stands_still(child: int) -> bool:
    return states(child).get(child) == "T"


def states(group: int) -> dict[int, str]:
    """Return what the living processes of a group do, by process: R runs, S sleeps, T is held."""
    known = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, (state, _, its_group) = (
                path.parts[2],
                path.read_text().rpartition(")")[2].split()[:3],
            )
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            known[int(pid)] = state
    return known
