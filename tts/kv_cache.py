"""Where the keys and values of earlier positions live while a decoder generates.

Rows are left-aligned: position p of every row sits in slot p, so rows of different prefix lengths
share one buffer. Right padding of a prefill leaves rubbish in slots that later steps overwrite
before they are first attended to.

The first call, with several new entries, is the prefill: nothing lies before it, so it returns
what it was given. Every later call brings one entry per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class LayerCache(Protocol):
    """Keys and values of one layer, for one batch."""

    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values and return all that may be attended to.

        Args:
            k: Shape (batch, kv_heads, n_new, head_dim).
            v: As ``k``.
            positions: Shape (batch, n_new), int64: the slot of each new entry.

        Returns:
            Keys and values, shape (batch, kv_heads, n_slots, head_dim).
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


class StaticCache:
    """Buffers of a fixed size, written by index: the same addresses and shapes at every step.

    A step returns the first ``n_live`` slots; whoever steers it sets that to cover all positions.

    Args:
        n_layers: Layers of the decoder.
        shape: (batch, kv_heads, n_slots, head_dim).
        dtype: Of keys and values.
        device: Where the buffers lie.
    """

    def __init__(
        self,
        n_layers: int,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.n_slots = shape[2]
        self.layers = [_StaticLayer(shape, dtype, device) for _ in range(n_layers)]

    def show(self, n_live: int) -> None:
        """Let steps see the first ``n_live`` slots."""
        for layer in self.layers:
            layer.n_live = n_live


class _StaticLayer:
    def __init__(
        self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.n_live = shape[2]
        self.rows = torch.arange(shape[0], device=device)[:, None]
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See ``LayerCache.update``."""
        if k.shape[2] > 1:
            self.keys[:, :, : k.shape[2]] = k
            self.values[:, :, : v.shape[2]] = v
            return k, v
        self.keys[self.rows, :, positions] = k.transpose(1, 2)
        self.values[self.rows, :, positions] = v.transpose(1, 2)
        return self.keys[:, :, : self.n_live], self.values[:, :, : self.n_live]


class StaticInt8Cache:
    """As ``StaticCache``, in 8 bits with one float32 scale per token and head.

    About a quarter (of float32) or half (of 16 bit) of the memory; read back in the type of the
    new entries.
    """

    def __init__(
        self, n_layers: int, shape: tuple[int, int, int, int], device: torch.device
    ) -> None:
        self.n_slots = shape[2]
        self.layers = [_StaticInt8Layer(shape, device) for _ in range(n_layers)]

    def show(self, n_live: int) -> None:
        """Let steps see the first ``n_live`` slots."""
        for layer in self.layers:
            layer.n_live = n_live


class _StaticInt8Layer:
    def __init__(self, shape: tuple[int, int, int, int], device: torch.device) -> None:
        self.n_live = shape[2]
        self.rows = torch.arange(shape[0], device=device)[:, None]
        self.keys = torch.zeros(shape, dtype=torch.int8, device=device)
        self.values = torch.zeros(shape, dtype=torch.int8, device=device)
        self.key_scales = torch.zeros((*shape[:3], 1), device=device)
        self.value_scales = torch.zeros((*shape[:3], 1), device=device)

    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
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
        keys = self.keys[:, :, :n].float() * self.key_scales[:, :, :n]
        values = self.values[:, :, :n].float() * self.value_scales[:, :, :n]
        return keys.to(k.dtype), values.to(v.dtype)


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize the last dimension symmetrically to int8.

    Returns:
        Codes in [-127, 127], shaped as ``x``, and float32 scales with a last dimension of 1;
        ``codes * scales`` is off by at most half a scale.
    """
    x32 = x.float()
    scales = x32.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / 127
    return (x32 / scales).round().to(torch.int8), scales
