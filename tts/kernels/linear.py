"""Matrix products for one to four rows, which read every weight once and do little else.

Up to eight rows of 16 bits go to ``tts.kernels.mma_rows``, where that takes them.

Each program holds a few output columns and all their inputs: its whole share of the weights is
asked for before anything is waited for. Tensors have six axes, (lanes, warps, turns, rows,
columns, inputs): eight lanes lie along 64 inputs and four along columns, warps lie along inputs,
and all else lies inside a thread. So a warp reads whole lines of 128 bytes, each input serves
several columns, and threads exchange a handful of sums.

Small whole numbers become float32 by bit patterns rather than by conversion, which is slow: with
the bits of 256 or 16 above it, a code c reads as 256 + c or 16 + c. What the constant adds to a
sum is taken off again.
"""
# ruff: noqa: ANN001, ANN201, C901, ANN202, N803 - kernels have no Python types
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tts.kernels.mma_rows import MmaTile, fits, multiply_mma
from tts.kernels.weights import Int4Rows, Int8Rows, Weight

MAX_ROWS = 4
LANES, VECTOR_BYTES, LINE_BYTES = 32, 16, 128


@dataclass(frozen=True, kw_only=True)
class Tile:
    """How a product is cut.

    Args:
        n_columns: Output columns per thread, a power of two.
        n_warps: Warps per program, along the inputs.
        max_registers: Of a thread: fewer let more programs be on the way at once.
    """

    n_columns: int = 2
    n_warps: int = 4
    max_registers: int = 128


# Two 16-bit numbers of one register: the compiler needs half as many instructions again, or twice.
_BF16 = tl.constexpr("shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;")
# The bytes go into the second byte of 0x47000000, the bits of 32768.
_BYTES = tl.constexpr("""{
.reg .b32 m; mov.b32 m, 0x47000000;
prmt.b32 $0, $4, m, 0x7604; prmt.b32 $1, $4, m, 0x7624;
prmt.b32 $2, $4, m, 0x7614; prmt.b32 $3, $4, m, 0x7634; }""")
# Nibbles 0 and 2 go into bits 16 to 19 below the bits of 128, 1 and 3 into 12 to 15 below 2048.
_NIBBLES = tl.constexpr("""{
.reg .b32 m, n, a, b, c, d; mov.b32 m, 0x43000000; mov.b32 n, 0x45000000;
shl.b32 a, $8, 16; shl.b32 b, $8, 8; shr.u32 c, $8, 8; shr.u32 d, $8, 16;
lop3.b32 $0, a, 0xf0000, m, 0xea; lop3.b32 $1, $8, 0xf0000, m, 0xea;
lop3.b32 $2, b, 0xf000, n, 0xea; lop3.b32 $3, c, 0xf000, n, 0xea;
lop3.b32 $4, b, 0xf0000, m, 0xea; lop3.b32 $5, c, 0xf0000, m, 0xea;
lop3.b32 $6, $8, 0xf000, n, 0xea; lop3.b32 $7, d, 0xf000, n, 0xea; }""")


@triton.jit
def _wide(x, IS_ASM: tl.constexpr):
    """Turn 16-bit numbers into float32."""
    if IS_ASM and x.dtype == tl.bfloat16:
        return tl.inline_asm_elementwise(_BF16, "=r,=r,r", [x], tl.float32, True, 2)
    return x.to(tl.float32)


@triton.jit
def _bytes(words, IS_ASM: tl.constexpr):
    """Turn the low and high bytes c of 16-bit words into the floats 32768 + c."""
    if IS_ASM:
        return tl.inline_asm_elementwise(
            _BYTES, "=r,=r,=r,=r,r", [words], (tl.float32, tl.float32), True, 2
        )
    bits = words.to(tl.int32)
    low = ((bits & 0xFF) << 8) | 0x47000000
    high = (bits & 0xFF00) | 0x47000000
    return low.to(tl.float32, bitcast=True), high.to(tl.float32, bitcast=True)


