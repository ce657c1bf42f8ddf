"""Where the keys and values of earlier positions live while a decoder generates.

Rows are left-aligned: position p of every row sits in slot p, so rows of different prefix lengths
share one buffer. Right padding of a prefill leaves rubbish in slots that later steps overwrite
before they are first attended to.

The first call, with several new entries, is the prefill: nothing lies before it, so it returns
what it was given. Every later call brings one entry per row.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class KvCache(Protocol):
    """Keys and values of all layers, for one batch."""

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values and return all that may be attended to.

        Args:
            layer: Which layer writes.
            k: Shape (batch, kv_heads, n_new, head_dim).
            v: As ``k``.
            positions: Shape (batch, n_new), int64: the slot of each new entry.

        Returns:
            Keys and values, shape (batch, kv_heads, n_slots, head_dim).
        """
        ...


def causal_mask(positions: Tensor, n_slots: int) -> Tensor:
    """Return shape (batch, 1, n_new, n_slots), True where a query may look: slots up to its own."""
    slots = torch.arange(n_slots, device=positions.device)
    return slots <= positions[:, None, :, None]


class DynamicCache:
    """Exactly as long as the longest row: grown by one slot a step, by concatenation.

    Args:
        n_layers: Layers that write.
        is_ragged: Whether rows have different prefix lengths; a row behind the longest one then
            writes its entry into a slot of its own.
    """

    def __init__(self, n_layers: int, *, is_ragged: bool) -> None:
        self.is_ragged = is_ragged
        self.keys: list[Tensor | None] = [None] * n_layers
        self.values: list[Tensor | None] = [None] * n_layers

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See ``KvCache.update``."""
        old_k, old_v = self.keys[layer], self.values[layer]
        if old_k is None or old_v is None:
            self.keys[layer], self.values[layer] = k, v
            return k, v
        new_k, new_v = torch.cat((old_k, k), dim=2), torch.cat((old_v, v), dim=2)
        if self.is_ragged:
            index = positions[:, None, :, None].expand_as(k)
            new_k.scatter_(2, index, k)
            new_v.scatter_(2, index, v)
        self.keys[layer], self.values[layer] = new_k, new_v
        return new_k, new_v


class StaticCache:
    """Buffers of a fixed size, written by index: same addresses and shapes at every step.

    Args:
        n_layers: Layers that write.
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
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(n_layers)]

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See ``KvCache.update``; a step returns the first ``n_slots`` slots."""
        keys, values = self.keys[layer], self.values[layer]
        if k.shape[2] > 1:
            keys[:, :, : k.shape[2]] = k
            values[:, :, : v.shape[2]] = v
            return k, v
        index = positions[:, None, :, None].expand_as(k)
        keys.scatter_(2, index, k)
        values.scatter_(2, index, v)
        return keys[:, :, : self.n_slots], values[:, :, : self.n_slots]

    def tensors(self) -> list[Tensor]:
        """Return every buffer; their addresses never change."""
        return [*self.keys, *self.values]


class StaticInt8Cache:
    """As ``StaticCache``, in 8 bits with one float32 scale per token and head.

    A quarter (float32) or half (16 bit) of the memory; read back in the type of the new entries.
    """

    def __init__(
        self, n_layers: int, shape: tuple[int, int, int, int], device: torch.device
    ) -> None:
        self.n_slots = shape[2]
        self.buffers = [
            (
                torch.zeros(shape, dtype=torch.int8, device=device),
                torch.zeros((*shape[:3], 1), dtype=torch.float32, device=device),
            )
            for _ in range(2 * n_layers)
        ]

    def update(self, layer: int, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """See ``KvCache.update``; a step returns the first ``n_slots`` slots."""
        self._write(2 * layer, k, positions)
        self._write(2 * layer + 1, v, positions)
        if k.shape[2] > 1:
            return k, v
        return self._read(2 * layer, k.dtype), self._read(2 * layer + 1, v.dtype)

    def tensors(self) -> list[Tensor]:
        """Return every buffer; their addresses never change."""
        return [tensor for pair in self.buffers for tensor in pair]

    def _write(self, i: int, x: Tensor, positions: Tensor) -> None:
        codes, scales = self.buffers[i]
        new_codes, new_scales = quantize_rows(x)
        if x.shape[2] > 1:
            codes[:, :, : x.shape[2]] = new_codes
            scales[:, :, : x.shape[2]] = new_scales
            return
        index = positions[:, None, :, None]
        codes.scatter_(2, index.expand_as(new_codes), new_codes)
        scales.scatter_(2, index.expand_as(new_scales), new_scales)

    def _read(self, i: int, dtype: torch.dtype) -> Tensor:
        codes, scales = self.buffers[i]
        n = self.n_slots
        return (codes[:, :, :n].float() * scales[:, :, :n]).to(dtype)


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize the last dimension symmetrically to int8.

    Returns:
        Codes in [-127, 127], shaped as ``x``, and float32 scales with a last dimension of 1;
        ``codes * scales`` is off by at most half a scale.
    """
    x32 = x.float()
    scales = x32.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / 127
    return (x32 / scales).round().to(torch.int8), scales
