"""What stands between the matrix products when a library makes them: norms and SwiGLU."""
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
