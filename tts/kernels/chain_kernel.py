"""The kernel of ``tts.kernels.chain``: four products that follow one another, in one launch."""
# ruff: noqa: ANN001, ANN201, ANN202, C901, N803, SIM102 - kernels have no Python types
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tts.kernels.product_kernel import ask, make


@triton.jit
def _meet(counter, n_arrivals):
    """Wait until so many programs have arrived; what they wrote can then be read."""
    tl.debug_barrier()  # all threads have written before one of them says so
    arrived = tl.atomic_add(counter, 1, sem="acq_rel") + 1
    while arrived < n_arrivals:
        arrived = tl.atomic_add(counter, 0, sem="acquire")


@triton.jit
def _prefetch(
    w, n_rows, N: tl.constexpr, K: tl.constexpr, CUT: tl.constexpr, IS_SWIGLU: tl.constexpr
):
    """Bring this program's share of a weight into the second-level cache."""
    if CUT[7] > 0:
        n_row_tiles = tl.cdiv(n_rows, CUT[0])
        n_tiles = n_row_tiles * tl.cdiv(N, CUT[1])
        n = tl.program_id(0)
        if n < n_tiles * CUT[3]:
            share: tl.constexpr = CUT[2] * CUT[4]
            ask(w, n % n_tiles, n // n_tiles, n_row_tiles, N, K, CUT[1], share, CUT[7], IS_SWIGLU)


@triton.jit
def _phase(
    y, scaled, squares_out, x, w, squares, gains, residual, parts, counters, n_rows, eps,
    N: tl.constexpr, K: tl.constexpr, CUT: tl.constexpr,
    N_SQUARES: tl.constexpr, S: tl.constexpr,
    IS_SWIGLU: tl.constexpr, IS_STREAM: tl.constexpr, IS_JOINT: tl.constexpr, IS_WIDE: tl.constexpr,
):  # fmt: skip
    """Make this program's part of a product, if it has one."""
    n_tiles = tl.cdiv(n_rows, CUT[0]) * tl.cdiv(N, CUT[1])
    n = tl.program_id(0)
    if n < n_tiles * CUT[3]:
        make(
            y, scaled, squares_out, x, w, squares, gains, residual, parts, counters, n_rows, eps,
            n % n_tiles, n // n_tiles, N, K, CUT[0], CUT[1], CUT[2], CUT[3], CUT[4], CUT[5],
            N_SQUARES, S, IS_SWIGLU, IS_STREAM, CUT[6], IS_JOINT, IS_WIDE,
        )  # fmt: skip


@triton.jit
def chain_kernel(
    x, residual, attended, scaled, gated, qkv, after_out, after_down,
    w_out, w_gate_up, w_down, w_qkv, ffn_gains, next_gains, parts, counters, meeting, n_rows, eps,
    WIDTH: tl.constexpr, ATTENDED: tl.constexpr, FFN: tl.constexpr, QKV: tl.constexpr,
    OUT: tl.constexpr, GATE_UP: tl.constexpr, DOWN: tl.constexpr, NEXT: tl.constexpr,
    N_OUT: tl.constexpr, S_OUT: tl.constexpr, N_DOWN: tl.constexpr, S_DOWN: tl.constexpr,
    FIRST: tl.constexpr, LAST: tl.constexpr, IS_PDL: tl.constexpr, IS_GPU: tl.constexpr,
):  # fmt: skip
    """Run the products FIRST to LAST of: output, gate and up, down, the next layer's qkv.

    OUT and the like are block_m, block_n, block_k, splits, steps, stages, whether blocks are whole,
    pieces of a row to ask for.
    """
    n_programs = tl.num_programs(0)
    if IS_PDL:
        gdc_launch_dependents()
        _prefetch(w_out, n_rows, WIDTH, ATTENDED, OUT, False)
        _prefetch(w_gate_up, n_rows, FFN, WIDTH, GATE_UP, True)
        gdc_wait()  # what stands above was not written by this step
    if FIRST <= 0:
        _phase(
            x, scaled, after_out, attended, w_out, after_out, ffn_gains, residual, parts, counters,
            n_rows, eps, WIDTH, ATTENDED, OUT, 0, 1, False, True, IS_GPU, not IS_GPU,
        )  # fmt: skip
    if FIRST <= 0 and LAST >= 1:
        _prefetch(w_down, n_rows, WIDTH, FFN, DOWN, False)
        _meet(meeting, n_programs)
    if FIRST <= 1 and LAST >= 1:
        _phase(
            gated, gated, after_out, scaled, w_gate_up, after_out, ffn_gains, x, parts, counters,
            n_rows, eps, FFN, WIDTH, GATE_UP, N_OUT, S_OUT, True, False, IS_GPU, not IS_GPU,
        )  # fmt: skip
    if FIRST <= 1 and LAST >= 2:
        if LAST >= 3:
            _prefetch(w_qkv, n_rows, QKV, WIDTH, NEXT, False)
        _meet(meeting, 2 * n_programs)
    if FIRST <= 2 and LAST >= 2:
        _phase(
            x, scaled, after_down, gated, w_down, after_down, next_gains, x, parts, counters,
            n_rows, eps, WIDTH, FFN, DOWN, 0, 1, False, True, IS_GPU, not IS_GPU,
        )  # fmt: skip
    if FIRST <= 2 and LAST >= 3:
        _meet(meeting, 3 * n_programs)
    if LAST >= 3:
        _phase(
            qkv, qkv, after_down, scaled, w_qkv, after_down, next_gains, x, parts, counters,
            n_rows, eps, QKV, WIDTH, NEXT, N_DOWN, S_DOWN, False, False, IS_GPU, not IS_GPU,
        )  # fmt: skip
    if FIRST < LAST:  # the last to leave counts back
        if tl.atomic_add(meeting, 1, sem="relaxed") == (LAST + 1) * n_programs - 1:
            tl.store(meeting, 0)
