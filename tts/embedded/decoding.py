"""A batch of the embedded voice held between two steps, for a profile to take apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.profiler import record_function

from tts import costs
from tts.attention import only
from tts.embedded.generation import Batch, Generator
from tts.embedded.memory import Cache
from tts.embedded.state import Row
from tts.embedded.vocoder import Vocoder
from tts.kv_cache import BucketedCache
from tts.options import Options, Quantization
from tts.profiled import Footprint, StepCost

LEAST_STEPS = 64  # room for a profile, however short the text
# Those that multiply in another format than the activations'.
_PRODUCTS: Mapping[Quantization, str] = {"int8_dynamic": "int8", "fp8": "fp8"}


class EmbeddedDecoding:
    """See ``tts.profiled.Decoding``.

    Args:
        generator: Draws the speech tokens.
        vocoder: Renders them.
        options: In canonical form.
        rows: What to speak; at most the batch size is spoken, the longest first.
    """

    batch: Batch

    def __init__(
        self, generator: Generator, vocoder: Vocoder, options: Options, rows: Sequence[Row]
    ) -> None:
        self.generator, self.vocoder, self.options = generator, vocoder, options
        ordered = sorted(rows, key=lambda row: -len(row.characters))[: options.batch_size]
        self.rows = [replace(row, cap=max(row.cap, LEAST_STEPS)) for row in ordered]
        self.restart()

    @torch.inference_mode()
    def restart(self) -> None:
        """Prefill anew."""
        with only(self.options.attention):
            self.batch = Batch(self.generator, self.rows)

    @torch.inference_mode()
    def advance(self, n_steps: int, *, is_watched: bool = False) -> None:
        """Run decode steps; rows that have ended cost as much as others.

        Raises:
            ValueError: There is no room for so many.
        """
        n_left = max(self.batch.caps) - self.batch.n_drawn
        if n_steps > n_left:
            raise ValueError(f"{n_steps} steps, but there is room for {n_left}: restart first")
        with only(self.options.attention):
            self.batch.advance(n_steps, is_watched=is_watched)

    def vocode(self) -> None:
        """Render the tokens drawn so far."""
        self.vocoder.sentences([spoken.tokens for spoken in self.batch.spoken()])

    @contextmanager
    def labelled(self) -> Iterator[None]:
        """Name the parts of prefill and step for torch's profiler while the block runs."""
        parts: tuple[tuple[Any, str, str], ...] = (
            (self.generator.lm, "embed_text", "embed"),
            (self.generator.lm, "logits", "head"),
            (self.generator.sampler, "draw", "sampling"),
        )
        for owner, name, label in parts:
            setattr(owner, name, _labelled(getattr(owner, name), label))
        try:
            yield
        finally:
            for owner, name, _ in parts:
                delattr(owner, name)

    def cost(self) -> StepCost:
        """Return what the next step cannot do without; single rows of tables are left out."""
        lm, options = self.generator.lm, self.options
        decoder, head = lm.decoder, lm.head
        n_matrix, n_halves = costs.linear_parameters(decoder), self._n_halves
        # Each row attends to its own entries: what pads it to the longest need not be touched.
        lives = [len(row.characters) + self.batch.n_drawn + 1 for row in self.rows]
        flops = 2 * head.out_features * head.in_features * len(lives)
        for n_live in lives:
            n_new = n_live if options.kv_cache == "none" else 1
            flops += costs.decoder_flops(decoder.config, n_matrix, n_halves, n_new, n_live)
        return StepCost(
            n_rows=len(lives),
            n_lanes=n_halves * len(lives),
            n_live=max(lives),
            weight_bytes=self._step_weights(),
            # Old ones are read, the new one is written.
            cache_bytes=self._cache_bytes(n_halves, sum(lives)),
            flops=flops,
            dtype=str(self.generator.table.dtype).removeprefix("torch."),
            product=_PRODUCTS.get(options.quantization, ""),
        )

    def footprint(self) -> Footprint:
        """Return what the model holds now."""
        lm, codec, cache = self.generator.lm, self.vocoder.codec, self.batch.memory.cache
        held = [*lm.parameters(), *lm.buffers(), *codec.parameters(), *codec.buffers()]
        n_slots = self._n_slots(cache)
        return Footprint(
            n_parameters=_n_parameters(lm) + _n_parameters(codec),
            weight_bytes_computed=costs.weight_bytes(lm, self.options.quantization)
            + costs.weight_bytes(codec, "none"),
            weight_bytes_seen=costs.seen_bytes(
                [*held, self.generator.table, *costs.tensors_of(self.generator.fused)]
            ),
            cache_slots=n_slots,
            cache_bytes_computed=self._cache_bytes(len(self.batch.memory.state.positions), n_slots),
            cache_bytes_seen=costs.seen_bytes(costs.tensors_of(cache)),
        )

    @property
    def _n_halves(self) -> int:
        """Lanes of a row: two with guidance."""
        state = self.batch.memory.state
        return len(state.positions) // len(state.last)

    @property
    def _n_used(self) -> int:
        return self.batch.longest + self.batch.n_drawn

    def _step_weights(self) -> int:
        """Return the bytes of the layers' and the head's weights as a step reads them."""
        lm = self.generator.lm
        head = costs.read_bytes([lm.head.weight])
        if self.generator.fused is not None:  # which reads weights of its own, packed
            return costs.weight_bytes(lm.decoder, self.options.quantization) + head
        return costs.read_bytes(lm.decoder.parameters()) + head

    def _n_slots(self, cache: Cache | None) -> int:
        """Return how many entries a row has room for just now."""
        if cache is None:
            return 0
        if isinstance(cache, BucketedCache):
            return cache.n_live
        return getattr(cache, "n_slots", self._n_used)

    def _cache_bytes(self, n_lanes: int, n_slots: int) -> int:
        config, dtype = self.generator.lm.decoder.config, self.generator.table.dtype
        return costs.cache_bytes(config, self.options.kv_cache, n_lanes, n_slots, dtype)


def _labelled(function: Callable[..., Any], label: str) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever it takes and gives
        with record_function(label):
            return function(*args, **kwargs)

    return run


def _n_parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
