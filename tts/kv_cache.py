"""Where the keys and values of earlier positions live while a decoder generates.

Rows are left-aligned: position p of every row sits in slot p, so rows of different prefix lengths
share one buffer. Right padding of a prefill leaves rubbish in slots that later steps overwrite
before they are first attended to.

The first call, with several new entries, is the prefill: nothing lies before it, so it returns
what it was given. Every later call brings one entry per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

FIRST_BUCKET = 256  # slots; below this a step gains nothing that a graph or a kernel could show


class Int8Slots(NamedTuple):
    """Keys or values in 8 bits, for an attention kernel that reads them as they are.

    Args:
        codes: Shape (batch, kv_heads, n_slots, head_dim), int8.
        scales: Shape (batch, kv_heads, n_slots, 1), float32; the values are ``codes * scales``.
    """

    codes: Tensor
    scales: Tensor


class PagedSlots(NamedTuple):
    """Keys or values in pages, for an attention kernel that looks up which are a row's.

    Args:
        pages: The pool, shape (n_pages, kv_heads, page_size, head_dim).
        block_table: The pages of each row in order, shape (batch, n), int32.
    """

    pages: Tensor
    block_table: Tensor


Slots = Tensor | Int8Slots | PagedSlots


class LayerCache(Protocol):
    """Keys and values of one layer, for one batch."""

    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Slots, Slots]:
        """Write new keys and values and return all that may be attended to.

        Args:
            k: Shape (batch, kv_heads, n_new, head_dim).
            v: As ``k``.
            positions: Shape (batch, n_new), int64: the slot of each new entry.

        Returns:
            Keys and values, shape (batch, kv_heads, n_slots, head_dim), as the attention in use
            reads them.
        """
        ...


class KvCache(Protocol):
    """The caches of all layers, in order."""

    @property
    def layers(self) -> Sequence[LayerCache]:
        """One cache per layer."""
        ...


def causal_mask(positions: Tensor, n_slots: int) -> Tensor:
    """Return shape (batch, 1, n_new, n_slots), True where a query may look: slots up to its own."""
    slots = torch.arange(n_slots, device=positions.device)
    return slots <= positions[:, None, :, None]


class DynamicCache:
    """Exactly as long as the longest row: grown by one slot a step, by concatenation.

    Args:
        n_layers: Layers of the decoder.
        is_ragged: Whether rows have different prefix lengths; a row behind the longest one then
            writes its entry into a slot of its own.
    """

    def __init__(self, n_layers: int, *, is_ragged: bool) -> None:
        self.layers = [_DynamicLayer(is_ragged) for _ in range(n_layers)]


class _DynamicLayer:
    def __init__(self, is_ragged: bool) -> None:
        self.is_ragged = is_ragged
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See ``LayerCache.update``."""
        if self.keys is None or self.values is None:
            self.keys, self.values = k, v
            return k, v
        self.keys = torch.cat((self.keys, k), dim=2)
        self.values = torch.cat((self.values, v), dim=2)
        if self.is_ragged:
            index = positions[:, None, :, None].expand_as(k)
            self.keys.scatter_(2, index, k)
            self.values.scatter_(2, index, v)
        return self.keys, self.values


class Shown(Protocol):
    """A layer of which steps see the first ``n_live`` slots."""

    n_live: int


class ShownCache:
    """A cache of such layers."""

    layers: Sequence[Shown]

    def show(self, n_live: int) -> None:
        """Let steps see the first ``n_live`` slots; a kernel that reads raw pages sees them all."""
        for layer in self.layers:
            layer.n_live = n_live


