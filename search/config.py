"""What a sweep is asked to do: frozen values, resolved once (command line over YAML over default).

Nothing here touches a device, a network or the environment; what a device can do is checked by
``search.space``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from evaluation.fidelity import FidelityConfig
from evaluation.gate import GateConfig
from search.errors import ConfigError as ConfigError
from search.sections import (
    AUTO,
    CONFIRM_N,
    ArmingConfig,
    BudgetConfig,
    ConfirmConfig,
    DeadlinesConfig,
    MeasureConfig,
    PromptsConfig,
    SpaceConfig,
)
from search.yaml_lines import FieldError, SourceLines, build, load_tree, unknown
from tts.options import Options

# Every metric an objective or a service level may name, and whether more of it is better.
METRICS: Mapping[str, bool] = {
    "latency_p50_s": False,
    "latency_p95_s": False,
    "latency_p99_s": False,
    "ttfa_p50_s": False,
    "ttfa_p95_s": False,
    "rtf": False,
    "throughput_samples_per_s": True,
    "throughput_audio_s_per_s": True,
    "tokens_per_s": True,
    "peak_memory_bytes": False,
    "load_s": False,
    "compile_s": False,
}
Sampler = Literal["tpe", "gp", "random"]
# What lies beside the studies' folders: MLflow's artifacts and the two databases.
RESERVED = ("artifacts", "optuna.db", "mlflow.db")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Everything a sweep is asked to do."""

    study: str
    prompts: PromptsConfig
    model: str = "embedded"
    device: str = "auto"
    asr: str = "embedded"
    objectives: tuple[str, ...] = ("latency_p50_s",)
    slo: Mapping[str, float] = field(default_factory=dict)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    screen: FidelityConfig = field(default_factory=FidelityConfig)
    arming: ArmingConfig = field(default_factory=ArmingConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    deadlines: DeadlinesConfig = field(default_factory=DeadlinesConfig)
    confirm: ConfirmConfig = field(default_factory=ConfirmConfig)
    space: SpaceConfig = field(default_factory=SpaceConfig)
    recipes: tuple[str, ...] = AUTO
    baseline: Options = field(default_factory=Options)
    sampler: Sampler = "tpe"
    seed: int = 0
    source: SourceLines = field(default_factory=SourceLines, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.study):
            raise FieldError("study", "use letters, digits, dot, dash and underscore")
        if self.study.lower() in RESERVED:
            raise FieldError(
                "study", f"{self.study!r} is taken by mosgate itself: use another name"
            )
        if not self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise FieldError("objectives", "name one or more metrics, each once")
        if 0 < self.confirm.n < self.gate.min_n:
            raise FieldError(
                "confirm.n",
                f"{self.confirm.n} can never pass, since gate.min_n is {self.gate.min_n}: give at "
                "least as many, or 0 to leave the confirmation out",
            )
        for name in self.objectives:
            if name not in METRICS:
                raise FieldError("objectives", unknown(name, tuple(METRICS)))
        for name, limit in self.slo.items():
            if name not in METRICS:
                raise FieldError(f"slo.{name}", unknown(name, tuple(METRICS)))
            if not 0 < limit < float("inf"):
                raise FieldError(
                    f"slo.{name}", f"{limit:g} can never be met: give a finite limit above 0"
                )

    @property
    def prompts_path(self) -> Path:
        """The prompt file; a relative one starts at the YAML file's folder."""
        folder = self.source.path.parent if self.source.path else Path()
        return folder / self.prompts.path

    def to_mapping(self) -> dict[str, Any]:
        """Return plain nested values, without the source's lines."""
        values = {k: v for k, v in asdict(self).items() if k != "source"}
        return json.loads(json.dumps(values))  # type: ignore[no-any-return]

    @property
    def digest(self) -> str:
        """A content address: 16 hexadecimal digits of SHA-256 over the canonical JSON."""
        return digest_of(self.to_mapping())

    def error(self, key: str, message: str) -> ConfigError:
        """Return an error that names the file and the line of a dotted key."""
        return self.source.error(key, message)


def digest_of(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return 16 hexadecimal digits of SHA-256 over the canonical JSON of a plain value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_config(path: Path, overrides: Mapping[str, Any] | None = None) -> SweepConfig:
    """Read a sweep's YAML file.

    Args:
        path: The file.
        overrides: Dotted keys from the command line, such as ``{"budget.seconds": 60}``; they win
            over the file. None values are left out.

    Raises:
        ConfigError: Unreadable, a duplicate or unknown key, a wrong type or a value out of range,
            with its line and a remedy.
    """
    tree = load_tree(path, {k: v for k, v in (overrides or {}).items() if v is not None})
    confirm = tree.values.get("confirm")
    if isinstance(confirm, dict) and isinstance(confirm.get("n"), str):
        if confirm["n"] not in AUTO:
            raise tree.source.error("confirm.n", f"{confirm['n']!r} is neither a number nor `auto`")
        confirm |= {"n": CONFIRM_N, "auto": True}
    return build(SweepConfig, tree, source="source")
