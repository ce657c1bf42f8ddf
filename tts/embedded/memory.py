"""What a batch writes to: its state, its cache of keys and values, its captured steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from tts.compilation import StepGraph
from tts.decoder import DecoderConfig
from tts.embedded.state import State
from tts.kv_cache import BucketedCache, DynamicCache, StaticCache, StaticInt8Cache, bucket
from tts.options import KvCache, Options
from tts.paged_cache import PAGE_SIZE, PagedCache
from tts.types import Applied

FixedCache = StaticCache | BucketedCache | StaticInt8Cache | PagedCache
Cache = DynamicCache | FixedCache

CAPACITY = 1024  # tokens and cache slots come in multiples of this: few shapes to compile


@dataclass(kw_only=True, eq=False)
class Memory:
    """What a batch writes to, kept from batch to batch where addresses must not change.

    ``graphs`` holds one captured step for each number of slots that a step may read; ``turn``
    counts the batches that wrote here.
    """

    state: State
    cache: Cache | None
    graphs: dict[int, StepGraph] = field(default_factory=dict)
    turn: int = 0

    def capture(self, step: Callable[[Memory, int], Tensor], n_needed: int) -> int:
        """Capture the steps that a batch of up to ``n_needed`` slots may run; return how many.

        All of them at once, so that the first long utterance does not stop to capture.
        """
        assert self.cache is not None
        assert not isinstance(self.cache, DynamicCache)
        n_before = len(self.graphs)
        for size in sizes(self.cache, n_needed):
            if size not in self.graphs:
                self.cache.show(size)
                self.state.positions.zero_()  # the dry runs must stay inside the buffers
                self.state.step.zero_()
                self.graphs[size] = StepGraph(partial(step, self, size), self._device)
        return len(self.graphs) - n_before

    @property
    def _device(self) -> torch.device:
        return self.state.positions.device


def sizes(cache: Cache, n_needed: int) -> list[int]:
    """Return how many slots a captured step may read, for a batch of up to ``n_needed``."""
    assert not isinstance(cache, DynamicCache)
    if not isinstance(cache, BucketedCache):
        return [cache.n_slots]
    found = [bucket(1, cache.n_slots)]
    while found[-1] < min(n_needed, cache.n_slots):
        found.append(bucket(found[-1] + 1, cache.n_slots))
    return found


def static_cache(
    options: Options,
    config: DecoderConfig,
    *,
    n_lanes: int,
    n_slots: int,
    dtype: torch.dtype,
    device: torch.device,
    keeps_buckets: bool,
    n_pages: int | None = None,
) -> FixedCache:
    """Return a cache whose shapes do not follow from the number of tokens.

    Args:
        options: What to build.
        config: The decoder's shape.
        n_lanes: The decoder's rows.
        n_slots: The most positions per row.
        dtype: Of new keys and values.
        device: Where they lie.
        keeps_buckets: Whether a captured graph knows the buffers by address.
        n_pages: Of a paged cache; enough for all lanes if not given.
    """
    shape = (n_lanes, config.n_kv_heads, n_slots, config.head_dim)
    is_raw = options.attention == "split_k"  # which reads what the others cannot
    if options.kv_cache == "static_int8":
        return StaticInt8Cache(config.n_layers, shape, device, is_raw=is_raw)
    if options.kv_cache == "paged":
        return PagedCache(config.n_layers, shape, dtype, device, n_pages=n_pages, is_raw=is_raw)
    if options.kv_cache == "bucketed":
        return BucketedCache(config.n_layers, shape, dtype, device, keeps_buckets=keeps_buckets)
    return StaticCache(config.n_layers, shape, dtype, device)


def describe_cache(layout: KvCache, n_layers: int, dtype: torch.dtype) -> Applied:
    """Say where keys and values will live."""
    details = {
        "none": "every step runs the whole sequence again",
        "dynamic": f"{dtype}, as long as the longest row, grown by concatenation",
        "static": f"{dtype}, a multiple of {CAPACITY} slots, written by index",
        "bucketed": f"{dtype}, a power of two of slots that doubles with what is live",
        "static_int8": f"int8 with a float32 scale per token and head, multiples of {CAPACITY}",
        "paged": f"{dtype}, pages of {PAGE_SIZE} slots anywhere in one pool",
    }
    n_modules = 0 if layout == "none" else n_layers
    return Applied(name="kv_cache", value=layout, n_modules=n_modules, detail=details[layout])