@triton.jit
def _nibbles(words, IS_ASM: tl.constexpr):
    """Turn the four nibbles c of 16-bit words into floats 128 + c, 2048 + c, 128 + c, 2048 + c."""
    if IS_ASM:
        return tl.inline_asm_elementwise(
            _NIBBLES, "=r,=r,=r,=r,=r,=r,=r,=r,r", [words],
            (tl.float32, tl.float32, tl.float32, tl.float32), True, 2,
        )  # fmt: skip
    bits = words.to(tl.int32)
    a = ((bits & 0xF) << 16) | 0x43000000
    b = ((bits & 0xF0) << 8) | 0x45000000
    c = ((bits & 0xF00) << 8) | 0x43000000
    d = (bits & 0xF000) | 0x45000000
    return (
        a.to(tl.float32, bitcast=True), b.to(tl.float32, bitcast=True),
        c.to(tl.float32, bitcast=True), d.to(tl.float32, bitcast=True),
    )  # fmt: skip


@triton.jit
def _add4(a0, b0, c0, d0, a1, b1, c1, d1):
    return a0 + a1, b0 + b1, c0 + c1, d0 + d1


@triton.jit
def _across(a, b, c, d, IS_ASM: tl.constexpr):
    """Sum four tensors (lanes, warps, ...) over warps, which then meet but once."""
    if IS_ASM:
        return tl.reduce((a, b, c, d), 1, _add4)
    # The interpreter takes a sum of its own a hundred times faster than one of ours.
    return tl.sum(a, axis=1), tl.sum(b, axis=1), tl.sum(c, axis=1), tl.sum(d, axis=1)


@triton.jit
def _product(x0, x1, tile, IS_INT8: tl.constexpr, IS_ASM: tl.constexpr):
    """Multiply x by a tile and sum over a warp's inputs; codes come out 32896 too large."""
    if IS_INT8:
        low, high = _bytes(tile, IS_ASM)
        p = tl.sum(x0 * low, axis=2) + tl.sum(x1 * high, axis=2)
    else:
        p = tl.sum(x0 * _wide(tile, IS_ASM), axis=2)
    return tl.sum(p, axis=4)


