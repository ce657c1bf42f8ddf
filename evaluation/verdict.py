"""What the gate is told and what it answers: configuration, bounds, verdict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["PASS", "FAIL", "UNDECIDED", "UNGATED"]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What a candidate must keep, and how sure we want to be.

    Args:
        mos_budget_pct: Largest loss of mean DNSMOS OVRL and of P808, in percent of the
            baseline's. Both must hold (an intersection-union test, so neither pays for the other).
        confidence: Of every one-sided bound.
        wer_margin: Largest rise of the corpus word error rate, as a fraction of the words.
        max_bad_rate: Bad utterances allowed beyond the baseline's own, as a fraction of n,
            rounded down.
        catastrophic_wer: A word error rate above this makes an utterance bad ...
        catastrophic_min_errors: ... when at least this many words are wrong, so that one word
            misheard in a one-word prompt is no catastrophe.
        duration_drift_pct: Largest change of the mean duration, in percent, either way.
        min_n: Fewer pairs than this are no evidence.
    """

    mos_budget_pct: float = 5.0
    confidence: float = 0.95
    wer_margin: float = 0.03
    max_bad_rate: float = 0.02
    catastrophic_wer: float = 0.5
    catastrophic_min_errors: int = 2
    duration_drift_pct: float = 10.0
    min_n: int = 8

    def __post_init__(self) -> None:
        """Refuse values that would make the gate vacuous.

        Raises:
            ValueError: A value outside its range, with the range.
        """
        _within("mos_budget_pct", self.mos_budget_pct, 0, 100)
        _within("confidence", self.confidence, 0.5, 1)
        _within("wer_margin", self.wer_margin, 0, 1)
        _within("catastrophic_wer", self.catastrophic_wer, 0, 10)
        _within("duration_drift_pct", self.duration_drift_pct, 0, 100)
        if not 0 <= self.max_bad_rate < 1:
            raise ValueError(f"max_bad_rate must be in [0, 1), got {self.max_bad_rate}")
        if self.min_n < 2:
            raise ValueError(f"min_n must be at least 2 (a bound needs two), got {self.min_n}")


def _within(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value that is not strictly between its limits; NaN never is."""
    if not (math.isfinite(value) and low < value < high):
        raise ValueError(f"{name} must be between {low} and {high}, got {value}")


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One compared quantity.

    Args:
        metric: ``dnsmos_ovrl``, ``dnsmos_p808``, ``wer``, ``bad_utterances`` or ``duration_s``.
        baseline_mean: Over the same utterances (corpus rate for ``wer``, rate for
            ``bad_utterances``).
        candidate_mean: The same of the candidate.
        delta_pct: The change: percent of the baseline for DNSMOS and duration, percentage
            points for ``wer`` and ``bad_utterances``.
        lower_pct: One-sided lower bound of the change, in the unit of ``delta_pct``.
        upper_pct: One-sided upper bound. For ``bad_utterances`` the two are the Clopper-Pearson
            bounds of the candidate's own rate.
        sigma_pct: Standard deviation of one paired difference; 0 for ``bad_utterances``.
        n: Pairs.
        status: This quantity's own verdict.
    """

    metric: str
    baseline_mean: float
    candidate_mean: float
    delta_pct: float
    lower_pct: float
    upper_pct: float
    sigma_pct: float
    n: int
    status: Status


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a candidate may ship, and why.

    Args:
        status: PASS is the only one that ships. FAIL: shown to be worse than allowed. UNDECIDED:
            more utterances are needed. UNGATED: nothing can be concluded (missing, too few).
        n: Pairs compared.
        bounds: One entry per compared quantity.
        reasons: Short sentences for everything that kept it from passing; empty on PASS.
        summary: One readable sentence.
    """

    status: Status
    n: int
    bounds: tuple[Bound, ...]
    reasons: tuple[str, ...]
    summary: str

    def to_mapping(self) -> dict[str, Any]:
        """Return a mapping of JSON types."""
        mapping = dataclasses.asdict(self)
        mapping["bounds"] = [dataclasses.asdict(bound) for bound in self.bounds]
        mapping["reasons"] = list(self.reasons)
        return mapping

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Verdict:
        """Read what ``to_mapping`` wrote."""
        bounds = tuple(Bound(**bound) for bound in mapping["bounds"])
        return cls(**{**mapping, "bounds": bounds, "reasons": tuple(mapping["reasons"])})
