"""Attention of one query per row over a cache, cut along the cache: flash-decoding.

Only the live part of the cache is read. The grid is fixed, so that a graph can hold it; how many
of its programs work, and on which slots, follows from the lengths on the device. The last program
of a head to arrive, told by a counter, joins what the others left: a second kernel would cost a
launch a layer, about as much as the attention itself at two rows.

Source: Dao et al. 2023, Flash-Decoding; Kwon et al. 2023, PagedAttention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tts.kernels.attention_kernel import attention_kernel

LOG2_E = 1.4426950408889634


@dataclass(frozen=True, kw_only=True)
class Splits:
    """How the work is cut.

    Args:
        n_splits: Programs per row and head, a power of two.
        min_chunk: The fewest slots that are worth a program of their own.
        block: Slots a program looks at together, a power of two.
        n_warps: Warps per program.
    """

    n_splits: int = 4
    min_chunk: int = 64
    block: int = 64
    n_warps: int = 4


class Workspace:
    """What programs leave for the last one of their head; zeroed counters count themselves back.

    One workspace serves any number of calls that follow each other on one stream.

    Args:
        n_heads: Rows times heads.
        splits: How the work is cut.
        head_dim: Width of a head.
        device: Where the cache lies.
    """

    def __init__(self, n_heads: int, splits: Splits, head_dim: int, device: torch.device) -> None:
        n = n_heads * splits.n_splits
        self.parts = torch.empty((n, head_dim), dtype=torch.float32, device=device)
        self.weights = torch.empty((n, 2), dtype=torch.float32, device=device)
        self.counters = torch.zeros(n_heads, dtype=torch.int32, device=device)


@dataclass(frozen=True, kw_only=True, eq=False)
class NewEntry:
    """What turns a product into a query, a key and a value: for ``attend``.

    Args:
        cos: Shape (positions, head_dim), float32; as ``tts.decoder.rotary_table`` gives it.
        sin: As ``cos``.
        q_norm: Gains of the queries' norm, shape (head_dim,), or None.
        k_norm: As ``q_norm``.
        eps: Of those norms.
    """

    cos: Tensor
    sin: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    eps: float


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    y: Tensor,
    workspace: Workspace,
    splits: Splits,
    *,
    n_heads: int,
    new: NewEntry | None = None,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    block_table: Tensor | None = None,
    is_pdl: bool = False,
) -> Tensor:
    """Launch the kernel.

    Args:
        q: Shape (rows, heads, head_dim); with ``new``, (rows, heads + 2 kv_heads, head_dim) as
            the product of q, k and v left it. The last axis is contiguous.
        k: Shape (rows or pages, kv_heads, slots, head_dim), the last axis contiguous; with ``new``
            the new entry is written to it.
        v: As ``k``, of the same strides.
        lengths: Shape (rows,): how many slots are live; with ``new``, the new entry's position.
        y: Written and returned, shape (rows, heads, head_dim), contiguous.
        workspace: For these rows and splits.
        splits: How to cut it.
        n_heads: Heads of the query.
        new: How to make the new entry, or None to read the cache alone.
        key_scales: Shape (rows or pages, kv_heads, slots, 1), float32, for a cache of int8.
        value_scales: As ``key_scales``.
        block_table: Shape (rows, pages a row), int32, contiguous, for a paged cache.
        is_pdl: Whether to start while the kernel before still runs.
    """
    n_rows, head_dim, page = q.shape[0], q.shape[-1], 0 if block_table is None else k.shape[2]
    is_int8 = key_scales is not None and value_scales is not None
    s_strides = key_scales.stride()[:3] if key_scales is not None else (0, 0, 0)
    has_norm = new is not None and new.q_norm is not None
    constants: dict[str, Any] = {
        "N_HEADS": n_heads, "N_KV": k.shape[1], "D": head_dim, "N_SPLITS": splits.n_splits,
        "MIN_CHUNK": splits.min_chunk, "BLOCK": splits.block, "PAGE": page, "IS_INT8": is_int8,
        "HAS_NEW": new is not None, "HAS_NORM": has_norm, "IS_PDL": is_pdl,
        "num_warps": splits.n_warps,
    }  # fmt: skip
    if is_pdl:
        constants["launch_pdl"] = True
    attention_kernel[(n_rows * n_heads, splits.n_splits)](
        y, q, k, v,
        key_scales if is_int8 else q, value_scales if is_int8 else q, lengths,
        lengths if block_table is None else block_table,
        q if new is None else new.cos, q if new is None else new.sin,
        new.q_norm if new is not None and has_norm else q,
        new.k_norm if new is not None and has_norm else q,
        workspace.parts, workspace.weights, workspace.counters,
        head_dim**-0.5 * LOG2_E, 0.0 if new is None else new.eps,
        q.stride(0), q.stride(1), *k.stride()[:3], *s_strides,
        0 if block_table is None else block_table.shape[1],
        **constants,
    )  # fmt: skip
    return y


def choose_splits(n_heads: int, n_slots: int, head_dim: int, n_units: int = 132) -> Splits:
    """Cut so that about two programs fall to each multiprocessor, where the cache is that long.

    Many heads of 64, a program each, look at fewer slots at a time: as was quickest on an H200 at
    1,024 and 4,096 of them with 1,024 slots (benchmarks/decoder/NOTES.md).

    Args:
        n_heads: Rows times heads.
        n_slots: Slots a row may have in use.
        head_dim: Width of a head.
        n_units: Multiprocessors.
    """
    wanted = max(1, min(2 * n_units // max(n_heads, 1), n_slots // 64, 64))
    n_splits = 1 << (wanted.bit_length() - 1)
    is_short = n_slots <= 1024
    if head_dim == 64 and n_heads > 1000 and is_short:
        n_warps = 1 if n_heads < 2048 else 4
        return Splits(n_splits=n_splits, block=32, n_warps=n_warps)
    return Splits(n_splits=n_splits)


_workspaces: dict[tuple[int, int, Splits, torch.device], Workspace] = {}


@torch.library.custom_op("mosgate::decode_attention", mutates_args=())
def decode_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    block_table: Tensor | None = None,
    n_splits: int | None = None,
) -> Tensor:
    """Attend with one query per row to the first ``lengths`` slots of a cache.

    Nothing is looked at by the host, so it can be captured; calls must follow each other on one
    stream, for they share what programs leave for each other.

    Args:
        q: Shape (batch, heads, 1, head_dim), the last axis contiguous.
        k: Shape (batch, kv_heads, slots, head_dim), the last axis contiguous, heads a multiple of
            kv_heads; for a paged cache (pages, kv_heads, page_size, head_dim).
        v: As ``k``, of the same strides.
        lengths: Shape (batch,), int32 or int64, at least 1.
        key_scales: Shape (batch, kv_heads, slots, 1), float32, where k and v are int8.
        value_scales: As ``key_scales``.
        block_table: Shape (batch, pages a row), int32: where each row's pages lie.
        n_splits: Programs per row and head, a power of two; chosen by the shapes if None.

    Returns:
        Shape (batch, heads, 1, head_dim), of q's type.
    """
    n_rows, n_heads, _, head_dim = q.shape
    n_slots = k.shape[2] * (1 if block_table is None else block_table.shape[1])
    if n_splits is None:
        splits = choose_splits(n_rows * n_heads, n_slots, head_dim)
    else:
        splits = Splits(n_splits=n_splits)
    key = (n_rows * n_heads, head_dim, splits, q.device)
    if key not in _workspaces:
        _workspaces[key] = Workspace(n_rows * n_heads, splits, head_dim, q.device)
    y = torch.empty((n_rows, n_heads, head_dim), dtype=q.dtype, device=q.device)
    attend(
        q.squeeze(2), k, v, lengths, y, _workspaces[key], splits, n_heads=n_heads,
        key_scales=key_scales, value_scales=value_scales, block_table=block_table,
    )  # fmt: skip
    return y[:, :, None]


@decode_attention.register_fake
def _(q: Tensor, *_args: object, **_kwargs: object) -> Tensor:
    n_rows, n_heads, _, head_dim = q.shape
    return q.new_empty((n_rows, n_heads, 1, head_dim))
