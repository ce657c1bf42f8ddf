"""Matrix products for 5 to 256 rows, on tensor cores, with all that stands between them.

A program makes a tile of the output. Where the tiles are fewer than the multiprocessors, several
programs share one and cut it along the inputs. What they leave is added in a fixed order, by the
last of them to arrive, told by a counter, or by all of them, each some of the rows, once all have
arrived. So the same rows give the same bits every time, and a row's sums do not depend on the rows
beside it. Their number may choose another tile: up to 16 rows one serves all, so from 17 to 32, and
from 33 to 64.

There is no norm kernel. What writes the residual stream also writes it times the next norm's
gains, and sums of its squares; the next product reads that and scales its result by the norm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from tts.kernels.product_kernel import product_kernel

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
        is_prefetched: Whether a program that starts early asks for its weights before it waits;
            they come into the second-level cache. Blocks must divide the inputs.
    """

    block_m: int = 64
    block_n: int = 32
    block_k: int = 64
    n_splits: int = 1
    n_stages: int = 4
    n_warps: int = 4
    is_joint: bool = False
    is_prefetched: bool = False

    def n_tiles(self, n_rows: int, n_out: int) -> int:
        """Return how many tiles the output has."""
        return -(-n_rows // self.block_m) * self.n_column_tiles(n_out)

    def n_column_tiles(self, n_out: int) -> int:
        """Return how many tiles lie side by side: so many sums of squares a row has."""
        return -(-n_out // self.block_n)

    def steps(self, n_in: int) -> tuple[int, bool]:
        """Return how many blocks of inputs a program has, and whether all of them are whole."""
        n_steps = -(-n_in // (self.block_k * self.n_splits))
        return n_steps, n_steps * self.block_k * self.n_splits == n_in

    def n_pieces(self, n_in: int, *, is_swiglu: bool) -> int:
        """Return into how many pieces a program's share of a row falls: one for every thread."""
        n_threads, n_rows = LANES * self.n_warps, self.block_n * (2 if is_swiglu else 1)
        most = self.steps(n_in)[0] * self.block_k * 2 // VECTOR_BYTES
        return min(max(1, n_threads // n_rows), most & -most)


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

    Raises:
        ValueError: Programs would wait for others that are not on the GPU yet, or blocks of what
            is asked for early do not divide the inputs.
    """
    n_rows, n_in = x.shape
    n_out = y.shape[1]
    n_programs = tile.n_tiles(n_rows, n_out) * tile.n_splits
    if tile.is_joint and x.is_cuda and n_programs > limits(x.device)[0]:
        raise ValueError(f"{n_programs} programs would wait for one another, not all of them there")
    n_steps, is_even = tile.steps(n_in)
    if tile.is_prefetched and not is_even:
        raise ValueError(f"{tile.block_k} x {n_steps} x {tile.n_splits} are not {n_in} inputs")
    n_squares = 0 if squares is None else squares.shape[1]
    n_pieces = tile.n_pieces(n_in, is_swiglu=is_swiglu)
    constants: dict[str, Any] = {
        "N": n_out, "K": n_in, "BM": tile.block_m, "BN": tile.block_n, "BK": tile.block_k,
        "N_SPLITS": tile.n_splits, "N_STEPS": n_steps, "N_STAGES": tile.n_stages,
        "N_SQUARES": n_squares, "S": triton.next_power_of_2(n_squares), "IS_SWIGLU": is_swiglu,
        "IS_STREAM": stream is not None, "IS_EVEN": is_even, "IS_PDL": is_pdl,
        "IS_JOINT": tile.is_joint and x.is_cuda and tile.n_splits > 1, "IS_WIDE": not x.is_cuda,
        "N_PIECES": n_pieces if tile.is_prefetched and is_pdl else 0,
        "num_warps": tile.n_warps,
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
def limits(device: torch.device) -> tuple[int, int]:
    """Return a GPU's multiprocessors, and the bytes of shared memory that a program may have.

    Of what interprets kernels: an H200's.
    """
    if device.type != "cuda":
        return 132, 227 * 1024
    found = torch.cuda.get_device_properties(device)
    return found.multi_processor_count, found.shared_memory_per_block_optin  # type: ignore[attr-defined]


def _tiles(gated: DotTile, long: DotTile, wide: DotTile, narrow: DotTile) -> dict[str, DotTile]:
    return {"gated": gated, "long": long, "wide": wide, "narrow": narrow}


# Quickest on an H200 (benchmarks/decoder/NOTES.md), by rows at most: of SwiGLU, of many inputs, of
# many columns, and of few of both.
_QUICKEST = {
    16: _tiles(
        DotTile(block_m=16, block_n=16, block_k=128, n_stages=8, is_prefetched=True),
        DotTile(block_n=64, n_stages=8, n_splits=8),
        DotTile(block_m=16, block_n=16, block_k=128, n_stages=8, is_prefetched=True),
        DotTile(block_m=16, block_n=16, block_k=128, n_stages=8),
    ),
    32: _tiles(
        DotTile(block_m=32, block_n=16, block_k=128, n_stages=6),
        DotTile(block_n=64, n_stages=8, n_splits=8),
        DotTile(block_m=32, block_n=32, block_k=128, n_stages=6),
        DotTile(block_m=32, block_n=16, block_k=128, n_stages=8, is_prefetched=True),
    ),
    64: _tiles(
        DotTile(block_n=32, n_stages=8),
        DotTile(block_n=64, n_stages=8, n_splits=8),
        DotTile(block_n=32, n_stages=8),
        DotTile(block_n=16, block_k=128, n_stages=5, is_prefetched=True),
    ),
    128: _tiles(
        DotTile(block_n=64, n_stages=8),
        DotTile(block_n=64, n_stages=8, n_splits=4),
        DotTile(block_n=64, n_stages=8),
        DotTile(block_n=32, n_stages=8),
    ),
    MAX_ROWS: _tiles(
        DotTile(block_m=128, block_n=64, n_stages=7, n_warps=8),
        DotTile(block_m=128, block_n=64, n_stages=8, n_splits=4),
        DotTile(block_n=128, n_stages=8),
        DotTile(block_n=64, n_stages=8),
    ),
}


def choose_dot_tile(
    n_rows: int, n_out: int, n_in: int, *, is_swiglu: bool, n_units: int, shared_bytes: int
) -> DotTile:
    """Cut as was quickest on an H200 (benchmarks/decoder/NOTES.md), as far as a GPU allows.

    The same for 1 to 16 rows, for 17 to 32, and for 33 to 64: there a row's sums do not depend on
    how many rows stand beside it.

    Args:
        n_rows: Rows of the product, at most ``MAX_ROWS``.
        n_out: Output columns, gated ones for SwiGLU.
        n_in: Inputs.
        is_swiglu: Whether two rows of the weight make a column.
        n_units: Multiprocessors of the GPU.
        shared_bytes: Shared memory that a program may have there.

    Raises:
        ValueError: No block of inputs fits into the shared memory twice.
    """
    tiles = next(tiles for most, tiles in _QUICKEST.items() if n_rows <= most)
    short = "wide" if n_out >= 2048 else "narrow"
    tile = tiles["gated" if is_swiglu else "long" if n_in >= 2048 else short]
    n_bytes = 2 * tile.block_k * (tile.block_m + tile.block_n * (2 if is_swiglu else 1))
    n_stages = min(tile.n_stages, shared_bytes // n_bytes)
    if n_stages < 2:
        raise ValueError(f"a program has {shared_bytes} bytes of shared memory, not {2 * n_bytes}")
    wanted = min(tile.n_splits, n_units // tile.n_tiles(n_rows, n_out), n_in // 256)
    n_splits = 1 << max(0, wanted.bit_length() - 1)
    tile = replace(tile, n_splits=n_splits, is_joint=n_splits > 1, n_stages=n_stages)
    return replace(tile, is_prefetched=tile.is_prefetched and tile.steps(n_in)[1])
