"""Judge synthesised clips in child processes, so that a metric's death is only that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from evaluation.scores import Clip, UtteranceScores

BUILTIN_METRICS = ("guards", "dnsmos", "wer", "pesq")


class Judge:
    """A small pool of child processes that hold the recogniser and DNSMOS loaded.

    Args:
        asr: The recogniser: ``"embedded"`` or an openai-whisper name such as ``"base.en"``.
        workers: Child processes, one thread each; 0 is one per core.
        timeout_s: Deadline of one metric on one utterance.
        metrics: Names of built-in or installed metrics, or ``"module:Class"``.
    """

    def __init__(
        self,
        asr: str,
        workers: int = 0,
        timeout_s: float = 60.0,
        *,
        metrics: Sequence[str] = BUILTIN_METRICS,
    ) -> None: ...

    def __enter__(self) -> Judge: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def start(self) -> None:
        """Start the children without waiting for them."""

    def score(
        self,
        clips: Sequence[Clip],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[UtteranceScores]:
        """Judge clips; the result is in their order, one entry for each."""
        raise NotImplementedError

    def provenance(self) -> dict[str, str]:
        """Return versions and checksums of all that the scores depend on."""
        raise NotImplementedError

    def close(self) -> None:
        """End the children."""
