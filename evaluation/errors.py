"""The exceptions of the evaluation room.

EvaluationError
+-- AudioError     a wav file that cannot be judged, with its path
+-- InputsError    folders or texts that cannot be judged: a line for each problem
+-- MetricError    an input that a metric refuses, or a metric that cannot be loaded
+-- JudgeError     the judge itself cannot work (a metric that does not load, children that die)
+-- ScoresError    a stored score that does not read back
"""

from __future__ import annotations

from collections.abc import Sequence


class EvaluationError(Exception):
    """Base of every error that the evaluation room raises on purpose."""


class AudioError(EvaluationError):
    """A wav file that cannot be judged; the message names the file and the remedy."""


class InputsError(EvaluationError):
    """Folders or texts that cannot be judged.

    Args:
        problems: A line each, with the file (and its line) and the remedy.
    """

    SHOWN = 10

    def __init__(self, problems: Sequence[str]) -> None:
        shown = list(problems[: self.SHOWN])
        more = len(problems) - len(shown)
        super().__init__("\n".join([*shown, *([f"... and {more} more"] if more else [])]))
        self.problems = tuple(problems)


class MetricError(EvaluationError):
    """An input that a metric refuses, or a metric that cannot be loaded."""


class JudgeError(EvaluationError):
    """The judge cannot work at all: nothing may be concluded about the audio."""


class ScoresError(EvaluationError):
    """A stored score that does not read back, with the field that is wrong."""
