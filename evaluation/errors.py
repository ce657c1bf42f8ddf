"""The exceptions of the evaluation room.

EvaluationError
+-- AudioError     a wav file that cannot be judged, with its path
+-- MetricError    an input that a metric refuses, or a metric that cannot be loaded
+-- JudgeError     the judge itself cannot work (a metric that does not load, children that die)
+-- ScoresError    a stored score that does not read back
"""


class EvaluationError(Exception):
    """Base of every error that the evaluation room raises on purpose."""


class AudioError(EvaluationError):
    """A wav file that cannot be judged; the message names the file and the remedy."""


class MetricError(EvaluationError):
    """An input that a metric refuses, or a metric that cannot be loaded."""


class JudgeError(EvaluationError):
    """The judge cannot work at all: nothing may be concluded about the audio."""


class ScoresError(EvaluationError):
    """A stored score that does not read back, with the field that is wrong."""
