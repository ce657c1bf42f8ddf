"""Whether the recogniser follows the baseline's voice: if not, its word errors say little.

A recogniser that gets every second word of the baseline wrong cannot tell a candidate that lost
them, and makes the baseline itself look ruined; neither says by itself that the ear is at fault.
"""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.scores import UtteranceScores

FOLLOWED_WER = 0.25
"""Above this corpus word error rate of the baseline its recogniser is to be doubted: where it is
higher on one utterance, the gate takes no lost words there for ruin either (``heard_wer``)."""


def doubt(baseline: Sequence[UtteranceScores]) -> str:
    """Say so in one sentence when the recogniser does not follow the baseline; "" when it does.

    An utterance's errors count up to its words, as in the gate: one runaway is no deaf ear.
    """
    heard = [item for item in baseline if item.wer_errors is not None and item.wer_words]
    words = sum(item.wer_words or 0 for item in heard)
    wrong = sum(min(item.wer_errors or 0, item.wer_words or 0) for item in heard)
    if not words or wrong / words <= FOLLOWED_WER:
        return ""
    return (
        f"The recogniser gets {100 * wrong / words:.0f} % of the baseline's own words wrong, so it "
        "cannot tell lost ones: judge with one that follows this voice."
    )
