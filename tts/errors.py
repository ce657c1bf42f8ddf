"""The exceptions of the tts room.

TtsError
+-- InapplicableError   an option this device or model cannot take, with the reason
+-- TextError           text that cannot be spoken
+-- WeightsError        a weight file that is missing, damaged or of another shape
+-- OutOfPagesError     a paged KV cache has fewer free pages than are asked for
"""


class TtsError(Exception):
    """Base of every error that the tts room raises on purpose."""


class InapplicableError(TtsError):
    """An optimization that cannot take effect here.

    Args:
        axis: The option's name, such as ``"precision"``.
        value: The value that was asked for.
        reason: Why it cannot take effect, in words a user can act on.
    """

    def __init__(self, axis: str, value: object, reason: str) -> None:
        super().__init__(f"{axis}={value}: {reason}")
        self.axis = axis
        self.value = value
        self.reason = reason


class TextError(TtsError):
    """Text that cannot be spoken, such as an empty string."""


class WeightsError(TtsError):
    """A weight file that is missing, damaged or of another shape."""


class OutOfPagesError(TtsError):
    """A paged KV cache has fewer free pages than are asked for: wait for others to end."""
