"""Arming: a gate proves on the user's own baseline that it tells good from bad.

The baseline heard again with other seeds must pass against itself, every damaged copy of the
baseline must be turned down, and every harmless copy must pass. A gate that fails any of this is
unarmed: it names what it missed, and nothing may pass it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation import statistics
from evaluation.arming_words import miss, needs, not_itself
from evaluation.canaries import CANARIES, Canary, refuse_untested
from evaluation.canary_trials import Judged, Scorer, judge_canaries
from evaluation.comparisons import MOS_METRICS
from evaluation.gate import decide
from evaluation.planning import SMALL_LOSS_PCT, Plan, plan
from evaluation.recogniser import doubt
from evaluation.scores import Clip, UtteranceScores
from evaluation.verdict import GateConfig, Verdict
from evaluation.wording import label

__all__ = ["Arming", "Judged", "Scorer", "arm"]

SPREADING = (*MOS_METRICS, "wer", "duration_s")
"""What differs from seed to seed by so many percent."""


@dataclass(frozen=True, kw_only=True)
class Arming:
    """Whether a gate may be believed on this baseline, and how that is known.

    Args:
        armed: Whether the baseline passed, all damage was turned down and all else accepted.
        missed: One sentence for each of these that went wrong; empty when armed.
        again: The verdict on the baseline heard again with other seeds; None where it was not.
        sigma_pct: By metric, the standard deviation of one paired difference between the two
            hearings, in the unit of its bound: percent, or points for ``wer``.
        canaries: What was said to each canary.
        n: Utterances of the baseline.
        n_small_loss: Utterances that accept a true loss of 2 % with a power of 80 %, by the larger
            DNSMOS sigma; None when the budget does not allow that loss, or without a sigma.
        n_judged: Damaged and harmless copies that were scored by every metric.
        seconds: What the canaries took.
        plan: How many utterances the final judgement needs, by both hearings; None without them.
        n_final: Utterances that the final judgement is to take; None where nobody has said.
    """

    armed: bool
    missed: tuple[str, ...]
    again: Verdict | None
    sigma_pct: Mapping[str, float]
    canaries: tuple[Judged, ...]
    n: int
    n_small_loss: int | None
    n_judged: int
    seconds: float
    plan: Plan | None = None
    n_final: int | None = None

    @property
    def summary(self) -> str:
        """Say in one sentence whether the gate is armed, and what it was tried on."""
        if not self.armed:
            return f"the gate is UNARMED: {' '.join(self.missed)}"
        n_damages = sum(not canary.harmless for canary in self.canaries)
        moot = [c.what for c in self.canaries if c.harmless and c.is_moot]
        n_harmless = len(self.canaries) - n_damages - len(moot)
        sigmas = ", ".join(
            f"{label(m)} {self.sigma_pct[m]:.1f} %" for m in MOS_METRICS if self.sigma_pct
        )
        itself = f"the baseline passes against itself (sigma {sigmas}, n={self.n})"
        if self.again is None:
            itself = f"the baseline was not judged against itself (n={self.n})"
        said = f"; accepting a true loss of {SMALL_LOSS_PCT:g} % takes n={self.n_small_loss}"
        planned = f"; {needs(self.plan, self.n_final)}" if self.plan else ""
        return (
            f"the gate is armed: {itself}, "
            f"it turns down {n_damages} kinds of damage and accepts {n_harmless} harmless "
            f"changes{said if self.n_small_loss else ''}{planned}{_untried(moot)}"
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return a mapping of JSON types."""
        mapping = dataclasses.asdict(self)
        mapping["missed"] = list(self.missed)
        mapping["again"] = self.again and self.again.to_mapping()
        mapping["canaries"] = [dataclasses.asdict(canary) for canary in self.canaries]
        return mapping

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Arming:
        """Read what ``to_mapping`` wrote.

        Raises:
            TypeError: A field is missing or unknown.
            KeyError: One of the nested ones is missing.
        """
        nested = {
            "missed": tuple(mapping["missed"]),
            "again": mapping["again"] and Verdict.from_mapping(mapping["again"]),
            "canaries": tuple(Judged(**canary) for canary in mapping["canaries"]),
        }
        if mapping.get("plan"):
            nested["plan"] = Plan(**mapping["plan"])
        return cls(**{**mapping, **nested})


