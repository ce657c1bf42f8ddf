"""A Llama-style decoder: RMSNorm, rotary positions, grouped queries, SwiGLU.

It turns embeddings into hidden states. What the embeddings mean and what is sampled from the
hidden states belongs to the model that holds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts.kv_cache import KvCache, LayerCache


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
    """How Llama 3.1 stretches rotary positions: slow frequencies by ``factor``, fast ones not.

    Args:
        factor: How many times longer the longest wave becomes.
        low_freq_factor: Waves longer than ``original_context / low_freq_factor`` are stretched.
        high_freq_factor: Waves shorter than ``original_context / high_freq_factor`` stay; those
            in between are interpolated.
        original_context: Positions that the model was first trained on.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The shape of a decoder.

    ``head_width`` is for heads that do not share out ``width``; read ``head_dim``.
    """

    n_layers: int
    width: int
    n_heads: int
    n_kv_heads: int
    ffn_width: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    qk_norm: bool = False
    dropout: float = 0.0
    rope_scaling: Llama3Scaling | None = None
    head_width: int | None = None

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.head_width or self.width // self.n_heads

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> DecoderConfig:
        """Build from nested plain values, such as ``dataclasses.asdict`` gives.

        Raises:
            TypeError: An unknown key.
        """
        values = dict(mapping)
        scaling = values.pop("rope_scaling", None)
        return cls(**values, rope_scaling=None if scaling is None else Llama3Scaling(**scaling))


class Where(NamedTuple):
    """Where the new entries of each row stand and what they may look at.

    Args:
        positions: Shape (batch, n), int64: rotary position and cache slot of each entry.
        rope: Cosine and sine from ``rotary_table``, for ``rotate``.
        mask: Boolean, broadcastable to (batch, heads, n, n_keys), True where a query may look;
            None means causal over the new entries themselves, or, with one, everything that the
            attention kernel does not leave out by ``lengths``.
        lengths: Shape (batch,), int32: the cache slots in use, the new entry's among them; None
            unless there is a cache and one new entry per row.
    """

    positions: Tensor
    rope: tuple[Tensor, Tensor]
    mask: Tensor | None
    lengths: Tensor | None


# Queries (batch, heads, n, head_dim), keys and values (batch, kv_heads, n_keys, head_dim), the
# latter as the cache hands them out; it may hand out 8-bit slots to a kernel that reads them.
Attend = Callable[[Tensor, Any, Any, Where], Tensor]


def sdpa(q: Tensor, k: Tensor, v: Tensor, where: Where) -> Tensor:
    """Attend with PyTorch's own choice of kernel: the default ``Attend``."""
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=where.mask,
        is_causal=where.mask is None and q.shape[2] > 1,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def inverse_frequencies(config: DecoderConfig, device: torch.device) -> Tensor:
    """Return the rotary angle per position of each pair of a head: (head_dim / 2,), float32.

    Source: Su et al. 2021, RoFormer; the scaling is that of the Llama 3.1 model card.
    """
    exponents = torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float32)
    frequencies = config.rope_theta ** (-exponents / config.head_dim)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    # How many whole waves the original context held: few are slow, and stretched.
    n_waves = scaling.original_context * frequencies / (2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = ((n_waves - scaling.low_freq_factor) / span).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / scaling.factor)


