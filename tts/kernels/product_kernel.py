"""The kernel of ``tts.kernels.products``: a tile of a product, and what stands beside it."""
# ruff: noqa: ANN001, ANN201, C901, ANN202, N803 - kernels have no Python types
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

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
    y, scaled, squares_out, a, parts, old, gain, r, n, column_tile, n_rows, eps,
    N: tl.constexpr, K: tl.constexpr, BN: tl.constexpr, ROWS: tl.constexpr,
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
        at_square = squares_out + r * n_blocks + column_tile
        tl.store(at_square, tl.sum(wide * wide, axis=1), mask=r < n_rows)
    else:
        tl.store(y + at, a.to(y.dtype.element_ty), mask=live)


@triton.jit
def _join(
    y, scaled, squares_out, squares, gains, residual, parts, j, i, r, n, column_tile, n_rows, eps,
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
        y, scaled, squares_out, joined, sums, old, gain, r, n, column_tile, n_rows, eps,
        N, K, BN, ROWS, N_SQUARES, IS_SWIGLU, IS_STREAM,
    )  # fmt: skip


@triton.jit
def _weight_rows(first_n, N: tl.constexpr, BN: tl.constexpr, IS_SWIGLU: tl.constexpr):
    """Return the rows of a weight that a tile reads; columns past the last one repeat it."""
    if IS_SWIGLU:  # a gate beside its up: both fall to one thread
        i = tl.arange(0, 2 * BN)
        n = tl.minimum(first_n + i // 2, N - 1) + (i % 2) * N
    else:
        n = tl.minimum(first_n + tl.arange(0, BN), N - 1)
    return n


@triton.jit
def _ask(
    w, tile, split, n_row_tiles, N: tl.constexpr, K: tl.constexpr, BN: tl.constexpr,
    SHARE: tl.constexpr, N_PIECES: tl.constexpr, IS_SWIGLU: tl.constexpr,
):  # fmt: skip
    """Bring a program's share of a weight, SHARE inputs, into the second-level cache."""
    piece: tl.constexpr = SHARE // N_PIECES
    n = _weight_rows(tile // n_row_tiles * BN, N, BN, IS_SWIGLU)
    at = w + n[:, None] * K + (split * SHARE + tl.arange(0, N_PIECES) * piece)[None, :]
    n_bytes = tl.full(at.shape, 2 * piece, tl.int32)  # of 16-bit numbers
    tl.inline_asm_elementwise(_PREFETCH, "=r,l,r", [at.to(tl.int64), n_bytes], tl.int32, False, 1)


@triton.jit
def product_kernel(
    y, scaled, squares_out, x, w, squares, gains, residual, parts, counters, n_rows, eps,
    N: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    N_SPLITS: tl.constexpr, N_STEPS: tl.constexpr, N_STAGES: tl.constexpr,
    N_SQUARES: tl.constexpr, S: tl.constexpr,
    IS_SWIGLU: tl.constexpr, IS_STREAM: tl.constexpr, IS_EVEN: tl.constexpr,
    IS_JOINT: tl.constexpr, IS_WIDE: tl.constexpr,
    N_PIECES: tl.constexpr, IS_PDL: tl.constexpr,
):  # fmt: skip
    """Multiply rows (n_rows, K) by a weight (N, K), or (2 N, K) for SwiGLU."""
    tile = tl.program_id(0)
    split = tl.program_id(1)
    if IS_PDL:
        gdc_launch_dependents()
        if N_PIECES > 0:
            _ask(
                w, tile, split, tl.cdiv(n_rows, BM), N, K, BN, N_STEPS * BK, N_PIECES, IS_SWIGLU
            )  # fmt: skip
        gdc_wait()  # what stands above was not written by this step
    n_row_tiles = tl.cdiv(n_rows, BM)  # neighbours share their weights
    r = (tile % n_row_tiles) * BM + tl.arange(0, BM)
    column_tile = tile // n_row_tiles
    first_n = column_tile * BN
    n = first_n + tl.arange(0, BN)
    width: tl.constexpr = 2 * BN if IS_SWIGLU else BN
    i = tl.arange(0, width)
    k = split * (N_STEPS * BK) + tl.arange(0, BK)
    # Rows that are not there repeat the last one: no masks on the way.
    at_x = x + tl.minimum(r, n_rows - 1)[:, None] * K + k[None, :]
    at_w = w + _weight_rows(first_n, N, BN, IS_SWIGLU)[:, None] * K + k[None, :]
    if N_SPLITS == 1:
        sums, old, gain = _beside(
            squares, gains, residual, r, n, n_rows, N, N_SQUARES, S, IS_STREAM
        )  # fmt: skip
    a = tl.zeros((BM, width), tl.float32)
    for step in tl.range(N_STEPS, num_stages=N_STAGES):
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
            y, scaled, squares_out, a, sums, old, gain, r, n, column_tile, n_rows, eps,
            N, K, BN, BM, N_SQUARES, IS_SWIGLU, IS_STREAM,
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
                (tile % n_row_tiles) * BM + j, n, column_tile, n_rows, eps,
                N, K, BM, BN, share, N_SPLITS, N_SQUARES, S, IS_SWIGLU, IS_STREAM,
            )  # fmt: skip
            if tl.atomic_add(counters + tile, 1, sem="relaxed") == 2 * N_SPLITS - 1:
                tl.store(counters + tile, 0)
        elif arrived == N_SPLITS:
            _join(
                y, scaled, squares_out, squares, gains, residual, first, j, i,
                r, n, column_tile, n_rows, eps, N, K, BM, BN, BM, N_SPLITS,
                N_SQUARES, S, IS_SWIGLU, IS_STREAM,
            )  # fmt: skip
            tl.store(counters + tile, 0)