def arm(
    clips: Sequence[Clip],
    baseline: Sequence[UtteranceScores],
    again: Sequence[UtteranceScores] | Callable[[], Sequence[UtteranceScores]] | None,
    scorer: Scorer,
    config: GateConfig,
    *,
    canaries: Sequence[Canary] = CANARIES,
    harmless_n: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Arming:
    """Try a gate on a baseline.

    Args:
        clips: The baseline's audio.
        baseline: Its scores, in the clips' order.
        again: Scores of the same prompts spoken by the same baseline with other seeds; a function
            that waits for them is asked when the canaries are done. None where there is no second
            hearing, and then nothing is known of the baseline's own spread.
        scorer: Scores the canaries, as it scored the baseline; it must have the guards.
        config: The gate.
        canaries: What to try.
        harmless_n: A harmless copy that passes on this many utterances is judged on the others
            by the guards alone; None judges it on all. Fewer utterances make the bounds of the
            means wider and the tail's count easier to pass (none newly ruined passes at any n),
            so what only MOS or words would show in the others goes unseen.
        clock: Seconds.

    Raises:
        ValueError: Clips and scores are not of the same utterances, there are none, or no canary
            is any damage.
        AudioError: A clip of the baseline cannot be read.
    """
    if [clip.utterance_id for clip in clips] != [item.utterance_id for item in baseline]:
        raise ValueError("the baseline's clips and scores are not of the same utterances")
    refuse_untested(canaries)
    began = clock()
    found, n_judged = judge_canaries(
        canaries, clips, baseline, scorer, config, harmless_n=harmless_n
    )
    seconds = clock() - began
    heard = again() if callable(again) else again
    verdict = None if heard is None else decide(baseline, heard, config)
    itself = [] if verdict is None else not_itself(verdict, config)
    missed = (*itself, *(miss(one) for one in found if not one.is_right))
    doubted = doubt(baseline) if missed else ""
    missed = (*missed, doubted) if doubted else missed
    sigma_pct = _sigmas(verdict)
    return Arming(
        armed=not missed,
        missed=missed,
        again=verdict,
        sigma_pct=sigma_pct,
        canaries=found,
        n=len(clips),
        n_small_loss=_n_small_loss(sigma_pct, config),
        n_judged=n_judged,
        seconds=seconds,
        plan=plan(baseline, heard, verdict.bounds, config) if heard and verdict else None,
    )


def _untried(moot: Sequence[str]) -> str:
    """Say which harmless changes changed nothing on this voice, so that nobody counts on them."""
    return f"; not tried, for it changes nothing here: {', '.join(moot)}" if moot else ""


def _sigmas(verdict: Verdict | None) -> dict[str, float]:
    """Return the spread of each compared quantity between two hearings."""
    bounds = verdict.bounds if verdict is not None else ()
    return {bound.metric: bound.sigma_pct for bound in bounds if bound.metric in SPREADING}


def _n_small_loss(sigma_pct: Mapping[str, float], config: GateConfig) -> int | None:
    """Return how many utterances accept a true loss of 2 % by the wider of the two scores."""
    sigmas = [sigma_pct[metric] for metric in MOS_METRICS if metric in sigma_pct]
    if len(sigmas) < len(MOS_METRICS) or config.mos_budget_pct <= SMALL_LOSS_PCT:
        return None
    return statistics.required_n(
        max(sigmas), SMALL_LOSS_PCT, budget_pct=config.mos_budget_pct, confidence=config.confidence
    )
