"""Matrix products for one to eight rows on tensor cores, which read every weight once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from tts.kernels.mma_rows_kernel import mma_rows_kernel
from tts.kernels.weights import Int4Rows, Int8Rows, Weight

MAX_ROWS, VECTOR_BYTES = 8, 16
GROUP = 128  # inputs of one turn of one warp in 4 bits, which must share a scale


@dataclass(frozen=True, kw_only=True)
class MmaTile:
    """How a product is cut.

    Args:
        n_blocks: Blocks of eight output columns per program, a power of two.
        n_warps: Warps per program, along the inputs.
        max_registers: Of a thread: fewer let more programs be on the way at once.
    """

    n_blocks: int = 1
    n_warps: int = 8
    max_registers: int = 128


def takes(weight: Weight, dtype: torch.dtype) -> bool:
    """Say whether rows of this type are multiplied by this weight, in whole vectors of 16 bytes.

    Which numbers a thread holds follows from the vectors. Codes become bfloat16 by an instruction
    of compute capability 9.0.
    """
    n_out, n_in = weight.shape
    words = weight if isinstance(weight, Tensor) else weight.words
    is_aligned = words.data_ptr() % VECTOR_BYTES == 0 and n_out % 4 == 0
    if dtype not in (torch.bfloat16, torch.float16) or torch.version.hip is not None:
        return False
    if isinstance(weight, Tensor):
        return is_aligned and weight.dtype == dtype and n_in % 8 == 0
    if dtype == torch.bfloat16 and words.is_cuda:
        is_aligned &= torch.cuda.get_device_capability(words.device) >= (9, 0)
    if isinstance(weight, Int4Rows):
        return is_aligned and weight.group == GROUP and n_in % GROUP == 0
    return is_aligned and n_in % 16 == 0


def fits(x: Tensor, weight: Weight, norm: Tensor | None = None, *others: Tensor | None) -> bool:
    """Say whether the kernel takes this product; ``others`` are what it writes and adds.

    Rows times gains are rounded before they are scaled: float16 could overflow where a norm would
    not, so its norms are left to ``tts.kernels.linear``.
    """
    beside = [t for t in (x, norm, *others) if t is not None]
    return (
        len(x) <= MAX_ROWS
        and takes(weight, x.dtype)
        and (norm is None or x.dtype == torch.bfloat16)
        and all(t.dtype == x.dtype and t.data_ptr() % VECTOR_BYTES == 0 for t in beside)
    )


def multiply_mma(
    x: Tensor,
    weight: Weight,
    y: Tensor,
    *,
    norm: Tensor | None = None,
    eps: float = 0.0,
    residual: Tensor | None = None,
    is_swiglu: bool = False,
    is_pdl: bool = False,
    tile: MmaTile | None = None,
) -> Tensor:
    """Compute as ``tts.kernels.linear.multiply`` does; see there.

    Raises:
        ValueError: What ``fits`` says no to.
    """
    if not fits(x, weight, norm, y, residual):
        raise ValueError(
            f"tensor cores multiply at most {MAX_ROWS} rows of 16 bits, by weights of as many or "
            f"by codes in groups of {GROUP}, normalised in bfloat16 only: not {len(x)} of "
            f"{x.dtype} by {tuple(weight.shape)}"
        )
    n_rows, n_in = x.shape
    n_out = weight.shape[0] // 2 if is_swiglu else weight.shape[0]
    bits = 8 if isinstance(weight, Int8Rows) else 4 if isinstance(weight, Int4Rows) else 16
    tile = tile or choose_mma_tile(weight, is_swiglu=is_swiglu, has_norm=norm is not None)
    n_turns = -(-n_in * bits // (32 * 16 * tile.n_warps))
    constants: dict[str, Any] = {
        "N_ROWS": n_rows, "R": triton.next_power_of_2(n_rows), "N": n_out, "K": n_in,
        "J": tile.n_blocks, "KT": triton.next_power_of_2(n_turns), "KW": tile.n_warps,
        "BITS": bits, "HAS_NORM": norm is not None, "HAS_RESIDUAL": residual is not None,
        "IS_SWIGLU": is_swiglu, "IS_PDL": is_pdl, "IS_BF16": x.dtype == torch.bfloat16,
        "IS_ASM": not triton.knobs.runtime.interpret, "num_warps": tile.n_warps,
        "maxnreg": tile.max_registers,
    }  # fmt: skip
    if is_pdl:
        constants["launch_pdl"] = True
    words = weight if isinstance(weight, Tensor) else weight.words
    scales = x if isinstance(weight, Tensor) else weight.scales
    grid = (triton.cdiv(n_out, 8 * tile.n_blocks),)
    mma_rows_kernel[grid](
        _words(y), _words(x), _words(words), scales,
        _words(x if norm is None else norm), _words(x if residual is None else residual), eps,
        **constants,
    )  # fmt: skip
    return y


def choose_mma_tile(weight: Weight, *, is_swiglu: bool = False, has_norm: bool = False) -> MmaTile:
    """Cut as was quickest on an H200 with two rows of 1,024 and of 4,096 inputs.

    Few warps are quicker, since they meet sooner, as long as their threads have the registers.
    """
    if weight.shape[1] >= 2048:
        n_warps, most = (8, 96) if isinstance(weight, Int4Rows) else (8, 255)
        if isinstance(weight, Int8Rows):
            n_warps = 4
        return MmaTile(n_blocks=1, n_warps=n_warps, max_registers=most)
    if is_swiglu:
        if isinstance(weight, Int4Rows):
            return MmaTile(n_blocks=4, n_warps=8, max_registers=255)
        if isinstance(weight, Int8Rows):
            return MmaTile(n_blocks=2, n_warps=8, max_registers=128)
        return MmaTile(n_blocks=2, n_warps=4, max_registers=255)
    if isinstance(weight, Int4Rows):
        return MmaTile(
            n_blocks=1, n_warps=4 if has_norm else 2, max_registers=128 if has_norm else 255
        )
    if has_norm:
        return MmaTile(n_blocks=2, n_warps=4, max_registers=255)
    return MmaTile(n_blocks=1, n_warps=4, max_registers=128)


def _words(t: Tensor) -> Tensor:
    return t.view(torch.int32)
