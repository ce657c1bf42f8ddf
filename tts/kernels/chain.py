"""Four products that follow one another in one launch: output, gate and up, down, the next qkv.

A kernel's start, first bytes and end take 3 us however little it multiplies, and a layer has four
products of a few us each. Here as many programs as the GPU has multiprocessors stay for all four,
and between two products wait for one another; their share of the next weights is on its way then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from torch import Tensor

from tts.kernels.chain_kernel import chain_kernel
from tts.kernels.products import DotTile, Parts, limits

ROLES = ("out", "gate_up", "down", "qkv")


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """What the four products read and write, for one number of rows; all contiguous.

    Args:
        attended: Shape (rows, heads x head_dim).
        x: The stream, shape (rows, width): written.
        scaled: Shaped as x; written: the stream times the next norm's gains.
        gated: Shape (rows, ffn_width); written.
        qkv: Shape (rows, heads and twice kv_heads x head_dim); written.
        after_out: Sums of squares, shape (rows, column tiles of out), float32; written.
        after_down: As ``after_out``, of down.
        parts: With room for any of the products.
        meeting: A zero, int32; counts itself back.
    """

    attended: Tensor
    x: Tensor
    scaled: Tensor
    gated: Tensor
    qkv: Tensor
    after_out: Tensor
    after_down: Tensor
    parts: Parts
    meeting: Tensor


def multiply_chain(
    chain: Chain,
    weights: tuple[Tensor, Tensor, Tensor, Tensor | None],
    gains: tuple[Tensor, Tensor],
    tiles: dict[str, DotTile],
    *,
    residual: Tensor,
    eps: float,
    is_pdl: bool = False,
) -> None:
    """Run a layer from its attention's end to the next layer's queries, keys and values.

    Args:
        chain: What is read and written.
        weights: Of out, gate_up, down and the next layer's qkv; without the last, down ends it.
        gains: Of this layer's second norm and of the next norm.
        tiles: By role, all of as many warps.
        residual: The stream before the layer's output product, shape (rows, width); may be x.
        eps: Of the norms.
        is_pdl: Whether to start while the kernel before still runs; needs compute capability 9.0.

    Raises:
        ValueError: Tiles of unequal warps, or more programs than are on the GPU at once.
    """
    w_out, w_gate_up, w_down, w_qkv = weights
    n_rows, width = chain.x.shape
    shapes = {
        "out": (width, w_out.shape[1]),
        "gate_up": (chain.gated.shape[1], width),
        "down": (width, chain.gated.shape[1]),
        "qkv": (chain.qkv.shape[1], width),
    }
    n_warps = {tiles[role].n_warps for role in ROLES}
    if len(n_warps) > 1:
        raise ValueError(f"programs of {sorted(n_warps)} warps cannot be the same")
    n_programs = max(tiles[r].n_tiles(n_rows, shapes[r][0]) * tiles[r].n_splits for r in ROLES)
    is_gpu = chain.x.is_cuda
    if is_gpu and n_programs > limits(chain.x.device)[0]:
        raise ValueError(f"{n_programs} programs would wait for one another, not all of them there")
    n_out, n_down = chain.after_out.shape[1], chain.after_down.shape[1]
    constants: dict[str, Any] = {
        "WIDTH": width, "ATTENDED": w_out.shape[1], "FFN": shapes["down"][1],
        "QKV": shapes["qkv"][0], "N_OUT": n_out, "S_OUT": triton.next_power_of_2(n_out),
        "N_DOWN": n_down, "S_DOWN": triton.next_power_of_2(n_down), "IS_PDL": is_pdl,
        "IS_GPU": is_gpu, "num_warps": n_warps.pop(),
    }  # fmt: skip
    for name, role in zip(("OUT", "GATE_UP", "DOWN", "NEXT"), ROLES, strict=True):
        constants[name] = _cut(tiles[role], shapes[role][1], is_swiglu=role == "gate_up")
    if is_pdl:
        constants["launch_pdl"] = True
    last = 2 if w_qkv is None else 3
    # The interpreter runs one program after the other: none may wait for another.
    for first, until in [(0, last)] if is_gpu else [(i, i) for i in range(last + 1)]:
        chain_kernel[(n_programs,)](
            chain.x, residual, chain.attended, chain.scaled, chain.gated, chain.qkv,
            chain.after_out, chain.after_down, w_out, w_gate_up, w_down,
            w_down if w_qkv is None else w_qkv, *gains, chain.parts.numbers, chain.parts.counters,
            chain.meeting, n_rows, eps, FIRST=first, LAST=until, **constants,
        )  # fmt: skip


def _cut(tile: DotTile, n_in: int, *, is_swiglu: bool) -> tuple[int, ...]:
    """Return a tile as the kernel takes it."""
    steps, is_whole = tile.steps(n_in)
    pieces = tile.n_pieces(n_in, is_swiglu=is_swiglu) if is_whole else 0
    return (
        tile.block_m, tile.block_n, tile.block_k, tile.n_splits, steps, tile.n_stages, is_whole,
        pieces,
    )  # fmt: skip


def alike(tiles: dict[str, DotTile]) -> dict[str, DotTile]:
    """Give all tiles the most warps that any of them has."""
    n_warps = max(tile.n_warps for tile in tiles.values())
    return {role: replace(tile, n_warps=n_warps) for role, tile in tiles.items()}


def meeting(device: torch.device) -> Tensor:
    """Return a counter for ``Chain``."""
    return torch.zeros(1, dtype=torch.int32, device=device)
