"""On how many utterances each voice is judged when the gate's promises are measured."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gate import operating, scorefile
from benchmarks.gate.damage import RUINS
from benchmarks.gate.promises import promises
from evaluation.scores import UtteranceScores

CONDITIONS = {"a": 1.0, "b": 1.0, "strength 0.1": 0.96, "strength 0.2": 0.88}


def pool(folder: Path, n: int, n_looping: int) -> Path:
    """Write a pool of which each hearing loops on so many utterances, never on the same."""
    drawn = random.Random(0)
    levels = [drawn.uniform(3.0, 3.6) for _ in range(n)]
    conditions = {
        name: [
            UtteranceScores(
                utterance_id=f"p{i}", duration_s=3.0, noise_floor_dbfs=-60.0,
                dnsmos_ovrl=factor * level * drawn.uniform(0.95, 1.05),
                dnsmos_p808=factor * level * drawn.uniform(0.95, 1.05),
                wer_errors=0, wer_words=10,
            )
            for i, level in enumerate(levels)
        ]
        for name, factor in CONDITIONS.items()
    }  # fmt: skip
    for i in range(n_looping):
        for name, place in (("a", i), *((other, -1 - i) for other in list(CONDITIONS)[1:])):
            looping = replace(conditions[name][place], guards=("loop: 0.99",))
            conditions[name][place] = looping
    conditions["ruined"] = [replace(s, guards=("level: silent",)) for s in conditions["b"]]
    path = folder / f"pool-{n}-{n_looping}.jsonl.gz"
    kinds = [tuple(RUINS)[i % len(RUINS)] for i in range(n)]
    scorefile.write(path, {"voice": "made", "ruins": kinds, "strengths": [0.1, 0.2]}, conditions)
    return path


@pytest.mark.parametrize(("n", "n_looping"), [(148, 0), (148, 2), (600, 6), (600, 30)])
def test_a_voice_is_judged_on_what_it_needs_and_the_pool_holds(
    tmp_path: Path, n: int, n_looping: int
) -> None:
    path = pool(tmp_path, n, n_looping)
    found = operating.planned(operating._pool(path))
    assert (found.n_pairs, found.n_alone) == (n, 2 * n_looping)
    full = operating._full_n(path)
    if not n_looping:
        assert (found.n, full) == (114, 128)
    elif n == 600 and n_looping == 6:
        assert full == found.n
        assert 400 < full < 600
    else:
        assert found.n is not None
        assert found.n > n == full


def test_what_is_ruined_is_judged_at_128_too(tmp_path: Path) -> None:
    path = pool(tmp_path, 600, 6)
    full = operating._full_n(path)
    tasks = operating.tasks(path, 1000)
    ruined = {(task.n, task.ruins) for task in tasks if task.loss_pct is None}
    assert ruined == {
        *((n, kind) for n in (128, full) for kind in ("exactly", "by chance")),
        *((128, kind) for kind in RUINS),
    }
    losses = {task.loss_pct: task for task in tasks if task.loss_pct is not None}
    assert {task.n for task in losses.values()} == {full}
    # As much work a point as at 256 utterances, and the points without a promise a fifth of it.
    assert losses[0.0].n_draws == 256_000 // full
    assert losses[1.0].n_draws == losses[0.0].n_draws // 5
    sound = operating.tasks(pool(tmp_path, 148, 0), 1000)
    assert {task.n for task in sound} == {128}
    assert len({(task.ruins, task.loss_pct) for task in sound}) == len(sound)


def test_a_promise_says_on_how_many_utterances(tmp_path: Path) -> None:
    path = pool(tmp_path, 600, 6)
    points = [
        operating.run(task)
        for task in operating.tasks(path, 20)
        if task.ruins == "exactly" or task.loss_pct == 0
    ]
    kept = {(row["n"], row["what"]): row for row in promises(points)}
    full = operating._full_n(path)
    assert (full, "baseline against itself: rejected") in kept
    for n in (128, full):
        assert kept[n, "2 % ruined: caught"]["outcome"] == "met"