def rotary_table(positions: Tensor, config: DecoderConfig) -> tuple[Tensor, Tensor]:
    """Return cosine and sine, each (batch, 1, n, head_dim), float32, for (batch, n) positions.

    The half-split layout of Llama checkpoints.
    """
    frequencies = inverse_frequencies(config, positions.device)
    angles = positions[:, None, :, None].float() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def signed(table: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the table for ``rotate``: the sine of each pair's first half with a minus."""
    cos, sin = table
    first, second = sin.chunk(2, dim=-1)
    return cos, torch.cat((-first, second), dim=-1)


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary positions, from ``signed``, to (batch, heads, n, head_dim).

    In few operations: without a compiler each is a kernel of its own.
    """
    x32 = x.float()
    swapped = x32.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x32 * table[0], swapped, table[1]).to(x.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square layer norm, computed in float32 (Zhang and Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        if x.dtype == self.weight.dtype:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        # Under autocast, in training.
        scaled = F.rms_norm(x.to(self.weight.dtype), self.weight.shape, self.weight, self.eps)
        return scaled.to(x.dtype)


class SelfAttention(nn.Module):
    """Causal self-attention with rotary positions over an optional KV cache."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        n_out = (config.n_heads + 2 * config.n_kv_heads) * config.head_dim
        self.qkv = nn.Linear(config.width, n_out, bias=False)
        self.out = nn.Linear(config.n_heads * config.head_dim, config.width, bias=False)
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.norm_eps)

    def forward(self, x: Tensor, where: Where, cache: LayerCache | None, attend: Attend) -> Tensor:
        """Attend; shapes as in ``Decoder.forward``."""
        c, (batch, n, _) = self.config, x.shape
        heads = self.qkv(x).view(batch, n, -1, c.head_dim).transpose(1, 2)
        qk, v = heads.split((c.n_heads + c.n_kv_heads, c.n_kv_heads), dim=1)
        if c.qk_norm:
            q, k = qk.split((c.n_heads, c.n_kv_heads), dim=1)
            qk = torch.cat((self.q_norm(q), self.k_norm(k)), dim=1)
        qk = rotate(qk, where.rope)
        q, k = qk[:, : c.n_heads], qk[:, c.n_heads :]
        if cache is not None:
            k, v = cache.update(k, v, where.positions)
        y = attend(q, k, v, where)
        return self.out(y.transpose(1, 2).reshape(batch, n, -1))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """SwiGLU feed-forward (Shazeer 2020), gate and up projections in one matrix."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.width, 2 * config.ffn_width, bias=False)
        self.down = nn.Linear(config.ffn_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)  # type: ignore[no-any-return]


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width, config.norm_eps)
        self.attention = SelfAttention(config)
        self.ffn_norm = RMSNorm(config.width, config.norm_eps)
        self.ffn = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, where: Where, cache: LayerCache | None, attend: Attend) -> Tensor:
        """Shapes as in ``Decoder.forward``."""
        h = self.attention(self.attention_norm(x), where, cache, attend)
        x = x + self.dropout(h)
        return x + self.dropout(self.ffn(self.ffn_norm(x)))  # type: ignore[no-any-return]


def run_block(
    block: Block, x: Tensor, where: Where, cache: LayerCache | None, attend: Attend
) -> Tensor:
    """Run one layer: one piece of code for all of them, which is what gets compiled."""
    return block(x, where, cache, attend)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """The stack of layers and the final norm.

    ``run_step`` runs a layer where there is one new entry per row; compilation replaces it.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.attend: Attend = sdpa
        self.run_step = run_block

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        cache: KvCache | None = None,
    ) -> Tensor:
        """Run all layers.

        Args:
            x: Embeddings, shape (batch, n, width).
            positions: Shape (batch, n), int64, the rotary position and cache slot of each entry.
            mask: Boolean, broadcastable to (batch, heads, n, n_keys), True where a query may
                look; None means causal over ``x`` itself, or, with one new entry, everything.
            cache: Keys and values of earlier positions, or None to look at ``x`` alone.

        Returns:
            Normalised hidden states, shape (batch, n, width).
        """
        is_step = x.shape[1] == 1 and cache is not None
        where = Where(
            positions=positions,
            rope=signed(rotary_table(positions, self.config)),
            mask=mask,
            lengths=(positions[:, -1] + 1).to(torch.int32) if is_step else None,
        )
        run = self.run_step if is_step else run_block
        for i, block in enumerate(self.blocks):
            layer = None if cache is None else cache.layers[i]
            x = run(block, x, where, layer, self.attend)  # type: ignore[arg-type]
        return self.norm(x)  # type: ignore[no-any-return]
