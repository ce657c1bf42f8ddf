"""Where the keys and values of earlier positions live while a decoder generates.

Rows are left-aligned: position p of every row sits in slot p, so rows of different prefix lengths
share one buffer. Right padding of a prefill leaves rubbish in slots that later steps overwrite
before they are first attended to.
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
