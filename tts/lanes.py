"""Prefill a few rows of a cache while the others keep what they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from tts.kv_cache import (
    LayerCache,
    Slots,
    StaticCache,
    StaticInt8Cache,
    StaticInt8Layer,
    StaticLayer,
    quantize_rows,
)
from tts.paged_cache import PagedCache, PagedLayer

LaneCache = StaticCache | StaticInt8Cache | PagedCache


class Newcomers(NamedTuple):
    """Some rows of a cache, as the ``KvCache`` of a batch of their own."""

    layers: Sequence[LayerCache]


def newcomers(cache: LaneCache, lanes: Tensor) -> Newcomers:
    """Return the rows of a cache that a prefill is to fill.

    Args:
        cache: Of rows that come and go.
        lanes: Which rows, shape (n,), int64; one named twice must bring the same entries twice.
    """
    return Newcomers([_view(layer, lanes) for layer in cache.layers])


def _view(layer: StaticLayer | StaticInt8Layer | PagedLayer, lanes: Tensor) -> LayerCache:
    if isinstance(layer, PagedLayer):
        return PagedLayer(layer.keys, layer.values, layer.block_table[lanes])
    return _Lanes(layer, lanes)


class _Lanes:
    """A prefill's view of a layer whose rows are buffers of one length."""

    def __init__(self, layer: StaticLayer | StaticInt8Layer, lanes: Tensor) -> None:
        self.layer, self.lanes = layer, lanes

    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Slots, Slots]:
        """Write from slot 0 on; see ``LayerCache.update``."""
        del positions  # a prefill's are 0, 1, 2, ...
        layer, lanes, n = self.layer, self.lanes, k.shape[2]
        if isinstance(layer, StaticLayer):
            layer.keys[lanes, :, :n] = k
            layer.values[lanes, :, :n] = v
            return k, v
        for x, codes, scales in (
            (k, layer.keys, layer.key_scales),
            (v, layer.values, layer.value_scales),
        ):
            codes[lanes, :, :n], scales[lanes, :, :n] = quantize_rows(x)
        return k, v
