"""The seven axes of the search as one frozen, hashable value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_args, get_origin, get_type_hints
from typing import Literal as L

Precision = L["fp32", "tf32", "bf16", "fp16"]
Quantization = L["none", "int8_weight_only", "int8_dynamic", "int4_weight_only", "fp8"]
Compile = L["none", "default", "reduce-overhead", "max-autotune", "cuda-graph", "fused"]
Attention = L["math", "efficient", "flash", "cudnn", "flex", "split_k"]
KvCache = L["none", "dynamic", "static", "bucketed", "static_int8", "paged"]
Batching = L["static", "continuous"]

# Caches of the same shapes at many steps, as compiled code, captured graphs and some kernels need.
STATIC: tuple[KvCache, ...] = ("static", "bucketed", "static_int8", "paged")
LEAST_TEMPERATURE = 1e-6  # scores divided by less overflow; nothing but the likeliest is left


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How speech tokens are drawn.

    Args:
        cfg_weight: Classifier-free guidance w in ``u + w (c - u)``; 1 means no guidance.
        temperature: Divides the logits; 0, or so little that they would overflow, means greedy.
        top_k: Keep the k likeliest tokens; 0 keeps all.
        top_p: Keep the smallest set whose probability reaches p; 1 keeps all.
        min_p: Drop tokens below ``min_p`` times the likeliest one's probability; 0 keeps all.
        repetition_penalty: Divides positive (multiplies negative) logits of recent tokens; 1 is
            off.
    """

    cfg_weight: float = 2.0
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.9
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _check_types(self)
        bounds = {
            "cfg_weight": (0.0, 10.0),
            "temperature": (0.0, 5.0),
            "top_k": (0, 1_000_000),
            "top_p": (1e-6, 1.0),
            "min_p": (0.0, 1.0),
            "repetition_penalty": (0.1, 10.0),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: {getattr(self, name)} is outside [{low}, {high}]")

    def canonical(self) -> Sampling:
        """Return the equivalent with every parameter that has no effect at its neutral value."""
        if self.temperature < LEAST_TEMPERATURE or self.top_k == 1:
            return replace(self, temperature=0.0, top_k=0, top_p=1.0, min_p=0.0)
        return self


@dataclass(frozen=True, kw_only=True)
class Options:
    """One point of the search: how to run the model. Hashable, comparable, serialisable.

    ``batch_size`` sentences run side by side; with ``batching="continuous"`` the next one takes
    the place of one that ends, otherwise they all wait for the longest.
    """

    precision: Precision = "fp32"
    quantization: Quantization = "none"
    compile: Compile = "none"
    attention: Attention = "math"
    kv_cache: KvCache = "dynamic"
    batch_size: int = 1
    batching: Batching = "static"
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        _check_types(self)
        if self.batch_size < 1:
            raise ValueError(f"batch_size: {self.batch_size} is below 1")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Options:
        """Build from nested plain values.

        Raises:
            ValueError: An unknown key or a value outside its choices.
        """
        values = dict(mapping)
        sampling = values.pop("sampling", {})
        for kind, given in ((cls, values), (Sampling, sampling)):
            unknown = set(given) - {f.name for f in fields(kind)}
            if unknown:
                raise ValueError(f"unknown option {sorted(unknown)[0]!r}")
        return cls(**values, sampling=Sampling(**sampling))

    def to_mapping(self) -> dict[str, Any]:
        """Return nested plain values; ``from_mapping`` of them equals this."""
        return asdict(self)

    def flat(self) -> dict[str, str | int | float]:
        """Return one level of plain values, sampling parameters under their own names."""
        values = self.to_mapping()
        return {**{k: v for k, v in values.items() if k != "sampling"}, **values["sampling"]}

    @property
    def digest(self) -> str:
        """A content address: 16 hexadecimal digits of SHA-256 over the canonical JSON."""
        mapping = self.to_mapping()
        if self.batching == "static":
            del mapping["batching"]  # addresses from before there was another way stay valid
        text = json.dumps(mapping, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# Slow to find out, and a search makes ten thousands of options.
_HINTS = {kind: get_type_hints(kind) for kind in (Options, Sampling)}


def _check_types(value: Options | Sampling) -> None:
    hints = _HINTS[type(value)]
    for f in fields(value):
        given, hint = getattr(value, f.name), hints[f.name]
        if get_origin(hint) is L:
            if given not in get_args(hint):
                raise ValueError(f"{f.name}: {given!r} is not one of {', '.join(get_args(hint))}")
        elif hint is float and isinstance(given, int) and not isinstance(given, bool):
            object.__setattr__(value, f.name, float(given))
        elif not isinstance(given, hint) or isinstance(given, bool):
            raise ValueError(f"{f.name}: {given!r} is not of type {hint.__name__}")
