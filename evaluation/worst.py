"""Which utterances a person should listen to first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.scores import UtteranceScores
from evaluation.tail import new_signs
from evaluation.verdict import GateConfig


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One utterance as both sides spoke it.

    Args:
        baseline: Its scores.
        candidate: The same of the candidate.
        signs: What is wrong with the candidate's and not with the baseline's.
    """

    baseline: UtteranceScores
    candidate: UtteranceScores
    signs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The utterance's name."""
        return self.candidate.utterance_id

    @property
    def loss(self) -> float:
        """The larger loss of the two DNSMOS scores, as a fraction of the baseline's."""
        pairs = (
            (self.baseline.dnsmos_ovrl, self.candidate.dnsmos_ovrl),
            (self.baseline.dnsmos_p808, self.candidate.dnsmos_p808),
        )
        found = [(before - (after or 0.0)) / before for before, after in pairs if before]
        return max(found, default=0.0)


def pair(
    baseline: Sequence[UtteranceScores], candidate: Sequence[UtteranceScores], config: GateConfig
) -> tuple[Heard, ...]:
    """Pair what both sides spoke, the worst first: the ruined ones, then by what they lose."""
    known = {scores.utterance_id: scores for scores in baseline}
    heard = [
        Heard(
            baseline=known[ours.utterance_id],
            candidate=ours,
            signs=tuple(new_signs(known[ours.utterance_id], ours, config).values()),
        )
        for ours in candidate
    ]
    return tuple(sorted(heard, key=lambda one: (not one.signs, -one.loss, one.name)))
