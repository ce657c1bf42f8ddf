"""Attention of one query per row over a cache, cut along the cache: flash-decoding.

Only the live part of the cache is read. The grid is fixed, so that a graph can hold it; how many
of its programs work, and on which slots, follows from the lengths on the device. The last program
of a head to arrive, told by a counter, joins what the others left: a second kernel would cost a
launch a layer, about as much as the attention itself at two rows.

Source: Dao et al. 2023, Flash-Decoding; Kwon et al. 2023, PagedAttention.
"""
# ruff: noqa: ANN001, ANN201, C901, ANN202, N803 - kernels have no Python types
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

LOG2_E = 1.4426950408889634
ROUND = tl.constexpr(12582912.0)  # 1.5 x 2^23: adding and taking it off rounds to even


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


@triton.jit
def _turned(x, at, norm, at_table, cos, sin, eps, D: tl.constexpr, HAS_NORM: tl.constexpr):
    """Load a head's D numbers, normalise them if asked, and turn them by their position."""
    d = tl.arange(0, D)
    partner = (d + D // 2) % D
    own = tl.load(x + at + d).to(tl.float32)
    other = tl.load(x + at + partner).to(tl.float32)
    if HAS_NORM:
        rms = tl.rsqrt(tl.sum(own * own, axis=0) / D + eps)
        own = own * rms * tl.load(norm + d).to(tl.float32)
        other = other * rms * tl.load(norm + partner).to(tl.float32)
    sign = tl.where(d < D // 2, -1.0, 1.0)
    return own * tl.load(cos + at_table + d) + sign * other * tl.load(sin + at_table + d)


@triton.jit
def _stored(x, cache, scales, writes, IS_INT8: tl.constexpr, D: tl.constexpr):
    """Write one entry into its slot and return it as it will be read back."""
    d = tl.arange(0, D)
    mask = (d < D) & writes
    if IS_INT8:
        scale = tl.maximum(tl.max(tl.abs(x), axis=0), 1e-8) / 127.0
        codes = (x / scale + ROUND) - ROUND
        tl.store(cache + d, codes.to(tl.int8), mask=mask)
        tl.store(scales, scale, mask=writes)
        return codes * scale
    kept = x.to(cache.dtype.element_ty)
    tl.store(cache + d, kept, mask=mask)
    return kept.to(tl.float32)


@triton.jit
def _fetch(
    k, v, k_scales, v_scales, table, t, end, row, kv, n_pages,
    kv_row, kv_head, kv_slot, s_row, s_head, s_slot,
    D: tl.constexpr, PAGE: tl.constexpr, IS_INT8: tl.constexpr,
):  # fmt: skip
    """Load the slots t of one head: keys, values (slots, D) and their scales (slots,)."""
    live = t < end
    if PAGE > 0:
        place = tl.load(table + row * n_pages + t // PAGE, mask=live, other=0).to(tl.int64)
        t = t % PAGE
    else:
        place = row.to(tl.int64)
    at = (place * kv_row + kv * kv_head + t * kv_slot)[:, None] + tl.arange(0, D)[None, :]
    keys = tl.load(k + at, mask=live[:, None], other=0)
    values = tl.load(v + at, mask=live[:, None], other=0)
    key_scale = t
    value_scale = t
    if IS_INT8:
        at_s = place * s_row + kv * s_head + t * s_slot
        key_scale = tl.load(k_scales + at_s, mask=live, other=0.0)
        value_scale = tl.load(v_scales + at_s, mask=live, other=0.0)
    return keys, values, key_scale, value_scale


@triton.jit
def attention_kernel(
    y, q, k, v, k_scales, v_scales, lengths, table, cos, sin, q_norm, k_norm,
    parts, weights, counters, scale, eps,
    q_row, q_head, kv_row, kv_head, kv_slot, s_row, s_head, s_slot, n_pages,
    N_HEADS: tl.constexpr, N_KV: tl.constexpr, D: tl.constexpr, N_SPLITS: tl.constexpr,
    MIN_CHUNK: tl.constexpr, BLOCK: tl.constexpr, PAGE: tl.constexpr,
    IS_INT8: tl.constexpr, HAS_NEW: tl.constexpr, HAS_NORM: tl.constexpr, IS_PDL: tl.constexpr,
):  # fmt: skip
    """Attend with one query; HAS_NEW: q holds q, k and v of a new entry as the product left them.

    Then ``lengths`` are positions: the slot the new entry is written to, and how many lie before.
    PAGE 0 is a cache with a row per sequence; otherwise its rows are pages of PAGE slots.
    """
    if IS_PDL:
        gdc_launch_dependents()
    n = tl.program_id(0)
    row = n // N_HEADS
    head = n % N_HEADS
    split = tl.program_id(1)
    group: tl.constexpr = N_HEADS // N_KV
    kv = head // group
    d = tl.arange(0, D)
    n_old = tl.load(lengths + row).to(tl.int32)
    n_active = tl.minimum(tl.maximum(tl.cdiv(n_old, MIN_CHUNK), 1), N_SPLITS)
    if split >= n_active:
        return
    chunk = tl.cdiv(n_old, n_active)
    begin = split * chunk
    end = tl.minimum(begin + chunk, n_old)

    # The first slots are asked for before the query is there: an earlier step wrote them.
    i = tl.arange(0, BLOCK)
    keys, values, key_scale, value_scale = _fetch(
        k, v, k_scales, v_scales, table, begin + i, end, row, kv, n_pages,
        kv_row, kv_head, kv_slot, s_row, s_head, s_slot, D, PAGE, IS_INT8,
    )  # fmt: skip
    if IS_PDL:
        gdc_wait()

    at_q = row * q_row + head * q_head
    if HAS_NEW:
        query = _turned(q, at_q, q_norm, n_old * D, cos, sin, eps, D, HAS_NORM)
        # Every program of a group works these out; only the first writes them.
        at_new = row * q_row + (N_HEADS + kv) * q_head
        new_k = _turned(q, at_new, k_norm, n_old * D, cos, sin, eps, D, HAS_NORM)
        new_v = tl.load(q + at_new + N_KV * q_head + d).to(tl.float32)
        is_owner = split == 0
        writes = is_owner & (head % group == 0)
        new_place = row.to(tl.int64)
        new_slot = n_old
        if PAGE > 0:
            new_place = tl.load(table + row * n_pages + n_old // PAGE).to(tl.int64)
            new_slot = n_old % PAGE
        at_slot = new_place * kv_row + kv * kv_head + new_slot * kv_slot
        at_scale = new_place * s_row + kv * s_head + new_slot * s_slot
        new_k = _stored(new_k, k + at_slot, k_scales + at_scale, writes, IS_INT8, D)
        new_v = _stored(new_v, v + at_slot, v_scales + at_scale, writes, IS_INT8, D)
    else:
        query = tl.load(q + at_q + d).to(tl.float32)
    query = query * scale

    # Each slot of a block keeps sums of its own, so that threads meet once, at the end.
    best = tl.full((BLOCK,), -1.0e30, tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    sums = tl.zeros((BLOCK, D), tl.float32)
    start = begin
    while start < end:  # the interpreter counts over no range of the device's numbers
        live = start + i < end
        start += BLOCK
        next_keys, next_values, next_key_scale, next_value_scale = _fetch(
            k, v, k_scales, v_scales, table, start + i, end, row, kv, n_pages,
            kv_row, kv_head, kv_slot, s_row, s_head, s_slot, D, PAGE, IS_INT8,
        )  # fmt: skip
        s = tl.sum(query[None, :] * keys.to(tl.float32), axis=1)
        if IS_INT8:
            s = s * key_scale
        s = tl.where(live, s, -1.0e30)
        higher = tl.maximum(best, s)
        p = tl.where(live, tl.exp2(s - higher), 0.0)
        shrink = tl.exp2(best - higher)
        best = higher
        total = total * shrink + p
        if IS_INT8:
            p = p * value_scale
        sums = sums * shrink[:, None] + p[:, None] * values.to(tl.float32)
        keys, values = next_keys, next_values
        key_scale, value_scale = next_key_scale, next_value_scale

    top = tl.max(best, axis=0)
    shrink = tl.exp2(best - top)
    mass = tl.sum(total * shrink, axis=0)
    answer = tl.sum(sums * shrink[:, None], axis=0)
    if HAS_NEW:
        s_new = tl.sum(query * new_k, axis=0)
        old_top = top
        top = tl.where(is_owner, tl.maximum(top, s_new), top)
        p_new = tl.where(is_owner, tl.exp2(s_new - top), 0.0)
        mass = mass * tl.exp2(old_top - top) + p_new
        answer = answer * tl.exp2(old_top - top) + p_new * new_v

    if n_active == 1:
        tl.store(y + n * D + d, (answer / mass).to(y.dtype.element_ty))
    else:
        part = n * N_SPLITS + split
        tl.store(parts + part * D + d, answer)
        tl.store(weights + part * 2, top)
        tl.store(weights + part * 2 + 1, mass)
        tl.debug_barrier()  # all threads have written before one of them says so
        arrived = tl.atomic_add(counters + n, 1, sem="acq_rel")
        if arrived == n_active - 1:
            j = tl.arange(0, N_SPLITS)
            there = j < n_active
            at_part = n * N_SPLITS + j
            tops = tl.load(weights + at_part * 2, mask=there, other=-1.0e30, cache_modifier=".cg")
            masses = tl.load(weights + at_part * 2 + 1, mask=there, other=0.0, cache_modifier=".cg")
            answers = tl.load(
                parts + at_part[:, None] * D + d[None, :],
                mask=there[:, None], other=0.0, cache_modifier=".cg",
            )  # fmt: skip
            w = tl.exp2(tops - tl.max(tops, axis=0))
            joined = tl.sum(answers * w[:, None], axis=0) / tl.sum(masses * w, axis=0)
            tl.store(y + n * D + d, joined.to(y.dtype.element_ty))
            tl.store(counters + n, 0)


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
    """What turns a product into a query, a key and a value: for ``attend_new``.

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


def choose_splits(n_heads: int, n_slots: int, n_units: int = 132) -> Splits:
    """Cut so that about two programs fall to each multiprocessor, where the cache is that long.

    Args:
        n_heads: Rows times heads.
        n_slots: Slots a row may have in use.
        n_units: Multiprocessors.
    """
    wanted = max(1, min(2 * n_units // max(n_heads, 1), n_slots // 64, 64))
    return Splits(n_splits=1 << (wanted.bit_length() - 1))


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
        splits = choose_splits(n_rows * n_heads, n_slots)
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
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    block_table: Tensor | None = None,
    n_splits: int | None = None,
) -> Tensor:
    del k, v, lengths, key_scales, value_scales, block_table, n_splits
    n_rows, n_heads, _, head_dim = q.shape
    return q.new_empty((n_rows, n_heads, 1, head_dim))
