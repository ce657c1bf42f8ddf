"""Traces written by hand: what is counted, and to which stretch it belongs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import record_function

from search.profiling.trace import Span, Trace, read, tidy


def event(cat: str, name: str, ts: float, dur: float, **more: object) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "tid": 1, **more}


def launch(name: str, ts: float, correlation: int) -> dict[str, Any]:
    return event("cuda_runtime", name, ts, 2, args={"correlation": correlation})


def kernel(ts: float, dur: float, correlation: int) -> dict[str, Any]:
    return event("kernel", "gemv", ts, dur, tid=7, args={"correlation": correlation})


GPU = [
    event("user_annotation", "decode_step", 100, 50),
    launch("cudaLaunchKernel", 110, 1),
    launch("cudaLaunchKernelExC", 120, 2),
    launch("cudaMemcpyAsync", 130, 3),
    # The host has gone on when these run: they belong to the step that started them.
    kernel(160, 8, 1),
    kernel(170, 12, 2),
    event("gpu_memcpy", "Memcpy DtoH", 185, 5, tid=7, args={"correlation": 3}),
    event("user_annotation", "decode_step", 200, 50),
    launch("cudaGraphLaunch", 210, 4),
    *(kernel(220 + i, 1, 4) for i in range(10)),
    launch("cudaLaunchKernel", 400, 5),
    kernel(410, 100, 5),
    event("gpu_user_annotation", "decode_step", 160, 30, tid=7),
    {"ph": "M", "name": "process_name"},
]


def test_kernels_belong_to_what_launched_them() -> None:
    trace = Trace(GPU)
    steps = trace.spans("decode_step")
    assert [span.seconds for span in steps] == pytest.approx([50e-6, 50e-6])
    assert trace.has_gpu
    assert sum(trace.kernels(steps[:1])) == pytest.approx(20e-6)
    assert len(trace.kernels(steps)) == 12
    assert sum(trace.kernels(steps)) == pytest.approx(30e-6)


def test_a_graph_is_one_launch_and_a_copy_is_none() -> None:
    trace = Trace(GPU)
    steps = trace.spans("decode_step")
    assert (trace.launches(steps[:1]), trace.launches(steps[1:])) == (2, 1)
    assert trace.copies_s() == pytest.approx(5e-6)


CPU = [
    event("user_annotation", "decode_step", 0, 100),
    event("cpu_op", "aten::linear", 10, 30),
    event("cpu_op", "aten::matmul", 12, 26),
    event("cpu_op", "aten::mm", 14, 20),
    event("cpu_op", "aten::add", 50, 5),
    event("cpu_op", "Torch-Compiled Region: 0/0", 60, 20),
    event("cpu_op", "aten::addmm", 62, 10),
    event("cpu_op", "aten::add", 200, 5),
    event("cpu_op", "aten::add", 52, 2, tid=2),
]


def test_operators_that_others_call_count_with_these() -> None:
    trace = Trace(CPU)
    steps = trace.spans("decode_step")
    # linear, add, the compiled region, and another thread's add.
    assert trace.operators(steps) == 4
    assert not trace.has_gpu
    assert trace.kernels(steps) == []


def test_products_count_once_wherever_they_are_called() -> None:
    trace = Trace(CPU)
    assert trace.products_s(trace.spans("decode_step")) == pytest.approx(40e-6)


def test_nothing_belongs_to_no_stretch() -> None:
    trace = Trace(CPU)
    assert trace.operators([]) == 0
    assert trace.products_s([Span(start=1000, end=2000)]) == 0
    assert trace.spans("vocoder") == []


def test_a_real_trace_is_read_and_names_no_place(tmp_path: Path) -> None:
    x = torch.ones(32, 32)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        for _ in range(3):
            with record_function("decode_step"):
                torch.nn.functional.linear(x, x).relu()
    path = tmp_path / "trace.json"
    profiler.export_chrome_trace(str(path))
    tidy(path)
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8"))["traceName"] == "trace.json"
    trace = read(path)
    steps = trace.spans("decode_step")
    assert len(steps) == 3
    assert trace.operators(steps) == 6
    assert 0 < trace.products_s(steps) <= sum(span.seconds for span in steps)
