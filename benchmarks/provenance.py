"""What every committed result carries: hardware, versions and commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

PACKAGES = ("torch", "torchao", "optuna", "mlflow", "speechmos", "openai-whisper", "jiwer", "pesq")


def provenance() -> dict[str, object]:
    """Return plain JSON values that say where and with what a figure was made."""
    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu_name(),
        "n_cpus": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def command_line() -> list[str]:
    """Return the command line's arguments, of a whole path its last part: machines differ."""
    return [Path(text).name if text.startswith("/") else text for text in sys.argv[1:]]


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return os.environ.get("MOSGATE_COMMIT") or done.stdout.strip() or "unknown"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
