"""How the weights of all layers lie for one launch: what each warp multiplies, lane by lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tts.kernels.weights import Int4Rows, Int8Rows, Weight

HEAD, WARPS, RANKS = 64, 16, 4  # of cuda/shape.cuh: width of a head, warps, blocks of a cluster
GROUP = 128  # inputs that share a scale in 4 bits
CODE_FACTORS = {8: 1, 4: 16}  # codes of 4 bits are multiplied as the upper half of a byte
MAX_ROWS, WIDTHS = 2, (256, 512, 1024)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the kernel is compiled for.

    Args:
        width: Of the residual stream.
        n_heads: Attention heads of 64, each with keys and values and a cluster of its own.
        ffn_width: Feed-forward channels.
        bits: Of a weight: 16, 8 or 4.
        qk_norm: Whether queries and keys are normed.
        n_rows: One or two.
    """

    width: int
    n_heads: int
    ffn_width: int
    bits: int
    qk_norm: bool
    n_rows: int

    @property
    def columns(self) -> int:
        """Columns of the stream that a block owns."""
        return self.width // RANKS

    @property
    def ffn(self) -> int:
        """Feed-forward channels of a block, filled up with zeros to a multiple of 16, or of 32."""
        multiple = 16 if self.bits == 16 else 32  # what goes into down shares scales by 32 or 64
        return -(-self.ffn_width // (self.n_heads * RANKS * multiple)) * multiple

    @property
    def k_warps(self) -> int:
        """Warps along the inputs of qkv, gate and up."""
        return self.width // 64

    @property
    def n_units(self) -> int:
        """Units of weights of a layer: 16 outputs and 64 inputs for each warp."""
        m_warps = WARPS // self.k_warps
        qkv, ffn = -(-(3 * HEAD // 16 // RANKS) // m_warps), -(-(self.ffn // 8) // m_warps)
        return qkv + 1 + ffn + self.ffn * RANKS // 64

    @property
    def stage_units(self) -> int:
        """Units that are copied together: 4 KiB a warp, or 2 in 4 bits, where that goes."""
        wanted = (2,) if self.bits == 16 else (4, 2)
        return next((n for n in wanted if self.n_units % n == 0), 1)

    @property
    def unit_bytes(self) -> int:
        """Bytes of a unit, of one warp."""
        return 16 * 64 * self.bits // 8

    def why_not(self) -> str | None:
        """Return what the kernel cannot take of it, or None."""
        n_blocks = self.n_heads * RANKS
        if not 1 <= self.n_rows <= MAX_ROWS:
            return f"{self.n_rows} rows are not one or two"
        if self.width not in WIDTHS:
            return f"a width of {self.width} is not among {', '.join(map(str, WIDTHS))}"
        if self.n_heads % 2:
            return f"{self.n_heads} heads are an odd number"
        if self.ffn_width % n_blocks:
            return f"{self.ffn_width} channels do not share out among {n_blocks} blocks"
        has_groups = self.ffn * n_blocks == self.ffn_width and not self.ffn * RANKS % GROUP
        if self.bits == 4 and not has_groups:
            return f"groups of {GROUP} channels do not share out among {self.n_heads} clusters"
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """Weights of all layers as the kernel reads them.

    Args:
        weights: Shape (heads, ranks, warps, layers, units, bytes), uint8.
        numbers: Gains and scales of a block, (layers, heads, ranks, numbers), float32.
        gains: Of the first norm and of the last, (2, width), float32.
    """

    weights: Tensor
    numbers: Tensor
    gains: Tensor


def pack(layers: Sequence[Any], last_norm: Tensor, shape: Shape) -> Packed:
    """Lay all layers out.

    Args:
        layers: ``tts.fused_weights.LayerWeights``.
        last_norm: Gains of the norm behind them.
        shape: Of the kernel.
    """
    laid, numbers = [], []
    for i, layer in enumerate(layers):
        matrices = (layer.qkv, layer.out, layer.gate_up, layer.down)
        laid.append(lay(units([codes(m) for m in matrices], shape), shape.bits))
        following = layers[i + 1].attention_norm if i + 1 < len(layers) else last_norm
        numbers.append(_numbers(layer, following, matrices, shape))
    gains = torch.stack((layers[0].attention_norm.float(), last_norm.float()))
    weights = torch.stack(laid).permute(1, 2, 4, 0, 3, 5).contiguous()
    return Packed(weights=weights, numbers=torch.stack(numbers), gains=gains)


def _numbers(
    layer: Any,  # noqa: ANN401 - as of ``pack``
    following: Tensor,
    matrices: Sequence[Weight],
    shape: Shape,
) -> Tensor:
    """Return a layer's gains and scales by block, (heads, ranks, numbers), float32."""
    n = shape.n_heads
    small = [  # two of 16 bits stand as one of 32
        gains.bfloat16().view(torch.float32).view(1, RANKS, -1).expand(n, -1, -1)
        for gains in (following, layer.ffn_norm)
    ]
    if shape.qk_norm:
        small += [
            gains.float().view(1, 1, HEAD).expand(n, RANKS, -1)
            for gains in (layer.q_norm, layer.k_norm)
        ]
    if shape.bits < 16:
        small.append(scales(matrices, shape) / CODE_FACTORS[shape.bits])
    return torch.cat(small, dim=2)


def units(weights: Sequence[Tensor], shape: Shape) -> Tensor:
    """Cut a layer's matrices into what each warp multiplies, in the order of the work.

    Args:
        weights: qkv, out, gate and up, down, (out, in), of any type; zeros fill up what is missing.
        shape: Of the kernel.

    Returns:
        Shape (heads, ranks, units, warps, 16, 64).
    """
    qkv, out, gate_up, down = weights
    n, w, k = shape.n_heads, shape.width, shape.k_warps

    def along_inputs(matrix: Tensor) -> Tensor:  # (n, ranks, tiles, 16, w); warps along w first
        matrix = _filled(matrix, 2, WARPS // k).view(n, RANKS, -1, WARPS // k, 16, k, 64)
        return matrix.permute(0, 1, 2, 3, 5, 4, 6).reshape(n, RANKS, -1, WARPS, 16, 64)

    def along_outputs(matrix: Tensor) -> Tensor:  # (w, n, inputs); a warp has a tile of outputs
        n_blocks = matrix.shape[2] // 64
        # A lane has the same of the first and of the second eight: two columns beside each other.
        matrix = matrix.reshape(RANKS, shape.columns // 16, 8, 2, n, n_blocks, 64)
        matrix = _filled(matrix.transpose(2, 3).flatten(2, 3), 1, WARPS)
        return matrix.permute(3, 0, 4, 1, 2, 5)

    channels = shape.ffn_width // (n * RANKS)
    fill = shape.ffn - channels
    gates = torch.nn.functional.pad(gate_up.view(2, n, RANKS, channels, w), (0, 0, 0, fill))
    downs = torch.nn.functional.pad(down.view(w, n, RANKS, channels), (0, fill))
    if shape.bits < 16 and shape.ffn % 64:  # 32 inputs share a scale: they are for one product
        downs = downs.reshape(w, n, -1, 2, 4, 8).transpose(3, 4)
    return torch.cat(
        (
            along_inputs(_halves(qkv.view(3, n, HEAD, w))),
            along_outputs(out.view(w, n, HEAD)),
            along_inputs(_tiles_of_gates(gates)),
            along_outputs(downs.reshape(w, n, -1)),
        ),
        dim=2,
    )


def _halves(qkv: Tensor) -> Tensor:
    """Share out heads, (3, n, 64, inputs), so that a rank has both halves of pairs that turn.

    Returns:
        Shape (n, ranks, 3, 16, inputs): eight and eight of the halves of queries and of keys, and
        values as they come.
    """
    _, n, _, w = qkv.shape
    turned = qkv[:2].view(2, n, 2, RANKS, -1, w).permute(1, 3, 0, 2, 4, 5)
    values = qkv[2].view(n, RANKS, 1, -1, w)
    return torch.cat((turned.reshape(n, RANKS, 2, -1, w), values), dim=2)


def _tiles_of_gates(gates: Tensor) -> Tensor:
    """Put eight rows of gate and the eight of up that belong to them into a tile.

    Args:
        gates: Shape (2, n, ranks, channels, inputs).

    Returns:
        Shape (n, ranks, tiles, 16, inputs).
    """
    _, n, c, _, w = gates.shape
    return gates.view(2, n, c, -1, 8, w).permute(1, 2, 3, 0, 4, 5).reshape(n, c, -1, 16, w)


def _filled(x: Tensor, dim: int, multiple: int) -> Tensor:
    """Put zeros behind a dimension until it is a multiple."""
    missing = -x.shape[dim] % multiple
    if not missing:
        return x.contiguous()
    shape = list(x.shape)
    shape[dim] = missing
    return torch.cat((x, x.new_zeros(shape)), dim=dim)


def lay(cut: Tensor, bits: int) -> Tensor:
    """Lay units as a warp's lanes read them, 16 bytes at a time.

    Input 16 t + 4 s + 2 j + e of 64 and output 8 h + g of 16 go to lane 4 g + t, product s,
    register 2 j + h of the first operand, half e. Of codes it is input 16 t + 8 s + 4 j + e that
    goes there, to byte e; in 4 bits both outputs' codes share a byte, the first one's below.

    Args:
        cut: From ``units``: bfloat16, or codes of any type of integers.
        bits: Of a weight.

    Returns:
        Bytes, shape (heads, ranks, units, warps, bytes of a unit), uint8.
    """
    lead = cut.shape[:4]
    h, g, t, s, j, e = range(4, 10)
    if bits == 16:
        axes = cut.view(*lead, 2, 8, 4, 4, 2, 2)
        laid = axes.permute(0, 1, 2, 3, s, g, t, j, h, e).contiguous().view(torch.uint8)
        return laid.reshape(*lead, -1)
    axes = cut.to(torch.int8).view(*lead, 2, 8, 4, 2, 2, 4)
    if bits == 8:
        laid = axes.permute(0, 1, 2, 3, s, g, t, j, h, e).contiguous().view(torch.uint8)
    else:
        below, above = axes.permute(0, 1, 2, 3, h, g, t, s, j, e).unbind(4)
        laid = (below & 15 | above << 4).view(torch.uint8)
    return laid.reshape(*lead, -1)


def codes(weight: Weight) -> Tensor:
    """Return a weight as it is, or the integers that stand for it."""
    return weight if isinstance(weight, Tensor) else weight.codes()


def scales(weights: Sequence[Weight], shape: Shape) -> Tensor:
    """Return the scales of a layer in the order of the work: (heads, ranks, scales), float32."""
    qkv, out, gate_up, down = (_scales(weight) for weight in weights)  # (outputs, groups)
    n, channels = shape.n_heads, shape.ffn_width // (shape.n_heads * RANKS)
    gates = torch.nn.functional.pad(
        gate_up.view(2, n, RANKS, channels, -1), (0, 0, 0, shape.ffn - channels)
    )
    # A head's inputs of ``out`` are half a group, a cluster's of ``down`` some groups.
    groups = torch.arange(n, device=out.device) * HEAD // GROUP
    outs = out.t()[groups if shape.bits == 4 else groups * 0].view(n, RANKS, -1)
    downs = down.view(RANKS, shape.columns, -1).permute(0, 2, 1)  # (ranks, groups, columns)
    if shape.bits == 4:
        downs = downs.reshape(RANKS, n, -1, shape.columns).transpose(0, 1)
    else:
        downs = downs.expand(n, -1, -1, -1)
    parts = (
        _halves(qkv.view(3, n, HEAD, -1)).flatten(2, 3).transpose(2, 3),
        outs,
        _tiles_of_gates(gates).flatten(2, 3).transpose(2, 3),
        downs,
    )
    return torch.cat([part.flatten(2) for part in parts], dim=2)


def _scales(weight: Weight) -> Tensor:
    assert isinstance(weight, Int8Rows | Int4Rows)
    return weight.scales[:, None] if isinstance(weight, Int8Rows) else weight.scales.float()