@triton.jit
def rows_kernel(
    y, x, w, scales, norm, residual, eps,
    N_ROWS: tl.constexpr, N: tl.constexpr, K: tl.constexpr, R: tl.constexpr,
    NL: tl.constexpr, NC: tl.constexpr, KW: tl.constexpr, KT: tl.constexpr, KI: tl.constexpr,
    IS_INT8: tl.constexpr, HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    IS_SWIGLU: tl.constexpr, IS_PDL: tl.constexpr, IS_ASM: tl.constexpr,
):  # fmt: skip
    """Multiply rows (N_ROWS, K) by a weight (N, K), or (2 N, K) for SwiGLU.

    A row of the weight is KT turns of KW warps of KI elements; a program has NC times NL columns.
    """
    if IS_PDL:
        gdc_launch_dependents()
    width: tl.constexpr = K // 2 if IS_INT8 else K  # of a row of the weight, in its own elements
    lane = tl.arange(0, NL)[:, None, None]
    n = (tl.program_id(0) * NL + lane) * NC + tl.arange(0, NC)[None, None, :]
    at_n = n[:, None, None, :, :, None]
    k_warp = tl.arange(0, KW)[None, :, None, None, None, None]
    k_turn = tl.arange(0, KT)[None, None, :, None, None, None]
    k = (k_turn * KW + k_warp) * KI + tl.arange(0, KI)[None, None, None, None, None, :]
    live_k = k < width
    live_w = (at_n < N) & live_k
    at_w = w + at_n * width + k
    tile = tl.load(at_w, mask=live_w, other=0)
    if IS_SWIGLU:
        up_tile = tl.load(at_w + N * width, mask=live_w, other=0)
    if IS_INT8:
        scale = tl.load(scales + n, mask=n < N, other=0.0)
        if IS_SWIGLU:
            up_scale = tl.load(scales + N + n, mask=n < N, other=0.0)
    # Inputs are addressed once per lane: they then lie in the same threads as the weights.
    k += lane[:, :, :, None, None, None] * 0
    live_k = k < width
    if HAS_NORM:
        gain0 = _wide(tl.load(norm + k, mask=live_k, other=0.0), IS_ASM)
        if IS_INT8:
            gain1 = _wide(tl.load(norm + width + k, mask=live_k, other=0.0), IS_ASM)
    if IS_PDL:
        gdc_wait()  # what stands above was not written by this step
    r = tl.arange(0, R)[None, :, None]
    at_r = r[:, None, None, :, :, None]
    live_x = (at_r < N_ROWS) & live_k
    at_x = x + at_r * K + k
    x0 = _wide(tl.load(at_x, mask=live_x, other=0.0), IS_ASM)
    x1 = x0
    if IS_INT8:
        x1 = _wide(tl.load(at_x + width, mask=live_x, other=0.0), IS_ASM)
    live_y = (n < N) & (r < N_ROWS)
    at_y = r * N + n
    if HAS_RESIDUAL:
        old = tl.load(residual + at_y, mask=live_y, other=0.0).to(tl.float32)
    squares = x0
    if HAS_NORM:
        squares = x0 * x0
        x0 = x0 * gain0
        if IS_INT8:
            squares += x1 * x1
            x1 = x1 * gain1
    a = _product(x0, x1, tile, IS_INT8, IS_ASM)
    up, total, excess = a, a, a
    if IS_SWIGLU:
        up = _product(x0, x1, up_tile, IS_INT8, IS_ASM)
    if HAS_NORM:
        total = tl.broadcast_to(tl.sum(tl.sum(squares, axis=2), axis=4), a.shape)
    if IS_INT8:
        excess = tl.broadcast_to(tl.sum(tl.sum(x0 + x1, axis=2), axis=4), a.shape)
    a, up, total, excess = _across(a, up, total, excess, IS_ASM)
    if IS_INT8:
        excess *= 32896.0  # 128 for the sign, the rest for the bits
        a = (a - excess) * scale
        if IS_SWIGLU:
            up = (up - excess) * up_scale
    if HAS_NORM:
        rms = tl.rsqrt(total / K + eps)
        a = a * rms
        up = up * rms
    if IS_SWIGLU:
        a = a * tl.sigmoid(a) * up
    if HAS_RESIDUAL:
        a = a + old
    tl.store(y + at_y, a.to(y.dtype.element_ty), mask=live_y)


@triton.jit
def _int4_product(x0, x1, x2, x3, excess, tile, scale, IS_ASM: tl.constexpr):
    """Multiply x by codes and sum; the scale has no axis of inputs."""
    w0, w1, w2, w3 = _nibbles(tile, IS_ASM)
    p = x3 * w3 + (x2 * w2 + (x1 * w1 + (x0 * w0 - excess)))
    return tl.sum(tl.sum(p, axis=5) * scale, axis=2)


