"""The exceptions of the search room.

SearchError
+-- ConfigError            a configuration that cannot be used: file, line, remedy
+-- SweepError
    +-- StudyBusyError         another sweep holds this study
    +-- StudyMismatchError     the study was begun under other conditions
    +-- BaselineUnfitError     the baseline fails or trips a guard: there is nothing to compare with
    +-- InfrastructureError    a full disk, a read-only folder, a damaged record
"""

from __future__ import annotations

from pathlib import Path


class SearchError(Exception):
    """Base of every error that the search room raises on purpose."""


class ConfigError(SearchError):
    """A configuration that cannot be used.

    Args:
        path: The file, or None for a value given on the command line or in code.
        line: Its line, counted from 1, or None.
        message: What is wrong and what to write instead.
    """

    def __init__(self, path: Path | None, line: int | None, message: str) -> None:
        where = [str(path)] if path is not None else []
        if path is not None and line is not None:
            where.append(str(line))
        super().__init__(": ".join([":".join(where), message] if where else [message]))
        self.path = path
        self.line = line
        self.message = message


class SweepError(SearchError):
    """A sweep that cannot start or go on."""


class StudyBusyError(SweepError):
    """Another sweep holds this study."""


class StudyMismatchError(SweepError):
    """The study on disk was begun under other conditions, so its records cannot be compared."""


class BaselineUnfitError(SweepError):
    """The baseline fails or trips a guard."""


class InfrastructureError(SweepError):
    """The machine's side: a full disk, a read-only folder, a damaged record."""
