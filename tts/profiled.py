"""What a synthesizer may tell a profile: its decode step alone, what it costs, what it holds.

All of it is optional, as ``stats()`` and ``observed()`` are; what a model does not tell is
reported as unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tts.types import Utterance


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What one decode step of a batch cannot do without.

    Args:
        n_rows: Sentences that each get a token.
        n_lanes: Rows of the decoder: twice as many with guidance.
        n_live: Entries that the longest row attends to, its new one included.
        weight_bytes: Weights that are read, once, as they lie in memory.
        cache_bytes: Keys and values of each row's own earlier entries, read, and of the new one,
            written.
        flops: Multiplications and additions of the matrix products and of attention.
        dtype: Of the activations, such as ``"bfloat16"``.
        product: What the matrices are multiplied in where that is not ``dtype``, such as
            ``"int8"``.
    """

    n_rows: int
    n_lanes: int
    n_live: int
    weight_bytes: int
    cache_bytes: int
    flops: int
    dtype: str
    product: str = ""

    @property
    def total_bytes(self) -> int:
        """Weights and cache."""
        return self.weight_bytes + self.cache_bytes


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a model holds while it speaks a batch.

    Args:
        n_parameters: Of all modules.
        weight_bytes_computed: From the shapes and the options.
        weight_bytes_seen: Of the tensors that are there, scales and copies included.
        cache_slots: Entries per row that there is room for.
        cache_bytes_computed: From the shapes and the options.
        cache_bytes_seen: Of the tensors that are there.
    """

    n_parameters: int
    weight_bytes_computed: int
    weight_bytes_seen: int
    cache_slots: int
    cache_bytes_computed: int
    cache_bytes_seen: int


@runtime_checkable
class Decoding(Protocol):
    """A batch in the middle of being spoken, to be stepped, timed and weighed."""

    def restart(self) -> None:
        """Prefill anew."""
        ...

    def advance(self, n_steps: int, *, is_watched: bool = False) -> None:
        """Run decode steps.

        Args:
            n_steps: How many.
            is_watched: Run the operators one by one even where a captured graph would be
                replayed, so that a profiler sees them.

        Raises:
            ValueError: There is no room for so many.
        """
        ...

    def vocode(self) -> None:
        """Render the tokens drawn so far."""
        ...

    def labelled(self) -> AbstractContextManager[None]:
        """Name the parts of prefill and step for torch's profiler while the block runs."""
        ...

    def cost(self) -> StepCost:
        """Return what the next step cannot do without."""
        ...

    def footprint(self) -> Footprint:
        """Return what the model holds now."""
        ...


@runtime_checkable
class Profiled(Protocol):
    """What a ``Synthesizer`` may be besides: one that can be taken apart."""

    def decoding(self, utterances: Sequence[Utterance]) -> Decoding:
        """Begin the first batch of some utterances, prefill included."""
        ...