class StaticCache(ShownCache):
    """Buffers of a fixed size, written by index: the same addresses and shapes at every step.

    A step returns the first ``n_live`` slots; whoever steers it sets that to cover all positions.

    Args:
        n_layers: Layers of the decoder.
        shape: (batch, kv_heads, n_slots, head_dim).
        dtype: Of keys and values.
        device: Where the buffers lie: ``keys`` and ``values``, (n_layers, *shape).
    """

    def __init__(
        self,
        n_layers: int,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.n_slots = shape[2]
        self.keys = torch.zeros((n_layers, *shape), dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        pairs = zip(self.keys, self.values, strict=True)
        self.layers: list[StaticLayer] = [StaticLayer(k, v) for k, v in pairs]


class StaticLayer:
    """One layer of a ``StaticCache``: ``keys`` and ``values``, (batch, kv_heads, slots, d)."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.n_live = keys.shape[2]
        self.rows = torch.arange(len(keys), device=keys.device)[:, None]
        self.keys, self.values = keys, values

    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See ``LayerCache.update``."""
        if k.shape[2] > 1:
            self.keys[:, :, : k.shape[2]] = k
            self.values[:, :, : v.shape[2]] = v
            return k, v
        self.keys[self.rows, :, positions] = k.transpose(1, 2)
        self.values[self.rows, :, positions] = v.transpose(1, 2)
        return self.keys[:, :, : self.n_live], self.values[:, :, : self.n_live]


class BucketedCache:
    """As ``StaticCache``, but as long as the next power of two above what is live.

    It grows by copying into buffers twice as long. A smaller bucket's buffers stay where they
    are if they were asked to, because a captured graph knows them by address; a batch that starts
    anew starts in a small bucket again.

    Args:
        n_layers: Layers of the decoder.
        shape: (batch, kv_heads, n_slots, head_dim); n_slots is the most it may grow to.
        dtype: Of keys and values.
        device: Where the buffers lie.
        keeps_buckets: Whether buffers once made keep their addresses.
    """

    def __init__(
        self,
        n_layers: int,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
        *,
        keeps_buckets: bool,
    ) -> None:
        self.n_layers, self.shape, self.dtype, self.device = n_layers, shape, dtype, device
        self.n_slots, self.keeps_buckets = shape[2], keeps_buckets
        self.buckets: dict[int, StaticCache] = {}
        self.n_live = 0

    @property
    def layers(self) -> Sequence[StaticLayer]:
        """The layers of the bucket in use."""
        return self.buckets[self.n_live].layers

    def show(self, n_live: int) -> None:
        """Use the bucket of so many slots, with what the smaller one in use until now holds."""
        size = bucket(n_live, self.n_slots)
        if size == self.n_live:
            return
        used = self.buckets.get(self.n_live)
        if not self.keeps_buckets:
            self.buckets.clear()
        if size not in self.buckets:
            shape = (*self.shape[:2], size, self.shape[3])
            self.buckets[size] = StaticCache(self.n_layers, shape, self.dtype, self.device)
        if used is not None and used.n_slots < size:
            self.buckets[size].keys[:, :, :, : used.n_slots] = used.keys
            self.buckets[size].values[:, :, :, : used.n_slots] = used.values
        self.n_live = size


def bucket(n_used: int, n_slots: int) -> int:
    """Return the power of two that holds ``n_used`` slots, in [``FIRST_BUCKET``, ``n_slots``]."""
    return min(n_slots, max(FIRST_BUCKET, 1 << (n_used - 1).bit_length()))


class StaticInt8Cache(ShownCache):
    """As ``StaticCache``, in 8 bits with one float32 scale per token and head.

    About a quarter (of float32) or half (of 16 bit) of the memory.

    Args:
        n_layers: Layers of the decoder.
        shape: (batch, kv_heads, n_slots, head_dim).
        device: Where the buffers lie: ``keys`` and ``values``, (n_layers, *shape), and their
            scales with a last dimension of 1.
        is_raw: Whether a step returns ``Int8Slots``; otherwise numbers of the new entries' type.
    """

    def __init__(
        self,
        n_layers: int,
        shape: tuple[int, int, int, int],
        device: torch.device,
        *,
        is_raw: bool = False,
    ) -> None:
        self.n_slots = shape[2]
        self.keys = torch.zeros((n_layers, *shape), dtype=torch.int8, device=device)
        self.values = torch.zeros_like(self.keys)
        self.key_scales = torch.zeros((n_layers, *shape[:3], 1), device=device)
        self.value_scales = torch.zeros_like(self.key_scales)
        buffers = zip(self.keys, self.values, self.key_scales, self.value_scales, strict=True)
        self.layers: list[StaticInt8Layer] = [
            StaticInt8Layer(*four, is_raw=is_raw) for four in buffers
        ]


class StaticInt8Layer:
    """One layer of a ``StaticInt8Cache``."""

    def __init__(
        self,
        keys: Tensor,
        values: Tensor,
        key_scales: Tensor,
        value_scales: Tensor,
        *,
        is_raw: bool,
    ) -> None:
        self.n_live, self.is_raw = keys.shape[2], is_raw
        self.rows = torch.arange(len(keys), device=keys.device)[:, None]
        self.keys, self.values = keys, values
        self.key_scales, self.value_scales = key_scales, value_scales

    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Slots, Slots]:
        """See ``LayerCache.update``."""
        for x, codes, scales in (
            (k, self.keys, self.key_scales),
            (v, self.values, self.value_scales),
        ):
            new_codes, new_scales = quantize_rows(x)
            if x.shape[2] > 1:
                codes[:, :, : x.shape[2]] = new_codes
                scales[:, :, : x.shape[2]] = new_scales
            else:
                codes[self.rows, :, positions] = new_codes.transpose(1, 2)
                scales[self.rows, :, positions] = new_scales.transpose(1, 2)
        if k.shape[2] > 1:
            return k, v
        n = self.n_live
        keys = Int8Slots(self.keys[:, :, :n], self.key_scales[:, :, :n])
        values = Int8Slots(self.values[:, :, :n], self.value_scales[:, :, :n])
        if self.is_raw:
            return keys, values
        return read_int8(keys, k.dtype), read_int8(values, v.dtype)


def read_int8(slots: Int8Slots, dtype: torch.dtype) -> Tensor:
    """Return what 8-bit slots stand for, shape (batch, kv_heads, n_slots, head_dim)."""
    return (slots.codes.float() * slots.scales).to(dtype)


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize the last dimension symmetrically to int8.

    Returns:
        Codes in [-127, 127], shaped as ``x``, and float32 scales with a last dimension of 1;
        ``codes * scales`` is off by at most half a scale.
    """
    x32 = x.float()
    scales = x32.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / 127
    return (x32 / scales).round().to(torch.int8), scales