@triton.jit
def rows_int4_kernel(
    y, x, w, scales, norm, residual, eps,
    N_ROWS: tl.constexpr, N: tl.constexpr, K: tl.constexpr, R: tl.constexpr,
    NL: tl.constexpr, NC: tl.constexpr, KW: tl.constexpr, KT: tl.constexpr, KI: tl.constexpr,
    HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    IS_SWIGLU: tl.constexpr, IS_PDL: tl.constexpr, IS_ASM: tl.constexpr,
):  # fmt: skip
    """As ``rows_kernel`` with weights of 4 bits, a group of KI words at a time."""
    if IS_PDL:
        gdc_launch_dependents()
    n_groups: tl.constexpr = K // (4 * KI)
    lane = tl.arange(0, NL)[:, None, None]
    n = (tl.program_id(0) * NL + lane) * NC + tl.arange(0, NC)[None, None, :]
    at_n = n[:, None, None, :, :]
    k_warp = tl.arange(0, KW)[None, :, None, None, None]
    k_turn = tl.arange(0, KT)[None, None, :, None, None]
    group = k_turn * KW + k_warp
    at_s = scales + at_n * n_groups + group
    live_s = (at_n < N) & (group < n_groups)
    at_n = at_n[:, :, :, :, :, None]
    at_g = group[:, :, :, :, :, None]
    word = tl.arange(0, KI)[None, None, None, None, None, :]
    live_w = (at_n < N) & (at_g < n_groups) & (word < KI)
    at_w = w + at_n * (K // 4) + at_g * KI + word
    tile = tl.load(at_w, mask=live_w, other=0)
    scale = tl.load(at_s, mask=live_s, other=0.0).to(tl.float32)
    if IS_SWIGLU:
        up_tile = tl.load(at_w + N * (K // 4), mask=live_w, other=0)
        up_scale = tl.load(at_s + N * n_groups, mask=live_s, other=0.0).to(tl.float32)
    k = at_g * (4 * KI) + word + lane[:, :, :, None, None, None] * 0
    live_k = k < K
    if HAS_NORM:
        gain0 = _wide(tl.load(norm + k, mask=live_k, other=0.0), IS_ASM)
        gain1 = _wide(tl.load(norm + KI + k, mask=live_k, other=0.0), IS_ASM)
        gain2 = _wide(tl.load(norm + 2 * KI + k, mask=live_k, other=0.0), IS_ASM)
        gain3 = _wide(tl.load(norm + 3 * KI + k, mask=live_k, other=0.0), IS_ASM)
    if IS_PDL:
        gdc_wait()
    r = tl.arange(0, R)[None, :, None]
    at_r = r[:, None, None, :, :, None]
    live_x = (at_r < N_ROWS) & live_k
    at_x = x + at_r * K + k
    x0 = _wide(tl.load(at_x, mask=live_x, other=0.0), IS_ASM)
    x1 = _wide(tl.load(at_x + KI, mask=live_x, other=0.0), IS_ASM)
    x2 = _wide(tl.load(at_x + 2 * KI, mask=live_x, other=0.0), IS_ASM)
    x3 = _wide(tl.load(at_x + 3 * KI, mask=live_x, other=0.0), IS_ASM)
    live_y = (n < N) & (r < N_ROWS)
    at_y = r * N + n
    if HAS_RESIDUAL:
        old = tl.load(residual + at_y, mask=live_y, other=0.0).to(tl.float32)
    squares = x0
    if HAS_NORM:
        squares = x0 * x0 + x1 * x1 + x2 * x2 + x3 * x3
        x0, x1, x2, x3 = x0 * gain0, x1 * gain1, x2 * gain2, x3 * gain3
    excess = (x0 + x2) * 136.0 + (x1 + x3) * 2056.0  # 8 for the sign, the rest for the bits
    a = _int4_product(x0, x1, x2, x3, excess, tile, scale, IS_ASM)
    up, total = a, a
    if IS_SWIGLU:
        up = _int4_product(x0, x1, x2, x3, excess, up_tile, up_scale, IS_ASM)
    if HAS_NORM:
        total = tl.broadcast_to(tl.sum(tl.sum(squares, axis=2), axis=4), a.shape)
    a, up, total, _ = _across(a, up, total, a, IS_ASM)
    if HAS_NORM:
        rms = tl.rsqrt(total / K + eps)
        a = a * rms
        up = up * rms
    if IS_SWIGLU:
        a = a * tl.sigmoid(a) * up
    if HAS_RESIDUAL:
        a = a + old
    tl.store(y + at_y, a.to(y.dtype.element_ty), mask=live_y)


def multiply(
    x: Tensor,
    weight: Weight,
    y: Tensor,
    *,
    norm: Tensor | None = None,
    eps: float = 0.0,
    residual: Tensor | None = None,
    is_swiglu: bool = False,
    is_pdl: bool = False,
    tile: Tile | MmaTile | None = None,
) -> Tensor:
    """Compute ``norm(x) W^T (+ residual)``, or ``silu(gate) * up`` of its two halves.

    Args:
        x: Shape (rows, in), contiguous, at most ``MAX_ROWS`` rows, or those that
            ``tts.kernels.mma_rows`` takes.
        weight: Shape (out, in), contiguous; for SwiGLU the gate's rows, then as many for up.
        y: Written and returned, shape (rows, out), or (rows, out / 2) for SwiGLU; contiguous; may
            be the residual itself.
        norm: Gains of an RMS norm of x, shape (in,).
        eps: Of that norm.
        residual: Added to the product, shaped as y.
        is_swiglu: Whether the weight is a gate's above an up projection's.
        is_pdl: Whether to start while the kernel before still runs; needs compute capability 9.0.
        tile: How to cut it, and with that on which cores.

    Raises:
        ValueError: A tile of tensor cores for what they do not take.
    """
    if isinstance(tile, MmaTile) or (tile is None and fits(x, weight, norm, y, residual)):
        return multiply_mma(
            x, weight, y, norm=norm, eps=eps, residual=residual, is_swiglu=is_swiglu,
            is_pdl=is_pdl, tile=tile,
        )  # fmt: skip
    n_rows, n_in = x.shape
    n_out = weight.shape[0] // 2 if is_swiglu else weight.shape[0]
    tile = tile or choose_tile(weight)
    words = weight if isinstance(weight, Tensor) else weight.words
    if isinstance(weight, Int4Rows):
        k_lane = weight.group // 4
    else:
        k_lane = LINE_BYTES // words.element_size()
    n_lanes = max(1, LANES * VECTOR_BYTES // (k_lane * words.element_size()))
    block_n = n_lanes * tile.n_columns
    n_turns = -(-words.shape[1] // (tile.n_warps * k_lane))
    constants: dict[str, Any] = {
        "N_ROWS": n_rows,
        "N": n_out,
        "K": n_in,
        "R": triton.next_power_of_2(n_rows),
        "NL": n_lanes,
        "NC": tile.n_columns,
        "KW": tile.n_warps,
        "KT": triton.next_power_of_2(n_turns),
        "KI": k_lane,
        "HAS_NORM": norm is not None,
        "HAS_RESIDUAL": residual is not None,
        "IS_SWIGLU": is_swiglu,
        "IS_PDL": is_pdl,
        "IS_ASM": _is_paired(x, words, norm),
        "num_warps": tile.n_warps,
        "maxnreg": tile.max_registers,
    }
    if is_pdl:
        constants["launch_pdl"] = True
    kernel = rows_kernel
    if isinstance(weight, Int4Rows):
        kernel = rows_int4_kernel
    else:
        constants["IS_INT8"] = isinstance(weight, Int8Rows)
    scales = x if isinstance(weight, Tensor) else weight.scales
    gains, old = x if norm is None else norm, x if residual is None else residual
    kernel[(triton.cdiv(n_out, block_n),)](y, x, words, scales, gains, old, eps, **constants)
    return y


def choose_tile(weight: Weight) -> Tile:
    """Cut as was quickest on an H200 with 1,024 and with 4,096 inputs.

    A thread of four bits holds the inputs of whole groups, which leaves registers for few.
    """
    is_long = weight.shape[1] >= 2048
    if isinstance(weight, Int4Rows):
        n_groups = weight.shape[1] // weight.group
        most = 16 if is_long else 8
        return Tile(n_columns=1, n_warps=min(most, triton.next_power_of_2(n_groups)))
    if isinstance(weight, Int8Rows):
        return Tile(n_columns=1 if is_long else 4, n_warps=8 if is_long else 4, max_registers=255)
    return Tile(n_columns=2, n_warps=16 if is_long else 4)


def _is_paired(x: Tensor, words: Tensor, norm: Tensor | None) -> bool:
    """Tell whether every thread gets 16-bit numbers in whole vectors, for the assembly."""
    if not x.is_cuda or triton.knobs.runtime.interpret or torch.version.hip is not None:
        return False
    tensors = [x, words] if norm is None else [x, words, norm]
    is_aligned = all(t.data_ptr() % VECTOR_BYTES == 0 for t in tensors)
    return is_aligned and x.shape[1] % 8 == 0 and words.shape[1] % 8 == 0
