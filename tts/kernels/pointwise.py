"""What stands before and between the matrix products of many rows: norms and SwiGLU."""
# ruff: noqa: ANN001, ANN201, N803 - kernels have no Python types
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def norm_kernel(y, x, gains, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr, IS_PDL: tl.constexpr):
    """Normalise one row by its root mean square."""
    if IS_PDL:
        gdc_launch_dependents()
    i = tl.arange(0, BLOCK)
    live = i < WIDTH
    gain = tl.load(gains + i, mask=live, other=0.0).to(tl.float32)
    if IS_PDL:
        gdc_wait()
    at = tl.program_id(0).to(tl.int64) * WIDTH + i
    row = tl.load(x + at, mask=live, other=0.0).to(tl.float32)
    row = row * tl.rsqrt(tl.sum(row * row, axis=0) / WIDTH + eps) * gain
    tl.store(y + at, row.to(y.dtype.element_ty), mask=live)


@triton.jit
def swiglu_kernel(y, x, WIDTH: tl.constexpr, BLOCK: tl.constexpr, IS_PDL: tl.constexpr):
    """Write silu(gate) * up of one row, gate and up side by side in x."""
    if IS_PDL:
        gdc_launch_dependents()
        gdc_wait()
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = i < WIDTH
    row = tl.program_id(0).to(tl.int64)
    gate = tl.load(x + row * (2 * WIDTH) + i, mask=live, other=0.0).to(tl.float32)
    up = tl.load(x + row * (2 * WIDTH) + WIDTH + i, mask=live, other=0.0).to(tl.float32)
    value = gate * tl.sigmoid(gate) * up
    tl.store(y + row * WIDTH + i, value.to(y.dtype.element_ty), mask=live)


@triton.jit
def prepare_kernel(
    y, squares, x, gains,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, N_SQUARES: tl.constexpr, S: tl.constexpr,
    IS_PDL: tl.constexpr,
):  # fmt: skip
    """Write one row times the gains, and its sum of squares."""
    if IS_PDL:
        gdc_launch_dependents()
    i = tl.arange(0, BLOCK)
    s = tl.arange(0, S)
    live = i < WIDTH
    n = tl.program_id(0).to(tl.int64)
    gain = tl.load(gains + i, mask=live, other=0.0).to(tl.float32)
    row = tl.load(x + n * WIDTH + i, mask=live, other=0.0).to(tl.float32)
    tl.store(y + n * WIDTH + i, (row * gain).to(y.dtype.element_ty), mask=live)
    total = tl.sum(row * row, axis=0)
    tl.store(squares + n * N_SQUARES + s, tl.where(s == 0, total, 0.0), mask=s < N_SQUARES)


def normalise(x: Tensor, gains: Tensor, eps: float, y: Tensor, *, is_pdl: bool = False) -> Tensor:
    """Write the RMS norm of x (rows, width) to y; both contiguous."""
    n_rows, width = x.shape
    block = triton.next_power_of_2(width)
    constants: dict[str, Any] = {"WIDTH": width, "BLOCK": block, "IS_PDL": is_pdl}
    constants["num_warps"] = min(8, max(1, block // 256))
    if is_pdl:
        constants["launch_pdl"] = True
    norm_kernel[(n_rows,)](y, x, gains, eps, **constants)
    return y


def swiglu(x: Tensor, y: Tensor, *, is_pdl: bool = False) -> Tensor:
    """Write silu(gate) * up of x (rows, 2 width) to y (rows, width); both contiguous."""
    n_rows, width = y.shape
    block = min(1024, triton.next_power_of_2(width))
    constants: dict[str, Any] = {"WIDTH": width, "BLOCK": block, "IS_PDL": is_pdl}
    if is_pdl:
        constants["launch_pdl"] = True
    swiglu_kernel[(n_rows, triton.cdiv(width, block))](y, x, num_warps=4, **constants)
    return y


def prepare(
    x: Tensor, gains: Tensor, y: Tensor, squares: Tensor, *, is_early: bool = False
) -> Tensor:
    """Write x (rows, width) times the gains to y, and sums of its squares: for ``products``.

    Args:
        x: Contiguous.
        gains: Shape (width,).
        y: Written and returned, contiguous.
        squares: Written, shape (rows, blocks), float32, contiguous: a row's add up to its sum.
        is_early: Whether the next kernel may start while this one runs.
    """
    n_rows, width = x.shape
    block = triton.next_power_of_2(width)
    n_squares = squares.shape[1]
    prepare_kernel[(n_rows,)](
        y, squares, x, gains, WIDTH=width, BLOCK=block, N_SQUARES=n_squares,
        S=triton.next_power_of_2(n_squares), IS_PDL=is_early,
        num_warps=min(8, max(1, block // 256)),
    )  # fmt: skip
    return y
