"""What only a GPU can tell a profile: launches, kernels, copies, NVML, the allocator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.profiling.measure import take
from search.profiling.record import Profile
from search.profiling.subject import Plan
from tts.options import Options

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
EAGER = Options(precision="bf16")
GRAPH = Options(precision="bf16", kv_cache="static", compile="cuda-graph")


def profiled(options: Options, folder: Path) -> Profile:
    plan = Plan(
        model="embedded", options=options, device="cuda", texts=("The train is late.",),
        repeats=2, batch_sizes=(1, 4), seconds=1000.0,
    )  # fmt: skip
    return take(plan, folder, lambda said: None)


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return profiled(EAGER, tmp_path_factory.mktemp("eager"))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return profiled(GRAPH, tmp_path_factory.mktemp("graph"))


@pytest.mark.parametrize("name", ["eager", "graph"])
def test_all_figures_of_a_gpu_are_known(name: str, request: pytest.FixtureRequest) -> None:
    profile: Profile = request.getfixturevalue(name)
    missing = {k: f.unknown for k, f in profile.figures.items() if f.value is None}
    nvml = {"gpu.utilization", "gpu.power", "gpu.sm_clock"}
    assert set(missing) <= {"step.products", "latency.p95", *nvml}
    assert 0 < (profile.value("step.gpu_busy") or 0) < 1.2
    assert 0 < (profile.value("step.roofline") or 0) < 1.2
    assert profile.value("memory.weights_allocated")
    parts = {part.name: part.share.value for part in profile.parts}
    assert None not in parts.values()
    assert 0 < (parts["copies"] or 0) < 0.5
    assert 0 < (parts["sampling"] or 0) < 1
    assert [row.batch_size for row in profile.batches if row.latency.value] == [1, 4]
    json.loads(profile.to_json())


def test_a_graph_is_one_launch_of_as_many_kernels(eager: Profile, graph: Profile) -> None:
    launches, kernels = (eager.value(f"step.{name}") or 0 for name in ("launches", "kernels"))
    assert launches > 100
    assert kernels >= launches * 0.9
    assert (graph.value("step.launches") or 0) <= 4
    assert (graph.value("step.kernels") or 0) > 50
    assert (graph.value("step.gpu_busy") or 0) > (eager.value("step.gpu_busy") or 0)


def test_an_eager_step_waits_for_the_host(eager: Profile) -> None:
    advice = " ".join(item for found in eager.bottlenecks for item in found.advice)
    assert "compile=reduce-overhead with kv_cache=static" in advice
