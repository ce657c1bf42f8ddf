"""Matrix products for 5 to 256 rows, on tensor cores, with all that stands between them.

A program makes a tile of the output. Where the tiles are fewer than the multiprocessors, several
programs share one and cut it along the inputs. What they leave is added in a fixed order, by the
last of them to arrive, told by a counter, or by all of them, each some of the rows, once all have
arrived. So the same rows give the same bits every time, and a row's sums do not depend on the rows
beside it (their number may choose another tile).

There is no norm kernel. What writes the residual stream also writes it times the next norm's
gains, and sums of its squares; the next product reads that and scales its result by the norm.
"""
# ruff: noqa: ANN001, ANN201, C901, ANN202, N803 - kernels have no Python types
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

DTYPES = (torch.bfloat16, torch.float16)
MAX_ROWS = 256
LANES, VECTOR_BYTES = 32, 16


@dataclass(frozen=True, kw_only=True)
class DotTile:
    """How a product is cut; all but the stages are powers of two.

    Args:
        block_m: Rows of a program, at least 16.
        block_n: Output columns of a program, at least 16.
        block_k: Inputs at a time, at least 16.
        n_splits: Programs that share a tile of the output.
        n_stages: Blocks of inputs on their way at once.
        n_warps: Warps per program.
        is_joint: Whether all programs of a tile wait for one another and add together. They must
            be on the GPU at once: as many programs as multiprocessors at the most.
    """

    block_m: int = 64
    block_n: int = 32
    block_k: int = 64
    n_splits: int = 1
    n_stages: int = 4
    n_warps: int = 4
    is_joint: bool = False

    def n_tiles(self, n_rows: int, n_out: int) -> int:
        """Return how many tiles the output has."""
        return -(-n_rows // self.block_m) * self.n_column_tiles(n_out)

    def n_column_tiles(self, n_out: int) -> int:
        """Return how many tiles lie side by side: so many sums of squares a row has."""
        return -(-n_out // self.block_n)


class Parts:
    """What programs leave for the last one of their tile; zeroed counters count themselves back.

    One of them serves any number of calls that follow each other on one stream.

    Args:
        n_parts: Numbers of all parts, the most of any call.
        n_tiles: Tiles, the most of any call.
        device: Where the products run.
    """

    def __init__(self, n_parts: int, n_tiles: int, device: torch.device) -> None:
        self.numbers = torch.empty(n_parts, dtype=torch.float32, device=device)
        self.counters = torch.zeros(n_tiles, dtype=torch.int32, device=device)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """The residual stream as a product leaves it, and what it leaves for the next norm.

    Args:
        residual: Added to the product, shape (rows, out); may be what the product is written to.
        gains: Of the next norm, shape (out,).
        scaled: Written: the sum times the gains, shape (rows, out).
        squares: Written: sums of the sum's squares, shape (rows, column tiles), float32.
    """

    residual: Tensor
    gains: Tensor
    scaled: Tensor
    squares: Tensor


# The address and the bytes of a piece of a weight, a multiple of 16 both.
_PREFETCH = tl.constexpr("cp.async.bulk.prefetch.L2.global [$1], $2; mov.b32 $0, 0;")


@triton.jit
def _beside(
    squares, gains, residual, r, n, n_rows,
    N: tl.constexpr, N_SQUARES: tl.constexpr, S: tl.constexpr, IS_STREAM: tl.constexpr,
):  # fmt: skip
    """Ask for what is needed at the end: squares (rows, tiles), old stream and gains."""
    old, gain, parts = 0.0, 0.0, 0.0
    if N_SQUARES > 0:
        s = tl.arange(0, S)
        at = tl.minimum(r, n_rows - 1)[:, None] * N_SQUARES + s[None, :]
        parts = tl.load(squares + at, mask=(s < N_SQUARES)[None, :], other=0.0)
    if IS_STREAM:
        live = (r < n_rows)[:, None] & (n < N)[None, :]
        old = tl.load(residual + r[:, None] * N + n[None, :], mask=live, other=0.0)
        gain = tl.load(gains + n, mask=n < N, other=0.0)
    return parts, old, gain


@triton.jit
def _finish(
    y, scaled, squares_out, a, parts, old, gain, r, n, n_rows, eps,
    N: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, ROWS: tl.constexpr, BN: tl.constexpr,
    N_SQUARES: tl.constexpr, IS_SWIGLU: tl.constexpr, IS_STREAM: tl.constexpr,
):  # fmt: skip
    """Normalise, gate, add and write the sums of some rows of a tile."""
    if N_SQUARES > 0:
        a = a * tl.rsqrt(tl.sum(parts, axis=1) / K + eps)[:, None]
    if IS_SWIGLU:
        gate, up = tl.split(tl.reshape(a, (ROWS, BN, 2)))
        a = gate * tl.sigmoid(gate) * up
    live = (r < n_rows)[:, None] & (n < N)[None, :]
    at = r[:, None] * N + n[None, :]
    if IS_STREAM:
        kept = (a + old.to(tl.float32)).to(y.dtype.element_ty)
        tl.store(y + at, kept, mask=live)
        wide = tl.where(live, kept.to(tl.float32), 0.0)
        tl.store(scaled + at, (wide * gain.to(tl.float32)[None, :]).to(y.dtype.element_ty), live)
        n_blocks: tl.constexpr = (N + BN - 1) // BN
        at_square = r * n_blocks + tl.program_id(0) // tl.cdiv(n_rows, BM)
        tl.store(squares_out + at_square, tl.sum(wide * wide, axis=1), mask=r < n_rows)
    else:
        tl.store(y + at, a.to(y.dtype.element_ty), mask=live)


@triton.jit
def _join(
    y, scaled, squares_out, squares, gains, residual, parts, j, i, r, n, n_rows, eps,
    N: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, ROWS: tl.constexpr,
    N_SPLITS: tl.constexpr, N_SQUARES: tl.constexpr, S: tl.constexpr, IS_SWIGLU: tl.constexpr,
    IS_STREAM: tl.constexpr,
):  # fmt: skip
    """Add the rows j of what the programs of a tile left, and write them."""
    sums, old, gain = _beside(
        squares, gains, residual, r, n, n_rows, N, N_SQUARES, S, IS_STREAM
    )  # fmt: skip
    width: tl.constexpr = 2 * BN if IS_SWIGLU else BN
    at = parts + j[:, None] * width + i[None, :]
    joined = tl.load(at, cache_modifier=".cg")
    for s in tl.static_range(1, N_SPLITS):
        joined += tl.load(at + s * (BM * width), cache_modifier=".cg")
    _finish(
        y, scaled, squares_out, joined, sums, old, gain, r, n, n_rows, eps,
        N, K, BM, ROWS, BN, N_SQUARES, IS_SWIGLU, IS_STREAM,
    )  # fmt: skip


@triton.jit
def product_kernel(
    y, scaled, squares_out, x, w, squares, gains, residual, parts, counters, n_rows, eps,
    N: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    N_SPLITS: tl.constexpr, N_STEPS: tl.constexpr, N_SQUARES: tl.constexpr, S: tl.constexpr,
    IS_SWIGLU: tl.constexpr, IS_STREAM: tl.constexpr, IS_EVEN: tl.constexpr,
    N_PIECES: tl.constexpr, IS_JOINT: tl.constexpr, IS_PDL: tl.constexpr, IS_WIDE: tl.constexpr,
):  # fmt: skip
    """Multiply rows (n_rows, K) by a weight (N, K), or (2 N, K) for SwiGLU."""
    if IS_PDL:
        gdc_launch_dependents()
    tile = tl.program_id(0)
    split = tl.program_id(1)
    n_row_tiles = tl.cdiv(n_rows, BM)  # neighbours share their weights
    r = (tile % n_row_tiles) * BM + tl.arange(0, BM)
    first_n = (tile // n_row_tiles) * BN
    n = first_n + tl.arange(0, BN)
    # Rows and columns that are not there repeat the last one: no masks on the way.
    width: tl.constexpr = 2 * BN if IS_SWIGLU else BN
    i = tl.arange(0, width)
    if IS_SWIGLU:  # a gate beside its up: both fall to one thread
        n_w = tl.minimum(first_n + i // 2, N - 1) + (i % 2) * N
    else:
        n_w = tl.minimum(first_n + i, N - 1)
    first_k = split * (N_STEPS * BK)
    if N_PIECES > 0:
        piece: tl.constexpr = N_STEPS * BK // N_PIECES
        at = w + n_w[:, None] * K + (first_k + tl.arange(0, N_PIECES) * piece)[None, :]
        n_bytes = tl.full((width, N_PIECES), 2 * piece, tl.int32)  # of 16-bit numbers
        tl.inline_asm_elementwise(
            _PREFETCH, "=r,l,r", [at.to(tl.int64), n_bytes], tl.int32, False, 1
        )
    k = first_k + tl.arange(0, BK)
    at_x = x + tl.minimum(r, n_rows - 1)[:, None] * K + k[None, :]
    at_w = w + n_w[:, None] * K + k[None, :]
    if IS_PDL:
        gdc_wait()  # what stands above was not written by this step
    if N_SPLITS == 1:
        sums, old, gain = _beside(
            squares, gains, residual, r, n, n_rows, N, N_SQUARES, S, IS_STREAM
        )  # fmt: skip
    a = tl.zeros((BM, width), tl.float32)
    for step in range(N_STEPS):
        if IS_EVEN:
            rows = tl.load(at_x)
            columns = tl.load(at_w)
        else:
            live = (k < K - step * BK)[None, :]
            rows = tl.load(at_x, mask=live, other=0.0)
            columns = tl.load(at_w, mask=live, other=0.0)
        if IS_WIDE:  # the interpreter would multiply the bits of bfloat16 as whole numbers
            rows, columns = rows.to(tl.float32), columns.to(tl.float32)
        a = tl.dot(rows, columns.T, a)
        at_x += BK
        at_w += BK
    if N_SPLITS == 1:
        _finish(
            y, scaled, squares_out, a, sums, old, gain, r, n, n_rows, eps,
            N, K, BM, BM, BN, N_SQUARES, IS_SWIGLU, IS_STREAM,
        )  # fmt: skip
    else:
        j = tl.arange(0, BM)
        first = parts + tile * (N_SPLITS * BM * width)
        tl.store(first + (split * BM + j[:, None]) * width + i[None, :], a)
        tl.debug_barrier()  # all threads have written before one of them says so
        arrived = tl.atomic_add(counters + tile, 1, sem="acq_rel") + 1
        if IS_JOINT:
            while arrived < N_SPLITS:
                arrived = tl.atomic_add(counters + tile, 0, sem="acquire")
            share: tl.constexpr = BM // N_SPLITS
            j = split * share + tl.arange(0, share)
            _join(
                y, scaled, squares_out, squares, gains, residual, first, j, i,
                (tile % n_row_tiles) * BM + j, n, n_rows, eps, N, K, BM, BN, share, N_SPLITS,
                N_SQUARES, S, IS_SWIGLU, IS_STREAM,
            )  # fmt: skip
            if tl.atomic_add(counters + tile, 1, sem="relaxed") == 2 * N_SPLITS - 1:
                tl.store(counters + tile, 0)
        elif arrived == N_SPLITS:
            _join(
                y, scaled, squares_out, squares, gains, residual, first, j, i,
                r, n, n_rows, eps, N, K, BM, BN, BM, N_SPLITS,
                N_SQUARES, S, IS_SWIGLU, IS_STREAM,
            )  # fmt: skip
            tl.store(counters + tile, 0)


def multiply_tiles(
    x: Tensor,
    weight: Tensor,
    y: Tensor,
    parts: Parts,
    tile: DotTile,
    *,
    squares: Tensor | None = None,
    eps: float = 0.0,
    stream: Stream | None = None,
    is_swiglu: bool = False,
    is_pdl: bool = False,
    is_prefetched: bool = False,
) -> Tensor:
    """Compute ``x W^T`` with what stands before and behind it in a decoder.

    Args:
        x: Shape (rows, in), contiguous, bfloat16 or float16.
        weight: Shape (out, in), contiguous, of x's dtype; for SwiGLU the gate's rows, then as many
            for up.
        y: Written and returned, shape (rows, out), or (rows, out / 2) for SwiGLU; contiguous.
        parts: With room for this product's (see ``sizes``).
        tile: How to cut it.
        squares: Sums of squares of the stream that x is, times gains, shape (rows, blocks),
            float32, contiguous: the product is scaled as an RMS norm of that stream scales x.
        eps: Of that norm.
        stream: What to add and to leave for the next norm; None writes the product alone.
        is_swiglu: Whether to write ``silu(gate) * up``.
        is_pdl: Whether to start while the kernel before still runs; needs compute capability 9.0.
        is_prefetched: Whether to ask for the weights before the kernel before has ended; they come
            into the second-level cache. It needs ``is_pdl``, and blocks that divide the inputs.

    Raises:
        ValueError: Programs would wait for others that are not on the GPU yet.
    """
    n_rows, n_in = x.shape
    n_out = y.shape[1]
    n_programs = tile.n_tiles(n_rows, n_out) * tile.n_splits
    if tile.is_joint and x.is_cuda and n_programs > n_units(x.device):
        raise ValueError(f"{n_programs} programs would wait for one another, not all of them there")
    n_steps, is_even = _steps(tile, n_in)
    is_prefetched = is_prefetched and is_pdl and is_even
    n_squares = 0 if squares is None else squares.shape[1]
    constants: dict[str, Any] = {
        "N": n_out, "K": n_in, "BM": tile.block_m, "BN": tile.block_n, "BK": tile.block_k,
        "N_SPLITS": tile.n_splits, "N_STEPS": n_steps, "N_SQUARES": n_squares,
        "S": triton.next_power_of_2(n_squares), "IS_SWIGLU": is_swiglu,
        "IS_STREAM": stream is not None, "IS_EVEN": is_even, "IS_PDL": is_pdl,
        "IS_JOINT": tile.is_joint and x.is_cuda and tile.n_splits > 1, "IS_WIDE": not x.is_cuda,
        "N_PIECES": _pieces(tile, n_steps, is_swiglu) if is_prefetched else 0,
        "num_warps": tile.n_warps, "num_stages": tile.n_stages,
    }  # fmt: skip
    if is_pdl:
        constants["launch_pdl"] = True
    product_kernel[(tile.n_tiles(n_rows, n_out), tile.n_splits)](
        y, x if stream is None else stream.scaled, x if stream is None else stream.squares,
        x, weight, x if squares is None else squares, x if stream is None else stream.gains,
        x if stream is None else stream.residual, parts.numbers, parts.counters,
        n_rows, eps, **constants,
    )  # fmt: skip
    return y


def sizes(tile: DotTile, n_rows: int, n_out: int, *, is_swiglu: bool) -> tuple[int, int]:
    """Return how many numbers all parts of a product have, and how many tiles it has."""
    n_tiles = tile.n_tiles(n_rows, n_out)
    n_parts = n_tiles * tile.n_splits * tile.block_m * tile.block_n * (2 if is_swiglu else 1)
    return (n_parts if tile.n_splits > 1 else 0), n_tiles


@cache
def n_units(device: torch.device) -> int:
    """Return how many multiprocessors a GPU has."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _steps(tile: DotTile, n_in: int) -> tuple[int, bool]:
    """Return how many blocks of inputs a program has, and whether all of them are whole."""
    n_steps = -(-n_in // (tile.block_k * tile.n_splits))
    return n_steps, n_steps * tile.block_k * tile.n_splits == n_in


def _pieces(tile: DotTile, n_steps: int, is_swiglu: bool) -> int:
    """Return into how many pieces a program's share of a row falls, so that each thread has one."""
    n_threads, n_rows = LANES * tile.n_warps, tile.block_n * (2 if is_swiglu else 1)
    most = n_steps * tile.block_k * 2 // VECTOR_BYTES
    n = max(1, n_threads // n_rows)
    return min(n, most & -most)


def choose_dot_tile(n_rows: int, n_out: int, n_in: int) -> DotTile:
    """Cut so that about a program falls to each of an H200's multiprocessors.

    Args:
        n_rows: Rows of the product.
        n_out: Output columns, gated ones for SwiGLU.
        n_in: Inputs.
    """
    block_m = min(64, max(16, triton.next_power_of_2(n_rows)))
    tile = DotTile(block_m=block_m, block_n=32 if n_rows <= 64 else 64, n_stages=6)
    wanted = min(96 // tile.n_tiles(n_rows, n_out), n_in // 256)
    n_splits = 1 << (wanted.bit_length() - 1 if wanted else 0)
    if n_splits * tile.n_tiles(n_rows, n_out) < 96 and n_splits < n_in // 256:
        n_splits *= 2
    return replace(tile, n_splits=n_splits)
