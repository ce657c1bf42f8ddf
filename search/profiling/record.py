"""What a profile found: plain values that print, plot and store.

What could not be told is a ``Figure`` without a value and with the reason, never a zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluation.timing import Measurement

SCHEMA = 1
OTHER = "other"
NOT_ON_CPU = "not on a CPU"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number with its unit, or why there is none.

    Args:
        value: The number; finite, or None.
        unit: Such as ``s``, ``B``, ``B/s``, ``FLOP/s`` ``share`` for one of 1 or "" for a count.
        low: The smallest sample behind it, where there are several.
        high: The largest.
        unknown: Why there is no number.
    """

    value: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    unknown: str = ""

    def __post_init__(self) -> None:
        """Refuse a figure that is neither known nor explained.

        Raises:
            ValueError: No value and no reason, both, or a value that is not finite.
        """
        if (self.value is None) != bool(self.unknown):
            raise ValueError("a figure has a value or a reason why not")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.value} is no figure")


def unknown(why: str, unit: str = "") -> Figure:
    """Return a figure that nobody could tell."""
    return Figure(value=None, unit=unit, unknown=why)


def figure_of(measured: Measurement, scale: float = 1.0) -> Figure:
    """Return the median of a measurement with its smallest and largest sample."""
    samples = [sample * scale for sample in measured.samples]
    return Figure(
        value=measured.p50 * scale, unit=measured.unit, low=min(samples), high=max(samples)
    )


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of every call; the stages of a call add up to it.

    Args:
        name: ``text``, ``prefill``, ``decode``, ``vocoder``, what else a model tells, and
            ``other`` for what it does not.
        seconds: One per timed call.
        share: Of all calls' time, 0 to 1.
    """

    name: str
    seconds: Measurement
    share: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of a stage, or of the whole call.

    Args:
        name: Such as ``sampling``.
        stage: The stage it is part of; "" for the whole call.
        share: Of the whole call, or why nobody knows.
        how: How it was told.
    """

    name: str
    stage: str
    share: Figure
    how: str


@dataclass(frozen=True, kw_only=True)
class BatchRow:
    """How one batch size did.

    Args:
        batch_size: Sentences that are spoken together.
        latency: Until all of them are finished; no value where it did not run.
        samples_per_s: Sentences.
        audio_s_per_s: Seconds of speech per second.
        peak_bytes: Of memory while it spoke.
    """

    batch_size: int
    latency: Figure
    samples_per_s: Figure
    audio_s_per_s: Figure
    peak_bytes: Figure


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """What takes time, why, and what the measurements suggest.

    Args:
        name: The stage or part.
        share: Of the whole call, 0 to 1.
        words: A sentence or two.
        advice: What could be tried; empty where nothing measured says how.
    """

    name: str
    share: float
    words: str
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Everything that was found.

    Args:
        title: The configuration in a few words.
        model: As in ``tts.build.build``.
        device: ``cpu`` or ``cuda:0``.
        options: ``Options.to_mapping``, canonical.
        environment: As ``search.environment.describe`` returns it.
        texts: What was spoken.
        stages: Empty where the model does not tell.
        parts: Pieces of stages.
        figures: By dotted name, such as ``step.time``.
        batches: By batch size.
        batches_end: Why there are no larger ones.
        bottlenecks: The largest first, at most three.
        applied: What each pass did, by name.
        observed: What was seen after warm-up.
        notes: What a reader should know.
    """

    title: str
    model: str
    device: str
    options: Mapping[str, Any]
    environment: Mapping[str, Any]
    texts: tuple[str, ...]
    latency: Measurement
    stages: tuple[Stage, ...]
    parts: tuple[Part, ...]
    figures: Mapping[str, Figure]
    batches: tuple[BatchRow, ...] = ()
    batches_end: str = ""
    bottlenecks: tuple[Bottleneck, ...] = ()
    applied: Mapping[str, str] = field(default_factory=dict)
    observed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_mapping(self) -> dict[str, Any]:
        """Return plain nested values."""
        values = asdict(self)
        values["latency"] = {**_measured(self.latency), "p95_s": self.value("latency.p95")}
        values["stages"] = [
            {"name": s.name, "share": s.share, **_measured(s.seconds)} for s in self.stages
        ]
        values["figures"] = {name: _figure(figure) for name, figure in self.figures.items()}
        values["parts"] = [{**asdict(p), "share": _figure(p.share)} for p in self.parts]
        values["batches"] = [
            {k: v if isinstance(v, int) else _figure(v) for k, v in vars(row).items()}
            for row in self.batches
        ]
        return {"schema": SCHEMA, **values}

    def to_json(self) -> str:
        """Return JSON text."""
        return json.dumps(self.to_mapping(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def value(self, name: str) -> float | None:
        """Return a figure's number, or None where there is none."""
        figure = self.figures.get(name)
        return None if figure is None else figure.value


def _measured(measured: Measurement) -> dict[str, Any]:
    return {
        "median_s": measured.p50,
        "low_s": min(measured.samples),
        "high_s": max(measured.samples),
        "samples": list(measured.samples),
    }


def _figure(figure: Figure) -> dict[str, Any]:
    """Leave out what says nothing; ``value`` is always there."""
    kept = {k: v for k, v in vars(figure).items() if v not in (None, "")}
    return {"value": figure.value, **kept}


def stages_of(latency: Measurement, told: Sequence[Mapping[str, float]]) -> tuple[Stage, ...]:
    """Turn what a model told of each call into stages that add up to the calls.

    Args:
        latency: Seconds of each call.
        told: Of each call, seconds by stage, as ``stats()`` returns them (``decode_s``).

    Returns:
        In the order told, ``other`` last; empty where nothing was told. The shares sum to 1.
    """
    names = list(dict.fromkeys(name for call in told for name in call))
    if not names:
        return ()
    rows = {name: tuple(call.get(name, 0.0) for call in told) for name in names}
    rest = tuple(
        max(0.0, total - sum(call.values()))
        for total, call in zip(latency.samples, told, strict=True)
    )
    rows[OTHER] = rest
    whole = sum(map(sum, rows.values()))
    return tuple(
        Stage(
            name=name.removesuffix("_s"),
            seconds=Measurement(name=name, unit="s", samples=samples),
            share=sum(samples) / whole,
        )
        for name, samples in rows.items()
    )
