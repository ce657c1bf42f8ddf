"""The kernel of ``tts.kernels.decode_attention``: one query per row, over a share of the cache.

Source: Dao et al. 2023, Flash-Decoding; Kwon et al. 2023, PagedAttention.
"""
# ruff: noqa: ANN001, ANN201, C901, ANN202, N803 - kernels have no Python types
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

ROUND = tl.constexpr(12582912.0)  # 1.5 x 2^23: adding and taking it off rounds to even


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
