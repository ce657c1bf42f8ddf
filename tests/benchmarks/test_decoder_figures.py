"""The machinery behind the decoder's figures: what they divide, bound, draw and leave out."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.decoder import cold_start, growth_plot, streaming, voice
from benchmarks.decoder.growth import roofline
from benchmarks.decoder.growth_plot import plot, series
from benchmarks.decoder.timing import Report, attempt, interleave, ratios, summary
from benchmarks.decoder.voice_ways import (
    AXES,
    BASELINE,
    combination,
    continuous,
    single_changes,
    unguided,
    ways,
)
from benchmarks.decoder.ways import N_SPEECH, T3, TINY, Step, Way, model, random_cache
from tts.device import DeviceCaps
from tts.options import Options
from tts.validity import choices, refusal

H200 = DeviceCaps(
    type="cuda",
    name="NVIDIA H200",
    torch_name="cuda:0",
    capability=(9, 0),
    memory_bytes=150_000_000_000,
    n_threads=1,
    cpu_flags=("avx2",),
)
CPU = DeviceCaps(
    type="cpu",
    name="CPU",
    torch_name="cpu",
    capability=None,
    memory_bytes=24_000_000_000,
    n_threads=1,
    cpu_flags=("avx2", "avx512"),
)


def test_ratios_are_of_the_same_round() -> None:
    found = ratios([10.0, 30.0, 20.0], [5.0, 5.0, 5.0])
    assert found == {"n": 3, "median": 4.0, "min": 2.0, "max": 6.0, "rounds": [2.0, 6.0, 4.0]}
    assert ratios([10.0, 30.0], [5.0]) == {
        "n": 1, "median": 2.0, "min": 2.0, "max": 2.0, "rounds": [2.0]
    }  # fmt: skip
    assert ratios([], [5.0]) is None


def test_a_summary_keeps_every_sample() -> None:
    found = summary([3.0, 1.0, 2.0])
    assert found == {
        "n": 3, "p50": 2.0, "p95": pytest.approx(2.9), "min": 1.0, "max": 3.0,
        "samples": [3.0, 1.0, 2.0],
    }  # fmt: skip


def test_ways_take_turns_and_a_broken_one_stops_nobody() -> None:
    order: list[str] = []

    def run(name: str, i: int) -> dict[str, float]:
        order.append(name)
        if name == "b" and i == 1:
            raise RuntimeError("broken")
        return {"ms": float(i)}

    samples, errors = interleave(
        {name: partial(run, name) for name in "ab"}, 3, may_begin=lambda: True
    )
    assert order == ["a", "b", "a", "b", "a"]
    assert [row["ms"] for row in samples["a"]] == [0, 1, 2]
    assert [row["ms"] for row in samples["b"]] == [0]
    assert errors == {"b": "RuntimeError: broken"}


def test_nothing_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    now = [0.0]
    report = Report(tmp_path / "a.json", 10.0, {"x": 1}, clock=lambda: now[0])

    def run(i: int) -> dict[str, float]:
        now[0] += 4.0
        return {"ms": 1.0}

    samples, _ = interleave(
        {"a": run},
        9,
        may_begin=lambda: report.left_s() > 0,
        after_round=lambda s, e: report.write(),
    )
    assert len(samples["a"]) == 3  # begun at 0, 4 and 8 s
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["x"] == 1
    assert found["seconds"] == 12.0
    assert {"commit", "gpu", "versions"} <= found.keys()


def test_an_error_is_kept_with_its_type() -> None:
    def fail() -> dict[str, Any]:
        raise ValueError("no such way")

    assert attempt(fail) == {"error": "ValueError: no such way"}


@pytest.mark.parametrize(("caps", "batch_size"), [(H200, 1), (H200, 256), (CPU, 1)])
def test_every_way_is_one_that_the_device_takes(caps: DeviceCaps, batch_size: int) -> None:
    found = ways(caps)
    assert found[BASELINE] == Options()
    for name, options in found.items():
        for changed in (options, unguided(options), continuous(options)):
            mapping = {**changed.to_mapping(), "batch_size": batch_size}
            assert refusal(Options.from_mapping(mapping), caps) is None, name


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_start_and_stream_is_one_that_the_device_takes(device: str) -> None:
    caps = H200 if device == "cuda" else CPU
    starts = {**cold_start.MODES[device], **streaming.WAYS[device]}
    for name, values in starts.items():
        assert refusal(Options(**values), caps) is None, name


def test_a_cpu_is_tried_on_every_value_it_has() -> None:
    found = single_changes(CPU).values()
    for axis in AXES:
        assert {getattr(o, axis) for o in found} == set(choices(axis, CPU)), axis


def test_the_combination_takes_the_quickest_value_of_each_axis() -> None:
    found = ways(CPU)
    pilot = dict.fromkeys(found, 1.0)
    pilot |= {"precision bf16": 0.5, "precision fp16": 0.8, "attention flash": 0.9}
    best = combination(pilot, {k: v for k, v in found.items() if k != "bf16 flash"}, CPU)
    assert best == Options(precision="bf16", attention="flash")
    assert combination(pilot, found, CPU) is None  # it is among the ways already
    assert combination(dict.fromkeys(found, 1.0), found, CPU) is None


def test_latencies_are_held_against_the_baseline_of_the_round() -> None:
    def row(latency_s: float, n_tokens: int) -> dict[str, float]:
        return {"latency_s": latency_s, "ttfa_s": 0.1, "audio_s": 3.0, "n_tokens": n_tokens}

    found = voice.latencies({
        BASELINE: [row(0.4, 80), row(0.8, 80)], "fast": [row(0.1, 40), row(0.1, 40)], "none": [],
    })  # fmt: skip
    assert "none" not in found
    fast = found["fast"]
    assert fast["times_baseline"]["rounds"] == pytest.approx([4.0, 8.0])
    assert fast["ms_per_token"]["p50"] == pytest.approx(2.5)
    assert fast["times_baseline_per_token"]["rounds"] == pytest.approx([2.0, 4.0])


def test_the_roofline_is_the_slower_of_bytes_and_operations() -> None:
    rates = {"bytes_per_s": 4e12, "flops_per_s": 8e14}
    one = roofline(T3, N_SPEECH, 1, 300, **rates)
    # 30 layers of 4 x 1024^2 + 3 x 1024 x 4096 weights and a head of 8256 x 1024, of 2 bytes;
    # keys and values of 2 rows, 16 heads of 64, 300 slots.
    n_weights = 30 * (4 * 1024**2 + 3 * 1024 * 4096)
    cache = 30 * 2 * 2 * 16 * 64 * 300 * 2
    assert one.n_bytes == 2 * (n_weights + 8256 * 1024) + cache
    assert one.flops == 2 * (2 * n_weights + 4 * 30 * 16 * 64 * 300) + 2 * 8256 * 1024
    assert one.bound == "memory"
    assert one.floor_s == pytest.approx(one.n_bytes / 4e12)
    slow = roofline(T3, N_SPEECH, 1, 300, bytes_per_s=4e12, flops_per_s=1e9)
    assert slow.bound == "arithmetic"
    assert slow.floor_s == pytest.approx(slow.flops / 1e9)


@pytest.mark.parametrize("n_steps", [2, 16, 64])
def test_steps_lie_around_the_context(n_steps: int) -> None:
    device, dtype = torch.device("cpu"), torch.float32
    cache = random_cache(TINY, 2, 100, dtype, device)
    step = Step(model(TINY, 8, dtype, device), Way(name="eager", kind="eager"), cache, 1, 50)
    at: list[int] = []

    def run(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        at.append(int(positions[0]))
        return x

    step.run = run
    step.reset(n_steps)
    for _ in range(1 + n_steps):  # as a GPU's clock wants it, the first goes untimed
        step()
    assert len(at) == 1 + n_steps
    # The step at a position sees that many slots and its own.
    assert sum(1 + position for position in at[1:]) / n_steps == 50.5


def test_steps_without_so_many_positions_before_them_are_refused() -> None:
    device, dtype = torch.device("cpu"), torch.float32
    cache = random_cache(TINY, 2, 100, dtype, device)
    step = Step(model(TINY, 8, dtype, device), Way(name="eager", kind="eager"), cache, 1, 9)
    with pytest.raises(ValueError, match="16 steps do not lie around position 9"):
        step.reset(16)


def grown(batch: int, context: int, ms: float) -> dict[str, Any]:
    row = {"ms": {"p50": ms, "min": 0.9 * ms, "max": 1.1 * ms}}
    failed = {"error": "OutOfMemoryError: no"}
    return {
        "batch": batch, "context": context, "roofline_ms": ms / 2,
        "ways": {"fused": row, "CUDA graph, SDPA": failed},
    }  # fmt: skip


def test_growth_is_drawn_from_what_was_measured(tmp_path: Path) -> None:
    points = [grown(32, 300, 2.0), grown(1, 300, 0.5), grown(1, 64, 0.4), grown(1, 1024, 0.7)]
    points.append(grown(1, 300, 9.0))  # again, beside another way: the first one counts
    at_300 = [p for p in points if p["context"] == 300]
    found = series(at_300, "fused", "batch")
    assert [(x, ms) for x, ms, _, _ in found] == [(1, 0.5), (32, 2.0)]
    assert series(points, "CUDA graph, SDPA", "batch") == []
    result = {
        "gpu": None, "cpu": "a CPU", "points": points,
        "ceilings": {"bytes_per_s": {"best": 4e12}, "flops_per_s": {"best": 8e14}},
    }  # fmt: skip
    plot(result, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_the_committed_growth_is_of_the_ways_that_are_drawn(tmp_path: Path) -> None:
    result = json.loads(Path(growth_plot.__file__).with_name("growth.json").read_text())
    plot(result, tmp_path / "growth.png")
    for point in result["points"]:
        point["ways"] = {"another": point["ways"]["fused"]}
    with pytest.raises(ValueError, match="no point has the way 'fused'"):
        plot(result, tmp_path / "growth.png")


def test_a_start_that_failed_is_told_in_its_words() -> None:
    assert cold_start.line({"error": "no time was left"}) == "no time was left"
