"""Exit codes: the one place that says which error ends in which."""

from __future__ import annotations

import errno
from enum import IntEnum


class Exit(IntEnum):
    """How a command ends, for scripts."""

    WINNER = 0
    NOTHING_PASSED = 1
    CONFIGURATION = 2
    ENVIRONMENT = 3
    INFRASTRUCTURE = 4
    INTERRUPTED = 130


# By class name along the method resolution order, so that no command pays for the imports of
# another: naming torch's or a room's errors here would load them.
_BY_NAME = {
    "InputError": Exit.CONFIGURATION,
    "ConfigError": Exit.CONFIGURATION,
    "StudyMismatchError": Exit.CONFIGURATION,
    "TextError": Exit.CONFIGURATION,
    "ModelError": Exit.CONFIGURATION,
    "AudioError": Exit.CONFIGURATION,
    "PromptError": Exit.CONFIGURATION,
    "InputsError": Exit.CONFIGURATION,
    "BaselineUnfitError": Exit.ENVIRONMENT,
    "InapplicableError": Exit.ENVIRONMENT,
    "WeightsError": Exit.ENVIRONMENT,
    "MetricError": Exit.ENVIRONMENT,
    "JudgeError": Exit.ENVIRONMENT,
    "EvaluationError": Exit.ENVIRONMENT,
    "TtsError": Exit.ENVIRONMENT,
    "ImportError": Exit.ENVIRONMENT,
    "KeyboardInterrupt": Exit.INTERRUPTED,
}
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EROFS: "the file system is read-only; choose another folder with --root",
    errno.EACCES: "no right to write there; choose another folder with --root",
    errno.EPERM: "no right to write there; choose another folder with --root",
}


class InputError(Exception):
    """Something the user gave that cannot be used; the message says what to give instead."""


def exit_code_of(error: BaseException) -> Exit:
    """Return the exit code that an error ends in."""
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_NAME:
            return _BY_NAME[kind.__name__]
    return Exit.INFRASTRUCTURE


def explain(error: BaseException) -> str:
    """Return one message for the user."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, ModuleNotFoundError):
        return f"{error}; install the project's dependencies (make sweep does), or ask the doctor"
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        return f"{error.filename or 'a file'}: {_REMEDIES[error.errno]}"
    if exit_code_of(error) is Exit.INFRASTRUCTURE and not _is_ours(error):
        return f"{type(error).__name__}: {error} (run again with --debug for the traceback)"
    return str(error)


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("search", "tts", "evaluation")
