"""Matrix products for one to four rows, which read every weight once and do little else.

Each program holds a few output columns and all their inputs: its whole share of the weights is
asked for before anything is waited for. Tensors have six axes, (lanes, warps, turns, rows,
columns, inputs): eight lanes lie along 64 inputs and four along columns, warps lie along inputs,
and all else lies inside a thread. So a warp reads whole lines of 128 bytes, each input serves
several columns, and threads exchange a handful of sums.

Small whole numbers become float32 by bit patterns rather than by conversion, which is slow: with
the bits of 256 or 16 above it, a code c reads as 256 + c or 16 + c. What the constant adds to a
sum is taken off again.
"""
# ruff: noqa: ANN001, ANN202, N803 - a kernel's arguments have no Python types
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tts.kernels.weights import Int4Rows, Int8Rows, Weight

MAX_ROWS = 4
LANES, VECTOR_BYTES, LINE_BYTES = 32, 16, 128


@dataclass(frozen=True, kw_only=True)
class Tile:
    """How a product is cut.

    Args:
        n_columns: Output columns per thread, a power of two.
        n_warps: Warps per program, along the inputs.
    """

    n_columns: int = 2
    n_warps: int = 4


@triton.jit
def _byte(bits):
    """Turn bits 15 to 22, a number c in [0, 256), into the float 256 + c."""
    return ((bits & 0x7F8000) | 0x43800000).to(tl.float32, bitcast=True)


@triton.jit
def _low_nibble(bits):
    """Turn bits 15 to 18, a number c in [0, 16), into the float 256 + c."""
    return ((bits & 0x078000) | 0x43800000).to(tl.float32, bitcast=True)


@triton.jit
def _high_nibble(bits):
    """Turn bits 19 to 22, a number c in [0, 16), into the float 16 + c."""
    return ((bits & 0x780000) | 0x41800000).to(tl.float32, bitcast=True)


@triton.jit
def _across(p):
    """Sum (lanes, warps, rows, columns, inputs) over inputs and warps."""
    return tl.sum(tl.sum(p, axis=4), axis=1)


@triton.jit
def _product(x0, x1, tile, IS_INT8: tl.constexpr):
    """Multiply x by a tile and sum over inputs; codes come out 384 too large."""
    if IS_INT8:
        bits = tile.to(tl.int32)
        p = tl.sum(x0 * _byte(bits << 15), axis=2) + tl.sum(x1 * _byte(bits << 7), axis=2)
    else:
        p = tl.sum(x0 * tile.to(tl.float32), axis=2)
    return _across(p)


@triton.jit
def rows_kernel(
    y, x, w, scales, norm, residual, eps,
    N_ROWS: tl.constexpr, N: tl.constexpr, K: tl.constexpr, R: tl.constexpr,
    NL: tl.constexpr, NC: tl.constexpr, KW: tl.constexpr, KT: tl.constexpr, KI: tl.constexpr,
    IS_INT8: tl.constexpr, HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    IS_SWIGLU: tl.constexpr, IS_PDL: tl.constexpr,
):  # fmt: skip
    """Multiply rows (N_ROWS, K) by a weight (N, K), or (2 N, K) for SwiGLU.

    A row of the weight is KT turns of KW warps of KI elements; a program has NC times NL columns.
    """
    if IS_PDL:
        gdc_launch_dependents()
    width: tl.constexpr = K // 2 if IS_INT8 else K  # of a row of the weight, in its own elements
    lane = tl.arange(0, NL)[:, None, None]
    n = (tl.program_id(0) * NC + tl.arange(0, NC)[None, None, :]) * NL + lane
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
        gain0 = tl.load(norm + k, mask=live_k, other=0.0).to(tl.float32)
        if IS_INT8:
            gain1 = tl.load(norm + width + k, mask=live_k, other=0.0).to(tl.float32)
    if IS_PDL:
        gdc_wait()  # what stands above was not written by this step
    r = tl.arange(0, R)[None, :, None]
    at_r = r[:, None, None, :, :, None]
    live_x = (at_r < N_ROWS) & live_k
    at_x = x + at_r * K + k
    x0 = tl.load(at_x, mask=live_x, other=0.0).to(tl.float32)
    x1 = x0
    if IS_INT8:
        x1 = tl.load(at_x + width, mask=live_x, other=0.0).to(tl.float32)
    live_y = (n < N) & (r < N_ROWS)
    at_y = r * N + n
    if HAS_RESIDUAL:
        old = tl.load(residual + at_y, mask=live_y, other=0.0).to(tl.float32)
    if HAS_NORM:
        squares = tl.sum(x0 * x0, axis=2)
        x0 = x0 * gain0
        if IS_INT8:
            squares += tl.sum(x1 * x1, axis=2)
            x1 = x1 * gain1
        rms = tl.rsqrt(_across(squares) / K + eps)
    a = _product(x0, x1, tile, IS_INT8)
    if IS_INT8:
        excess = _across(tl.sum(x0 + x1, axis=2)) * 384.0  # 128 for the sign, 256 for the bits
        a = (a - excess) * scale
    if HAS_NORM:
        a = a * rms
    if IS_SWIGLU:
        up = _product(x0, x1, up_tile, IS_INT8)
        if IS_INT8:
            up = (up - excess) * up_scale
        if HAS_NORM:
            up = up * rms
        a = a * tl.sigmoid(a) * up
    if HAS_RESIDUAL:
        a = a + old
    tl.store(y + at_y, a.to(y.dtype.element_ty), mask=live_y)


