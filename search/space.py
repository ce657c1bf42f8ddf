"""What may be tried: a flat grid of choices per axis, refused and equivalent points taken out.

A point is a mapping of axis name to choice, flat as ``Options.flat``. What it really runs is its
canonical ``Options``; several points may share one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from math import prod
from typing import Any

from search.config import SweepConfig
from search.sections import AUTO, DEVICE_AXES, SAMPLING_AXES
from search.yaml_lines import unknown
from tts import validity
from tts.device import DeviceCaps
from tts.errors import InapplicableError
from tts.options import Options, Sampling

Choice = str | int | float
Point = Mapping[str, Choice]

# Beyond this many points the grid is not walked through, only sampled.
MAX_WALK = 200_000

# Ideas that often work, tried before the search proper, the quick ones first; what they leave out
# is the baseline's.
RECIPES: Mapping[str, Point] = {
    "static-cache": {"kv_cache": "static"},
    "no-guidance": {"cfg_weight": 1.0},
    "flash": {"precision": "bf16", "attention": "flash"},
    "int8-dynamic": {"quantization": "int8_dynamic"},
    "no-guidance-graphs": {
        "precision": "bf16", "compile": "reduce-overhead", "kv_cache": "static",
        "cfg_weight": 1.0,
    },
    "fused": {"precision": "bf16", "compile": "fused", "kv_cache": "static"},
    "no-guidance-fused": {
        "precision": "bf16", "compile": "fused", "kv_cache": "static", "cfg_weight": 1.0,
    },
    "fused-int8": {
        "precision": "bf16", "quantization": "int8_weight_only", "compile": "fused",
        "kv_cache": "static",
    },
    "split-k-graphs": {
        "precision": "bf16", "compile": "reduce-overhead", "attention": "split_k",
        "kv_cache": "static",
    },
    "bf16-graphs": {"precision": "bf16", "compile": "reduce-overhead", "kv_cache": "static"},
    "tf32-graphs": {"precision": "tf32", "compile": "reduce-overhead", "kv_cache": "static"},
    "compiled": {"compile": "default", "kv_cache": "static"},
    "int8-graphs": {
        "precision": "bf16", "quantization": "int8_weight_only", "compile": "reduce-overhead",
        "kv_cache": "static",
    },
    "fp8-graphs": {
        "precision": "bf16", "quantization": "fp8", "compile": "reduce-overhead",
        "kv_cache": "static",
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One configuration to try: what was asked for and what it amounts to."""

    requested: Options
    options: Options
    recipe: str = ""


@dataclass(frozen=True, kw_only=True)
class Space:
    """The grid on one device; ``choices`` has every axis, in the order of ``Options.flat``."""

    choices: Mapping[str, tuple[Choice, ...]]
    caps: DeviceCaps

    @property
    def size(self) -> int:
        """Number of points, refused and equivalent ones included."""
        return prod(len(choices) for choices in self.choices.values())

    def candidate(self, options: Options, recipe: str = "") -> Candidate | InapplicableError:
        """Return what options amount to on this device, or why they cannot run on it."""
        refusal = validity.refusal(options, self.caps)
        if refusal is not None:
            return refusal
        canonical = validity.canonical(options, self.caps)
        return Candidate(requested=options, options=canonical, recipe=recipe)

    def point(self, options: Options) -> Point | None:
        """Return the point of options, or None if they lie outside the grid."""
        flat = options.flat()
        inside = all(flat[axis] in choices for axis, choices in self.choices.items())
        return {axis: flat[axis] for axis in self.choices} if inside else None

    def points(self) -> Iterator[Point]:
        """Walk the whole grid."""
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))

    @cached_property
    def distinct(self) -> Mapping[Options, Options]:
        """Canonical options -> one way of asking for them; empty for a grid too large to walk."""
        found: dict[Options, Options] = {}
        if self.size > MAX_WALK:
            return found
        for point in self.points():
            candidate = self.candidate(options_of(point))
            if isinstance(candidate, Candidate):
                found.setdefault(candidate.options, candidate.requested)
        return found


def options_of(point: Point) -> Options:
    """Build options from a flat mapping of axis to choice."""
    sampling = {axis: value for axis, value in point.items() if axis in SAMPLING_AXES}
    others: dict[str, Any] = {a: v for a, v in point.items() if a not in SAMPLING_AXES}
    return Options(**others, sampling=Sampling(**sampling))  # type: ignore[arg-type]


def resolve(config: SweepConfig, caps: DeviceCaps) -> Space:
    """Turn a configuration's space into the grid on this device, before anything is loaded.

    Raises:
        ConfigError: A listed value, or the baseline, that this device cannot do, or nothing left.
    """
    refusal = validity.refusal(config.baseline, caps)
    if refusal is not None:
        raise config.error(f"baseline.{refusal.axis}", f"{refusal.value}: {refusal.reason}")
    choices = {
        field.name: _choices(config, caps, field.name)
        for field in (*fields(Options), *fields(Sampling))
        if field.name != "sampling"
    }
    space = Space(choices=choices, caps=caps)
    if space.size <= MAX_WALK and not space.distinct:
        raise config.error(
            "space", f"the space is empty: no combination of it runs on {caps.name}; use `auto`"
        )
    return space


def _choices(config: SweepConfig, caps: DeviceCaps, axis: str) -> tuple[Choice, ...]:
    listed: tuple[Choice, ...] = getattr(config.space, axis)
    if axis not in DEVICE_AXES:
        return listed
    able = validity.choices(axis, caps)
    if listed == AUTO:
        return able
    found: dict[Choice, None] = {}
    for i, choice in enumerate(listed):
        # A value may stand for an equivalent one, such as CUDA graphs on a CPU: one is enough.
        equivalent = validity.canonical(options_of({axis: choice}), caps).flat()[axis]
        if equivalent not in able:
            refusal = validity.refusal(options_of({axis: choice}), caps)
            reason = refusal.reason if refusal else "this device cannot do it"
            raise config.error(
                f"space.{axis}.{i}",
                f"{choice}: {reason}; here {', '.join(able)} can run, or use `auto`",
            )
        found[equivalent] = None
    return tuple(found)


def recipes(config: SweepConfig, space: Space) -> tuple[list[Candidate], list[str]]:
    """Return the known recipes that apply, and a sentence for each one that does not.

    Raises:
        ConfigError: An unknown recipe.
    """
    names = tuple(RECIPES) if config.recipes == AUTO else config.recipes
    found: list[Candidate] = []
    skipped: list[str] = []
    for i, name in enumerate(names):
        if name not in RECIPES:
            raise config.error(f"recipes.{i}", unknown(name, tuple(RECIPES)))
        candidate = space.candidate(options_of({**config.baseline.flat(), **RECIPES[name]}), name)
        if isinstance(candidate, InapplicableError):
            skipped.append(f"recipe {name} skipped: {candidate}")
            continue
        ran = candidate.options.flat()
        outside = [axis for axis in RECIPES[name] if ran[axis] not in space.choices[axis]]
        if outside:
            able = ", ".join(str(choice) for choice in space.choices[outside[0]])
            skipped.append(f"recipe {name} skipped: {outside[0]} is limited to {able}")
        else:
            found.append(candidate)
    return found, skipped
