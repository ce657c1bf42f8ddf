"""Where a trial runs and what its content address is made of."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import tts
from evaluation.fidelity import FidelityConfig
from evaluation.provenance import files_sha256, score_hash
from search.config import SweepConfig, digest_of
from search.errors import ConfigError
from search.space import Space
from tts.device import DeviceCaps
from tts.options import Options
from tts.types import Utterance

PACKAGES = ("torch", "torchaudio", "torchao", "optuna", "mlflow", "numpy")


def describe(caps: DeviceCaps, threads: int) -> dict[str, Any]:
    """Return the device, the system and the versions that results depend on.

    Args:
        caps: The device.
        threads: CPU threads of the model's process; 0 is torch's choice.
    """
    return {
        "device": caps.type,
        "device_name": caps.name,
        "capability": ".".join(map(str, caps.capability)) if caps.capability else "",
        "memory_bytes": caps.memory_bytes,
        "n_threads": threads or caps.n_threads,
        "n_cores": os.cpu_count(),
        "cuda": torch.version.cuda or "",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "mosgate": _version("mosgate"),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def model_digest(model: str) -> str:
    """Return a checksum of the model's weights, or of an adapter's source.

    Args:
        model: As in ``tts.build.build``.

    Raises:
        ConfigError: No such folder or module.
    """
    name, _, rest = model.partition(":")
    if name == "embedded":
        folder = Path(rest) if rest else Path(tts.__file__).parent / "embedded" / "weights"
        if rest and not folder.is_dir():
            raise ConfigError(None, None, f"model: {folder} is not a folder")
        return _files_digest(sorted(p for p in folder.rglob("*") if p.is_file()), folder)
    try:
        spec = importlib.util.find_spec(name)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(
            None, None, f"model: there is no module {name!r}; use embedded, embedded:FOLDER or "
            "an adapter as module:Class"
        )  # fmt: skip
    return _files_digest([Path(spec.origin)], Path(spec.origin).parent)


def _files_digest(paths: Sequence[Path], folder: Path) -> str:
    return files_sha256(paths, folder)[:16]


def study_conditions(
    config: SweepConfig,
    space: Space,
    environment: Mapping[str, Any],
    prompts: Any,  # noqa: ANN401
    scored_by: Mapping[str, str],
) -> dict[str, str]:
    """Return one digest per thing that must not change within a study.

    Budget, deadlines, recipes and the confirmation may change between sittings; what decides a
    measurement or a verdict may not.

    Args:
        config: The sweep's configuration.
        space: Its choices on this device.
        environment: As ``describe`` returns it.
        prompts: What the search speaks.
        scored_by: What the scores depend on, as the judge's ``provenance`` returns it.
    """
    device = {k: environment[k] for k in ("device", "device_name", "n_threads", "torch", "mosgate")}
    values = config.to_mapping()
    # Studies that were begun before there was a screen have the default's digest.
    screen, is_default = values["screen"], config.screen == FidelityConfig()
    return {
        "model": f"{config.model} {model_digest(config.model)}",
        "prompts": digest_of(asdict(prompts)),
        "asr": config.asr,
        "metrics": score_hash(scored_by),
        "device": ", ".join(f"{v}" for v in device.values()),
        "measure": digest_of(values["measure"]),
        "gate": digest_of(values["gate"]) if is_default else digest_of([values["gate"], screen]),
        "arming": digest_of(values["arming"]),
        "objectives": ", ".join(config.objectives),
        "slo": digest_of(values["slo"]),
        "baseline": config.baseline.digest,
        "space": digest_of({axis: list(choices) for axis, choices in space.choices.items()}),
    }


def trial_digest(
    options: Options, conditions: Mapping[str, str], utterances: Sequence[Utterance]
) -> str:
    """Return the content address of one trial: what it runs, on what, where."""
    parts = {k: conditions[k] for k in ("model", "device", "measure")}
    return digest_of([options.to_mapping(), parts, [asdict(u) for u in utterances]])
