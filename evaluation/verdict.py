"""What the gate is told and what it answers: configuration, bounds, verdict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["PASS", "FAIL", "UNDECIDED", "UNGATED", "UNARMED"]


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What a candidate must keep, and how sure we want to be.

    Args:
        mos_budget_pct: Largest loss of mean DNSMOS OVRL and of P808, in percent of the
            baseline's. Both must hold (an intersection-union test, so neither pays for the other).
        confidence: Of every one-sided bound.
        wer_margin: Largest rise of the corpus word error rate, as a fraction of the words.
        max_bad_rate: Largest share of utterances that a candidate may newly ruin ...
        tail_confidence: ... with this much confidence. The defaults say: a candidate that ruins
            2 % passes at most one time in ten. From 114 utterances on that bound can be kept;
            fewer pass when none at all is newly ruined, and the verdict says what that leaves
            open.
        collapse_pct: An utterance that loses more than this of the baseline's OVRL or P808, in
            percent, is ruined. Honest resampling of one sentence moves either by 4 to 5 % (sigma),
            and by 17 % at the most in 600 pairs of the embedded voice, either way.
        catastrophic_wer: A word error rate above this ruins an utterance ...
        catastrophic_min_errors: ... when it has at least this many more wrong words than the
            baseline's ...
        heard_wer: ... and the baseline's own rate is at most this: where the recogniser cannot
            follow the baseline, it cannot tell a ruined candidate either.
        duration_drift_pct: Largest change of the mean duration, in percent, either way.
        noise_floor_rise_db: Largest rise of the mean noise floor against the speech. Between two
            sayings one utterance's floor moves by 1 to 2.5 dB (sigma), the mean of 32 by 0.4.
        min_n: Fewer pairs than this are no evidence.
    """

    mos_budget_pct: float = 5.0
    confidence: float = 0.95
    wer_margin: float = 0.03
    max_bad_rate: float = 0.02
    tail_confidence: float = 0.90
    collapse_pct: float = 30.0
    catastrophic_wer: float = 0.5
    catastrophic_min_errors: int = 3
    heard_wer: float = 0.25
    duration_drift_pct: float = 10.0
    noise_floor_rise_db: float = 3.0
    min_n: int = 8

    def __post_init__(self) -> None:
        """Refuse values that would make the gate vacuous.

        Raises:
            ValueError: A value outside its range, with the range.
        """
        _within("mos_budget_pct", self.mos_budget_pct, 0, 100)
        _within("confidence", self.confidence, 0.5, 1)
        _within("wer_margin", self.wer_margin, 0, 1)
        _within("tail_confidence", self.tail_confidence, 0.5, 1)
        _within("collapse_pct", self.collapse_pct, 0, 100)
        _within("catastrophic_wer", self.catastrophic_wer, 0, 10)
        _within("heard_wer", self.heard_wer, 0, 10)
        _within("duration_drift_pct", self.duration_drift_pct, 0, 100)
        _within("noise_floor_rise_db", self.noise_floor_rise_db, 0, 60)
        if not 0 <= self.max_bad_rate < 1:
            raise ValueError(f"max_bad_rate must be in [0, 1), got {self.max_bad_rate}")
        if self.catastrophic_min_errors < 1:
            words = self.catastrophic_min_errors
            raise ValueError(f"catastrophic_min_errors must be at least 1, got {words}")
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
        metric: ``dnsmos_ovrl``, ``dnsmos_p808``, ``wer``, ``bad_utterances``, ``duration_s`` or
            ``noise_floor_dbfs``.
        baseline_mean: Over the same utterances (corpus rate for ``wer``, rate for
            ``bad_utterances``).
        candidate_mean: The same of the candidate.
        delta_pct: The change: percent of the baseline for DNSMOS and duration, percentage
            points for ``wer``, dB for ``noise_floor_dbfs``; for ``bad_utterances`` the
            percentage of utterances that the candidate newly ruins.
        lower_pct: One-sided lower bound of the change, in the unit of ``delta_pct``; for
            ``bad_utterances`` of what is newly ruined beyond what may have been mended.
        upper_pct: One-sided upper bound; for ``bad_utterances`` of what is newly ruined beyond
            what is mended of the same signs.
        sigma_pct: Standard deviation of one paired difference; 0 for ``bad_utterances``.
        n: Pairs.
        status: This quantity's own verdict.
        power: The chance, 0 to 1, that a candidate exactly equal to the baseline passes this
            comparison at this n and sigma; None in records older than the field.
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
    power: float | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a candidate may ship, and why.

    Args:
        status: PASS is the only one that ships. FAIL: shown to be worse than allowed. UNDECIDED:
            more utterances are needed. UNGATED: nothing can be concluded (missing, too few, of
            different provenance). UNARMED: the gate did not tell good from bad on this baseline.
        n: Pairs compared.
        bounds: One entry per compared quantity.
        reasons: Short sentences for everything that kept it from passing; empty on PASS.
        summary: One readable sentence.
        sigma_pct: The larger standard deviation of the two DNSMOS scores' paired differences, in
            percent; None where neither could be compared.
        power: The chance, at least, that a candidate exactly equal to the baseline passes all
            comparisons (one minus what each lacks); None where something could not be compared.
        failures: Metric to how many of the candidate's utterances it failed on. Each counted as
            the worst case in the metric's own comparison.
        is_final: Whether more utterances of the same plan cannot turn this into a PASS.
    """

    status: Status
    n: int
    bounds: tuple[Bound, ...]
    reasons: tuple[str, ...]
    summary: str
    sigma_pct: float | None = None
    power: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    is_final: bool = True

    def to_mapping(self) -> dict[str, Any]:
        """Return a mapping of JSON types."""
        mapping = dataclasses.asdict(self)
        mapping["bounds"] = [dataclasses.asdict(bound) for bound in self.bounds]
        mapping["reasons"] = list(self.reasons)
        return mapping

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Verdict:
        """Read what ``to_mapping`` wrote, by this version or an older one."""
        bounds = tuple(Bound(**bound) for bound in mapping["bounds"])
        return cls(**{**mapping, "bounds": bounds, "reasons": tuple(mapping["reasons"])})
