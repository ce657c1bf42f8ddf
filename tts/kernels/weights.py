"""Weights of matrix products in the layouts that our kernels read: as they are, 8 bits, 4 bits.

Codes are kept in 16-bit words of several inputs that lie apart, so that a program reads words and
inputs in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tts.kv_cache import quantize_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Int8Rows:
    """A weight (out, in) in 8 bits, one scale per output row.

    Args:
        words: Shape (out, in / 2), int16. The low byte of word j is the code of input j, the high
            byte that of input j + in / 2, both plus 128.
        scales: Shape (out,), float32.
    """

    words: Tensor
    scales: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.words.shape[0], 2 * self.words.shape[1]

    def codes(self) -> Tensor:
        """Return the codes, shape (out, in), int32, from -127 to 127."""
        bits = self.words.to(torch.int32)
        return torch.cat((bits & 255, bits >> 8 & 255), dim=1) - 128

    def dequantized(self) -> Tensor:
        """Return the weight that the codes stand for, float32."""
        return self.codes() * self.scales[:, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Int4Rows:
    """A weight (out, in) in 4 bits, one scale per output row and group of inputs.

    Args:
        words: Shape (out, in / 4), int16. Bits 4 i to 4 i + 3 of word j of a group are the code of
            its input j + i group / 4, plus 8.
        scales: Shape (out, in / group), bfloat16.
        group: Inputs that share a scale, a power of two.
    """

    words: Tensor
    scales: Tensor
    group: int

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.words.shape[0], 4 * self.words.shape[1]

    def codes(self) -> Tensor:
        """Return the codes, shape (out, in), int32, from -7 to 7."""
        n_out, n_groups = self.scales.shape
        bits = self.words.to(torch.int32).view(n_out, n_groups, self.group // 4)
        parts = [bits >> 4 * i & 15 for i in range(4)]
        return (torch.cat(parts, dim=-1) - 8).view(n_out, -1)

    def dequantized(self) -> Tensor:
        """Return the weight that the codes stand for, float32."""
        codes = self.codes().view(*self.scales.shape, self.group)
        return (codes * self.scales.float()[..., None]).flatten(1)


Weight = Tensor | Int8Rows | Int4Rows


def to_int8(weight: Tensor) -> Int8Rows:
    """Quantize a weight (out, in) to 8 bits, symmetrically.

    Raises:
        ValueError: An odd number of inputs.
    """
    if weight.shape[1] % 2:
        raise ValueError(f"{weight.shape[1]} inputs cannot be paired")
    codes, scales = quantize_rows(weight)
    low, high = (codes.to(torch.int32) + 128).chunk(2, dim=1)
    return Int8Rows(words=_words(low | high << 8), scales=scales[:, 0].contiguous())


def to_int4(weight: Tensor, group: int) -> Int4Rows:
    """Quantize a weight (out, in) to 4 bits, symmetrically.

    Raises:
        ValueError: The inputs are no multiple of the group, or the group is no power of two.
    """
    n_out, n_in = weight.shape
    if group < 4 or group & (group - 1) or n_in % group:
        raise ValueError(f"{n_in} inputs cannot be cut into groups of {group}")
    grouped = weight.float().view(n_out, -1, group)
    # The scale is rounded first, so that the codes are the nearest ones to what it will give.
    scales = (grouped.abs().amax(dim=-1).clamp(min=1e-8) / 7).to(torch.bfloat16)
    codes = (grouped / scales.float()[..., None]).round().clamp(-7, 7).to(torch.int32) + 8
    words = sum(
        (part << 4 * i for i, part in enumerate(codes.chunk(4, dim=-1))), start=codes.new_zeros(())
    )
    return Int4Rows(words=_words(words).view(n_out, n_in // 4), scales=scales, group=group)


def _words(bits: Tensor) -> Tensor:
    """Keep the lower 16 bits."""
    return ((bits + 32768) % 65536 - 32768).to(torch.int16).contiguous()
