"""The sections of a sweep's file: frozen values, each with the range it may have."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

from evaluation.canaries import ALL, NAMES, select
from search.yaml_lines import FieldError, unknown
from tts.options import Options, Sampling

AUTO: tuple[str, ...] = ("auto",)
# Utterances that a confirmation needs to be taken at its word; fewer must be asked for.
CONFIRM_N = 128
DEVICE_AXES = ("precision", "quantization", "compile", "attention", "kv_cache")
SAMPLING_AXES = tuple(f.name for f in fields(Sampling))


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Which sentences the audio is judged on.

    Args:
        path: A TSV file; relative paths start at the YAML file's folder.
        n: Prompts of the search split.
        seeds: Utterances per prompt, each with a random seed of its own.
        seed: Where the seeds start.
        max_characters: Longer prompts are left out, of the confirmation too; None keeps all.
    """

    path: str
    n: int = 24
    seeds: int = 1
    seed: int = 0
    max_characters: int | None = None

    def __post_init__(self) -> None:
        _at_least(self, n=2, seeds=1, seed=0)
        if self.max_characters is not None:
            _at_least(self, max_characters=1)


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """When the search ends: by time, by trials or when the space is used up.

    Args:
        seconds: Time for the baseline, the arming of the gate and the search; the confirmation
            has a time of its own. None is no limit.
        max_trials: Most records of the search, the baseline included.
    """

    seconds: float | None = None
    max_trials: int = 40

    def __post_init__(self) -> None:
        _at_least(self, seconds=1, max_trials=1)


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """How speed is measured.

    Args:
        repeats: Timed batches.
        warmup: Batches run before, compilation included; more if that leaves a text out.
        texts: What is spoken; a batch repeats them in turn.
        threads: CPU threads of the model's process; 0 leaves it to torch. With as many as there
            are cores, anything else that runs slows every operation down many times over.
    """

    repeats: int = 5
    warmup: int = 2
    threads: int = 1
    texts: tuple[str, ...] = ("The morning train was late, so we walked to the harbor.",)

    def __post_init__(self) -> None:
        _at_least(self, repeats=5, warmup=1, threads=0)
        if not self.texts or not all(text.strip() for text in self.texts):
            raise FieldError("texts", "give at least one text, none of them empty")


@dataclass(frozen=True, kw_only=True)
class DeadlinesConfig:
    """Seconds a trial's process may spend in each phase before it is stopped.

    ``synthesize`` is for as many utterances as the search speaks; a confirmation on more has more
    in proportion.
    """

    load: float = 90.0
    compile: float = 300.0
    measure: float = 180.0
    synthesize: float = 300.0
    render: float = 60.0
    fidelity: float = 120.0

    def __post_init__(self) -> None:
        _at_least(self, load=0.1, compile=0.1, measure=0.1, synthesize=0.1, render=0.1)
        _at_least(self, fidelity=0.1)


@dataclass(frozen=True, kw_only=True)
class ConfirmConfig:
    """How the best are judged again; only what this confirms is a winner.

    Args:
        k: How many contenders may be tried, best first, until one stands.
        n: Utterances of the confirmation's part of the prompts, with fresh seeds; where it holds
            fewer prompts, some are spoken with several seeds. 0 leaves the confirmation out, and
            then nothing can be exported. ``auto`` takes as many as the arming of the gate planned
            for this voice, at least 128 and at most 8 seeds of every prompt.
        auto: Whether ``n`` is only the least; ``n: auto`` in the file says so.
        pairs: Fresh processes of baseline and contender, timed in turn.
        seconds: Time for the confirmation, on top of the search's; None is as long as it takes.
    """

    k: int = 3
    n: int = CONFIRM_N
    auto: bool = False
    pairs: int = 3
    seconds: float | None = None

    def __post_init__(self) -> None:
        _at_least(self, k=1, n=0, pairs=1, seconds=1)
        if self.auto and self.n < CONFIRM_N:
            raise FieldError("n", f"auto takes {CONFIRM_N} at least, got {self.n}")


@dataclass(frozen=True, kw_only=True)
class ArmingConfig:
    """How the gate is tried on the baseline before the search; unarmed, it lets nothing pass.

    Args:
        enabled: False leaves it out: then nobody knows whether the gate tells good from bad here.
        canaries: What it must tell apart, by name; ``all`` is every one there is.
    """

    enabled: bool = True
    canaries: tuple[str, ...] = (ALL,)

    def __post_init__(self) -> None:
        for i, name in enumerate(self.canaries):
            if name not in (ALL, *NAMES):
                raise FieldError(f"canaries.{i}", unknown(name, (ALL, *NAMES)))
        try:
            select(self.canaries)
        except ValueError as error:
            raise FieldError("canaries", str(error)) from error


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """Choices per axis; ``auto`` means everything this device can do."""

    precision: tuple[str, ...] = AUTO
    quantization: tuple[str, ...] = AUTO
    compile: tuple[str, ...] = AUTO
    attention: tuple[str, ...] = AUTO
    kv_cache: tuple[str, ...] = AUTO
    batch_size: tuple[int, ...] = (1,)
    batching: tuple[str, ...] = ("static",)
    cfg_weight: tuple[float, ...] = (2.0,)
    temperature: tuple[float, ...] = (0.7,)
    top_k: tuple[int, ...] = (0,)
    top_p: tuple[float, ...] = (0.9,)
    min_p: tuple[float, ...] = (0.0,)
    repetition_penalty: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for axis, choices in vars(self).items():
            if not choices:
                raise FieldError(axis, "the space is empty: list at least one value, or `auto`")
            if len(set(choices)) != len(choices):
                raise FieldError(axis, "a value is listed twice")
            for i, choice in enumerate(choices):
                if choices != AUTO or axis not in DEVICE_AXES:
                    _check_choice(axis, choice, f"{axis}.{i}")


def _check_choice(axis: str, choice: Any, key: str) -> None:  # noqa: ANN401 - any axis
    try:
        if axis in SAMPLING_AXES:
            Sampling(**{axis: choice})
        else:
            Options(**{axis: choice})
    except ValueError as error:
        allowed = get_args(get_type_hints(Options)[axis]) if axis in DEVICE_AXES else ()
        message = unknown(choice, allowed) if allowed else str(error).partition(": ")[2]
        raise FieldError(key, message) from error


def _at_least(config: Any, **bounds: float) -> None:  # noqa: ANN401 - any section
    for name, low in bounds.items():
        value = getattr(config, name)
        if value is not None and not low <= value < float("inf"):
            raise FieldError(name, f"{value} is out of range: give at least {low}")
