"""Speak any number of sentences in the rows of one open batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tts.attention import watch
from tts.embedded.generation import Generator
from tts.embedded.memory import CAPACITY
from tts.embedded.open_batch import OpenBatch
from tts.embedded.state import Row, Spoken
from tts.scheduler import ContinuousBatcher, Finished


class Flow:
    """Continuous batching as the voice uses it.

    Args:
        generator: The model.
        n_rows: Sentences at a time.
    """

    def __init__(self, generator: Generator, n_rows: int) -> None:
        self.generator, self.n_rows = generator, n_rows
        self._batch: OpenBatch | None = None
        self._is_running = False

    def run(
        self, rows: Iterable[Row], *, n_slots: int = CAPACITY
    ) -> Iterator[Finished[Row, Spoken]]:
        """Speak sentences and yield each as it ends.

        Args:
            rows: Read as there is room for them.
            n_slots: The most positions that one may take; one that needs more is told so.

        Raises:
            RuntimeError: Another run is not over: its rows are in use.
        """
        if self._is_running:
            raise RuntimeError("another run is not over: read it to its end or close it")
        if self._batch is None or self._batch.n_slots < n_slots:
            self._batch = None  # its memory goes before the new one's comes
            self._batch = OpenBatch(self.generator, self.n_rows, n_slots=n_slots)
        self._is_running = True
        batcher = ContinuousBatcher(self._batch)
        try:
            yield from batcher.run(rows)
        except GeneratorExit:  # whoever listened has stopped
            for row in list(batcher.running.values()):
                batcher.cancel(row)
            raise
        except BaseException:  # nobody knows what state the device has left it in
            self._batch = None
            raise
        finally:
            self._is_running = False

    def kernels(self, rows: Sequence[Row]) -> tuple[set[str], set[str]]:
        """Begin sentences that were spoken before once more; see ``attention.watch``.

        Returns:
            The attention kernels of the prefill and those of a step.

        Raises:
            RuntimeError: A run is not over, or there was none.
        """
        if self._is_running or self._batch is None:
            raise RuntimeError("kernels are seen after a run that is over")
        batch = self._batch
        arrivals = [(i, row) for i, row in enumerate(rows) if batch.reserve(i, row)]
        try:
            with watch() as in_prefill:
                batch.begin(arrivals, is_watched=True)
            with watch() as in_step:
                batch.advance(is_watched=True)
        finally:
            batch.release([i for i, _ in arrivals])
        return in_prefill, in_step

    def spoken(self, rows: Sequence[Row]) -> list[Spoken]:
        """Speak all, the longest texts first, so that no long one is alone at the end."""
        if not rows:
            return []
        n_needed = max(len(row.characters) + row.cap for row in rows) + 1
        n_needed += self.generator.look_every
        n_slots = -(-n_needed // CAPACITY) * CAPACITY
        ordered = sorted(rows, key=lambda row: -len(row.characters))
        # Equal rows say the same: their random streams are equal too.
        found = {f.request: f.unwrap() for f in self.run(ordered, n_slots=n_slots)}
        return [found[row] for row in rows]