@triton.jit
def _int4_product(x0, x1, x2, x3, excess, tile, scale):
    """Multiply x by codes and sum; the scale has no axis of inputs."""
    bits = tile.to(tl.int32)
    low, high = bits << 15, bits << 7
    p = x0 * _low_nibble(low) - excess
    p = x1 * _high_nibble(low) + p
    p = x2 * _low_nibble(high) + p
    p = x3 * _high_nibble(high) + p
    return tl.sum(tl.sum(tl.sum(p, axis=5) * scale, axis=2), axis=1)


@triton.jit
def rows_int4_kernel(
    y, x, w, scales, norm, residual, eps,
    N_ROWS: tl.constexpr, N: tl.constexpr, K: tl.constexpr, R: tl.constexpr,
    NL: tl.constexpr, NC: tl.constexpr, KW: tl.constexpr, KT: tl.constexpr, KI: tl.constexpr,
    HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    IS_SWIGLU: tl.constexpr, IS_PDL: tl.constexpr,
):  # fmt: skip
    """As ``rows_kernel`` with weights of 4 bits, a group of KI words at a time."""
    if IS_PDL:
        gdc_launch_dependents()
    n_groups: tl.constexpr = K // (4 * KI)
    lane = tl.arange(0, NL)[:, None, None]
    n = (tl.program_id(0) * NC + tl.arange(0, NC)[None, None, :]) * NL + lane
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
        gain0 = tl.load(norm + k, mask=live_k, other=0.0).to(tl.float32)
        gain1 = tl.load(norm + KI + k, mask=live_k, other=0.0).to(tl.float32)
        gain2 = tl.load(norm + 2 * KI + k, mask=live_k, other=0.0).to(tl.float32)
        gain3 = tl.load(norm + 3 * KI + k, mask=live_k, other=0.0).to(tl.float32)
    if IS_PDL:
        gdc_wait()
    r = tl.arange(0, R)[None, :, None]
    at_r = r[:, None, None, :, :, None]
    live_x = (at_r < N_ROWS) & live_k
    at_x = x + at_r * K + k
    x0 = tl.load(at_x, mask=live_x, other=0.0).to(tl.float32)
    x1 = tl.load(at_x + KI, mask=live_x, other=0.0).to(tl.float32)
    x2 = tl.load(at_x + 2 * KI, mask=live_x, other=0.0).to(tl.float32)
    x3 = tl.load(at_x + 3 * KI, mask=live_x, other=0.0).to(tl.float32)
    live_y = (n < N) & (r < N_ROWS)
    at_y = r * N + n
    if HAS_RESIDUAL:
        old = tl.load(residual + at_y, mask=live_y, other=0.0).to(tl.float32)
    if HAS_NORM:
        squares = tl.sum(x0 * x0 + x1 * x1 + x2 * x2 + x3 * x3, axis=2)
        rms = tl.rsqrt(_across(squares) / K + eps)
        x0, x1, x2, x3 = x0 * gain0, x1 * gain1, x2 * gain2, x3 * gain3
    excess = (x0 + x2) * 264.0 + (x1 + x3) * 24.0  # 8 for the sign, 256 or 16 for the bits
    a = _int4_product(x0, x1, x2, x3, excess, tile, scale)
    if HAS_NORM:
        a = a * rms
    if IS_SWIGLU:
        up = _int4_product(x0, x1, x2, x3, excess, up_tile, up_scale)
        if HAS_NORM:
            up = up * rms
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
    tile: Tile | None = None,
) -> Tensor:
    """Compute ``norm(x) W^T (+ residual)``, or ``silu(gate) * up`` of its two halves.

    Args:
        x: Shape (rows, in), contiguous, at most ``MAX_ROWS`` rows.
        weight: Shape (out, in), contiguous; for SwiGLU the gate's rows, then as many for up.
        y: Written and returned, shape (rows, out), or (rows, out / 2) for SwiGLU; contiguous; may
            be the residual itself.
        norm: Gains of an RMS norm of x, shape (in,).
        eps: Of that norm.
        residual: Added to the product, shaped as y.
        is_swiglu: Whether the weight is a gate's above an up projection's.
        is_pdl: Whether to start while the kernel before still runs; needs compute capability 9.0.
        tile: How to cut it.
    """
    n_rows, n_in = x.shape
    n_out = weight.shape[0] // 2 if is_swiglu else weight.shape[0]
    tile = tile or Tile()
    words = weight if isinstance(weight, Tensor) else weight.words
    if isinstance(weight, Int4Rows):
        k_lane = weight.group // 4
    else:
        k_lane = LINE_BYTES // words.element_size()
    n_lanes = max(1, LANES * VECTOR_BYTES // (k_lane * words.element_size()))
    block_n = n_lanes * tile.n_columns
    n_turns = -(-words.shape[1] // (tile.n_warps * k_lane))
    constants: dict[str, Any] = {
        "N_ROWS": n_rows, "N": n_out, "K": n_in, "R": triton.next_power_of_2(n_rows),
        "NL": n_lanes, "NC": tile.n_columns, "KW": tile.n_warps,
        "KT": triton.next_power_of_2(n_turns), "KI": k_lane, "HAS_NORM": norm is not None, "HAS_RESIDUAL": residual is not None,
        "IS_SWIGLU": is_swiglu, "IS_PDL": is_pdl, "num_warps": tile.n_warps,
    }  # fmt: skip
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
