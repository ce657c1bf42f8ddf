"""What the machine did meanwhile: GPU by NVML, host memory by the kernel.

What cannot be read is absent from the result and never zero: a zero would be a measurement.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

_BYTES_PER_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_MILLI = 1e-3


class GpuReader(Protocol):
    """Where the figures of one GPU come from."""

    def read(self) -> dict[str, float]:
        """Return the figures that this GPU gives, under the names of ``Telemetry.result``."""
        ...

    def foreign_processes(self) -> int | None:
        """Return how many other processes compute on it; None where that is not known."""
        ...

    def close(self) -> None:
        """Let go of the library."""
        ...


class NvmlReader:
    """One NVIDIA GPU by nvidia-ml-py.

    Args:
        device: Its index as CUDA counts here, or a ``GPU-...`` UUID.

    Raises:
        RuntimeError: There is no library, no driver or no such GPU.
    """

    def __init__(self, device: int | str) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise RuntimeError("nvidia-ml-py is not installed") from error
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = _handle(pynvml, _physical(device))
        except pynvml.NVMLError as error:
            raise RuntimeError(f"NVML: {error}") from error

    def read(self) -> dict[str, float]:
        """Return utilisation, power, memory in use and SM clock, where given."""
        nvml, handle = self._nvml, self._handle
        figures: dict[str, Callable[[], float]] = {
            "gpu_utilization_pct": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "gpu_power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) * _MILLI,
            "gpu_memory_used_bytes": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            "gpu_sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        }
        found: dict[str, float] = {}
        for name, get in figures.items():
            with suppress(nvml.NVMLError):  # not supported by this GPU: absent
                found[name] = float(get())
        return found

    def foreign_processes(self) -> int | None:
        """Count the other compute processes; a container may see none of them."""
        try:
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return None
        return len([process for process in running if process.pid != os.getpid()])

    def close(self) -> None:
        """Shut the library down."""
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()


class Telemetry:
    """Sample a GPU in a thread while a block runs.

        with Telemetry("cuda") as telemetry:
            work()
        telemetry.result()

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        period_s: Between two samples.
        reader: Makes the source of the figures; another one for tests.
    """

    def __init__(
        self,
        device: str,
        *,
        period_s: float = 0.05,
        reader: Callable[[int | str], GpuReader] = NvmlReader,
    ) -> None:
        self._device = device
        self._period_s = period_s
        self._make_reader = reader
        self._samples: dict[str, list[float]] = {}
        self._foreign: int | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._reader: GpuReader | None = None
        self._began = self._ended = 0.0
        self.absent: str | None = None
        """Why there are no GPU figures; None when there are."""

    def __enter__(self) -> Telemetry:
        self._began = time.monotonic()
        kind, _, index = self._device.partition(":")
        if kind != "cuda":
            self.absent = f"device {self._device} is not a GPU"
            return self
        try:
            self._reader = self._make_reader(int(index or 0))
        except RuntimeError as error:
            self.absent = str(error)
            return self
        self._foreign = self._reader.foreign_processes()
        self._thread = threading.Thread(
            target=self._sample, args=(self._reader,), name="telemetry", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = time.monotonic()
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        if self._reader is not None:
            self._reader.close()

    def result(self) -> dict[str, float]:
        """Return what was seen; a figure that could not be read is not there.

        ``gpu_utilization_pct``, ``gpu_power_w`` and ``gpu_sm_clock_mhz`` are means over the
        block, ``gpu_memory_used_bytes`` the largest, of the whole GPU. ``gpu_energy_j`` is mean
        power times the block's length. ``gpu_foreign_processes`` counted at the start says
        whether others shared the GPU. ``peak_rss_bytes`` is this process's largest resident set
        since it began.
        """
        found = {name: sum(values) / len(values) for name, values in self._samples.items()}
        if "gpu_memory_used_bytes" in found:
            found["gpu_memory_used_bytes"] = max(self._samples["gpu_memory_used_bytes"])
        if "gpu_power_w" in found:
            found["gpu_energy_j"] = found["gpu_power_w"] * (self._ended - self._began)
        if self._foreign is not None:
            found["gpu_foreign_processes"] = float(self._foreign)
        return {**found, "peak_rss_bytes": peak_rss_bytes()}

    def _sample(self, reader: GpuReader) -> None:
        """Read until told to stop; once at least, however short the block."""
        while True:
            for name, value in reader.read().items():
                self._samples.setdefault(name, []).append(value)
            if self._stop.wait(self._period_s):
                return


def peak_rss_bytes() -> float:
    """Return the largest resident set of this process so far."""
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES_PER_RSS_UNIT)


def _physical(device: int | str) -> int | str:
    """Return NVML's name of a CUDA device: CUDA_VISIBLE_DEVICES renumbers, NVML does not."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or isinstance(device, str):
        return device
    names = [name.strip() for name in visible.split(",") if name.strip()]
    if device >= len(names):
        raise RuntimeError(f"CUDA device {device} is not among the visible {visible!r}")
    return int(names[device]) if names[device].isdigit() else names[device]


def _handle(nvml: Any, device: int | str) -> Any:  # noqa: ANN401 - pynvml ships no types
    """Return NVML's handle of a GPU."""
    if isinstance(device, int):
        return nvml.nvmlDeviceGetHandleByIndex(device)
    return nvml.nvmlDeviceGetHandleByUUID(device)
