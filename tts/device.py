"""What the machine can do, asked once and without touching any weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tts.errors import InapplicableError


@dataclass(frozen=True, kw_only=True)
class DeviceCaps:
    """The capabilities that decide which options apply.

    Args:
        type: ``"cpu"`` or ``"cuda"``.
        name: What the vendor calls it.
        torch_name: The name for ``torch.device``, such as ``"cuda:1"``.
        capability: CUDA compute capability such as (9, 0); None on a CPU.
        memory_bytes: All of the device's memory.
        n_threads: Threads that one CPU operation may use.
        cpu_flags: Vector extensions of the CPU among those that matter here.
    """

    type: Literal["cpu", "cuda"]
    name: str
    torch_name: str
    capability: tuple[int, int] | None
    memory_bytes: int
    n_threads: int
    cpu_flags: tuple[str, ...]


def probe(device: str = "auto") -> DeviceCaps:
    """Ask a device what it can do.

    Args:
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        InapplicableError: No such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return _cpu()
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index.isdigit() or index == ""):
        raise InapplicableError("device", device, "is not one of auto, cpu, cuda, cuda:<number>")
    if not torch.cuda.is_available():
        raise InapplicableError("device", device, "this machine has no usable CUDA GPU; use cpu")
    number = int(index) if index else torch.cuda.current_device()
    if number >= torch.cuda.device_count():
        raise InapplicableError(
            "device", device, f"this machine has {torch.cuda.device_count()} GPU(s), from cuda:0"
        )
    properties = torch.cuda.get_device_properties(number)
    return DeviceCaps(
        type="cuda",
        name=properties.name,
        torch_name=f"cuda:{number}",
        capability=(properties.major, properties.minor),
        memory_bytes=properties.total_memory,
        n_threads=torch.get_num_threads(),
        cpu_flags=_cpu_flags(),
    )


def _cpu() -> DeviceCaps:
    return DeviceCaps(
        type="cpu",
        name=_cpu_name(),
        torch_name="cpu",
        capability=None,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        n_threads=torch.get_num_threads(),
        cpu_flags=_cpu_flags(),
    )


def _cpu_name() -> str:
    capabilities = torch.backends.cpu.get_cpu_capability()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'CPU'} ({capabilities})"


def _cpu_flags() -> tuple[str, ...]:
    found = torch.backends.cpu.get_cpu_capability()
    supported = {
        "avx2": found in ("AVX2", "AVX512"),
        "avx512": found == "AVX512",
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "avx512_vnni": torch.cpu._is_vnni_supported(),
        "amx": torch.cpu._is_amx_tile_supported(),
    }
    return tuple(name for name, yes in supported.items() if yes)


def upload(
    values: Sequence[object], device: torch.device, dtype: torch.dtype = torch.int64
) -> torch.Tensor:
    """Return numbers as a tensor on a device, without waiting for what runs there.

    A plain ``torch.tensor(..., device=...)`` waits until the GPU has done all that it was given.
    """
    tensor = torch.tensor(values, dtype=dtype)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
