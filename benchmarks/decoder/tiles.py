"""A layer's products, what each should take in a tile, and which tiles are worth a try."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tts.decoder import DecoderConfig

if TYPE_CHECKING:
    from tts.kernels.products import DotTile

N_UNITS = 132  # multiprocessors, of an H200
FEW = 32  # rows
# Fitted to the first run on an H200, whose 150 tiles of 64 and 256 rows it meets within 9 % (one
# standard deviation); bytes are of one multiprocessor and a us, but from memory, which is for all.
START_US, JOIN_US = 3.0, 0.5
UNIT_BYTES, PART_BYTES, MEMORY_BYTES = 80e3, 30e3, 4.25e6
SHARED_BYTES = 227 * 1024


@dataclass(frozen=True, kw_only=True)
class Role:
    """One of a layer's products: its shape and what stands beside it.

    Args:
        name: As in ``tts.fused.Tuning``.
        n_out: Output columns.
        n_in: Inputs.
        is_normed: Whether its input is normalised.
        is_swiglu: Whether the output is gated: the weight then has twice the rows.
        is_stream: Whether it is added to the residual stream.
    """

    name: str
    n_out: int
    n_in: int
    is_normed: bool = False
    is_swiglu: bool = False
    is_stream: bool = False

    @property
    def n_weight_rows(self) -> int:
        """Rows of the weight."""
        return self.n_out * (2 if self.is_swiglu else 1)


def roles(c: DecoderConfig) -> dict[str, Role]:
    """Return the products of a decoder's layer."""
    n_qkv = c.head_dim * (c.n_heads + 2 * c.n_kv_heads)
    found = (
        Role(name="qkv", n_out=n_qkv, n_in=c.width, is_normed=True),
        Role(name="out", n_out=c.width, n_in=c.n_heads * c.head_dim, is_stream=True),
        Role(name="gate_up", n_out=c.ffn_width, n_in=c.width, is_normed=True, is_swiglu=True),
        Role(name="down", n_out=c.width, n_in=c.ffn_width, is_stream=True),
    )
    return {role.name: role for role in found}


def estimate_us(role: Role, tile: DotTile, n_rows: int) -> float:
    """Return what a product should take by its bytes, started in order."""
    n_programs = tile.n_tiles(n_rows, role.n_out) * tile.n_splits
    per_unit = -(-n_programs // N_UNITS)
    n_columns = tile.block_n * (2 if role.is_swiglu else 1)
    n_inputs = role.n_in / tile.n_splits
    read_us = per_unit * 2 * (tile.block_m + n_columns) * n_inputs / UNIT_BYTES
    memory_us = 2 * role.n_weight_rows * role.n_in / MEMORY_BYTES
    us = START_US + max(read_us, memory_us)
    if tile.n_splits == 1:
        return us
    n_parts = per_unit + (1 if tile.is_joint else tile.n_splits)  # written, and read by one
    return us + JOIN_US + n_parts * 4 * tile.block_m * n_columns / PART_BYTES


def candidates(role: Role, n_rows: int, n_wanted: int) -> list[DotTile]:
    """Return the tiles that should be quickest, each in several depths, best first.

    So many for each number of rows a tile may have where there are few rows: in a step the estimate
    does not say which of those wins (``NOTES.md``).
    """
    from tts.kernels.products import DotTile

    found: dict[DotTile, float] = {}
    least_m = 16 if n_rows <= FEW else 64
    for block_m in (m for m in (16, 32, 64, 128, 256) if least_m <= m < 2 * max(16, n_rows)):
        for n_columns in (16, 32, 64, 128, 256):
            block_n = n_columns // (2 if role.is_swiglu else 1)
            for n_splits in (1, 2, 4, 8, 16):
                if block_n < 16 or block_m * n_columns > 128 * 256 or role.n_in < 64 * n_splits:
                    continue
                n_warps = 8 if block_m * n_columns > 64 * 128 else 4
                tile = DotTile(block_m=block_m, block_n=block_n, n_splits=n_splits, n_warps=n_warps)
                n_programs = tile.n_tiles(n_rows, role.n_out) * n_splits
                if 1 < n_splits <= block_m and n_programs <= N_UNITS:
                    joint = replace(tile, is_joint=True)
                    found[joint] = estimate_us(role, joint, n_rows)
                found[tile] = estimate_us(role, tile, n_rows)
    best = sorted(found, key=lambda tile: found[tile])
    groups = [best]
    if n_rows <= FEW:
        groups = [[tile for tile in best if tile.block_m == block_m] for block_m in (16, 32)]
    return [deep for group in groups for tile in group[:n_wanted] for deep in _depths(role, tile)]


def _depths(role: Role, tile: DotTile) -> list[DotTile]:
    """Return a tile with as many stages as let two programs share a multiprocessor, and one."""
    n_columns = tile.block_n * (2 if role.is_swiglu else 1)
    found = []
    for block_k, n_bytes in ((64, SHARED_BYTES // 2), (64, SHARED_BYTES), (128, SHARED_BYTES // 2)):
        n_steps = role.n_in // (tile.n_splits * block_k)
        fit = (n_bytes - 2048) // (2 * block_k * (tile.block_m + n_columns))
        n_stages = min(fit, 8, n_steps + 1)
        if n_steps and n_stages >= 3:
            found.append(replace(tile, block_k=block_k, n_stages=n_stages))
    return list(dict.fromkeys(found))
