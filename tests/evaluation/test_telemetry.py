from __future__ import annotations

import threading

import pytest

from evaluation import telemetry
from evaluation.telemetry import Telemetry


class Reader:
    """A GPU that exists only here."""

    def __init__(self, frames: list[dict[str, float]], foreign: int | None = 0) -> None:
        self.frames, self.foreign = list(frames), foreign
        self.is_drained, self.is_closed = threading.Event(), False

    def read(self) -> dict[str, float]:
        frame = self.frames.pop(0) if self.frames else {}
        if not self.frames:
            self.is_drained.set()
        return frame

    def foreign_processes(self) -> int | None:
        return self.foreign

    def close(self) -> None:
        self.is_closed = True


def watch(reader: Reader) -> dict[str, float]:
    with Telemetry("cuda", period_s=0.001, reader=lambda _: reader) as running:
        assert reader.is_drained.wait(5)
    return running.result()


def test_means_the_peak_of_memory_and_energy() -> None:
    frames = [
        {"gpu_utilization_pct": 50.0, "gpu_power_w": 100.0, "gpu_memory_used_bytes": 3e9},
        {"gpu_utilization_pct": 100.0, "gpu_power_w": 300.0, "gpu_memory_used_bytes": 2e9},
    ]
    reader = Reader(frames, foreign=2)
    found = watch(reader)
    assert found["gpu_utilization_pct"] == 75.0
    assert found["gpu_power_w"] == 200.0
    assert found["gpu_memory_used_bytes"] == 3e9
    assert found["gpu_foreign_processes"] == 2.0
    assert found["gpu_energy_j"] > 0
    assert reader.is_closed


def test_what_a_gpu_does_not_give_is_absent_and_not_zero() -> None:
    found = watch(Reader([{"gpu_utilization_pct": 10.0}], foreign=None))
    assert set(found) == {"gpu_utilization_pct", "peak_rss_bytes"}


def test_on_a_cpu_only_the_host_memory_is_there() -> None:
    with Telemetry("cpu") as running:
        pass
    assert set(running.result()) == {"peak_rss_bytes"}
    assert running.result()["peak_rss_bytes"] > 1e6
    assert running.absent == "device cpu is not a GPU"


def test_without_nvml_the_reason_is_kept() -> None:
    def missing(device: int | str) -> Reader:
        raise RuntimeError("NVML: no driver")

    with Telemetry("cuda:0", reader=missing) as running:
        pass
    assert running.absent == "NVML: no driver"
    assert set(running.result()) == {"peak_rss_bytes"}


@pytest.mark.parametrize(
    ("visible", "device", "physical"),
    [(None, 1, 1), ("3,1", 0, 3), ("3,1", 1, 1), ("GPU-ab", 0, "GPU-ab"), ("0", "GPU-x", "GPU-x")],
)
def test_cuda_numbers_are_turned_into_nvml_numbers(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, device: int | str, physical: int | str
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert telemetry._physical(device) == physical


def test_a_gpu_that_is_not_visible_is_an_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RuntimeError, match="not among the visible"):
        telemetry._physical(0)
