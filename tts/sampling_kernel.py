"""Draw a token per row in one Triton kernel, without sorting the scores, and note it in another.

Both questions that a sort would answer, where top-p ends and which token the uniform number falls
on, are one: at which value does the running sum, from the likeliest down, first exceed a target?
Non-negative floats order as their bits do, so at most 30 halvings of the bit range find that value
exactly (some 15, as a rule), each with one sum over a row that stays in registers; top-k is the
same question of counts. Sums are of integers, so the answer is that of the sort in
``tts.sampling``, bit for bit.
A bounded ``topk`` would need a fallback for flat distributions, and a CUDA graph cannot branch: it
would have to sort at every step after all.
"""
# ruff: noqa: ANN001, ANN202, N803 - the arguments of a kernel have no Python types
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tts.sampling import REPETITION_WINDOW, UNIT, RowSampling

MAX_VOCABULARY = 65_536  # a row is held in one block's registers
_UNIT = tl.constexpr(UNIT)
_SCALE = tl.constexpr(float(UNIT))
_WINDOW = tl.constexpr(REPETITION_WINDOW)
_WINDOW_BLOCK = tl.constexpr(triton.next_power_of_2(REPETITION_WINDOW))
_ONE = tl.constexpr(0x3F800000)  # the bits of 1.0, the likeliest token's value
_LEAST = tl.constexpr(0x30800000)  # those of 2^-30, the least that weighs anything
_MASK32 = tl.constexpr(0xFFFFFFFF)
_MASK24 = tl.constexpr(0xFFFFFF)


def draw(scores: Tensor, rows: RowSampling, keys: Tensor, step: Tensor, tokens: Tensor) -> Tensor:
    """Draw one token per row; see ``tts.sampling.Sampler.draw``.

    Args:
        scores: Shape (rows, vocabulary), float32; overwritten where a token is penalised.
        rows: The parameters.
        keys: Shape (rows, 2), int64.
        step: Shape (rows, 1), int64.
        tokens: Shape (rows, capacity), int64.

    Returns:
        Shape (rows, 1), int64.

    Raises:
        ValueError: The vocabulary is too large for one block.
    """
    n_rows, vocabulary = scores.shape
    if vocabulary > MAX_VOCABULARY:
        raise ValueError(f"vocabulary {vocabulary} is above {MAX_VOCABULARY}")
    scores = scores.contiguous()
    drawn = torch.empty((n_rows, 1), dtype=torch.int64, device=scores.device)
    block = triton.next_power_of_2(vocabulary)
    _draw_kernel[(n_rows,)](
        scores,
        rows.values,
        keys,
        step,
        tokens,
        drawn,
        vocabulary,
        tokens.shape[1],
        tokens.stride(0),
        BLOCK=block,
        num_warps=min(16, max(4, block // 1024)),
    )
    return drawn


def note(
    token: Tensor,
    last: Tensor,
    tokens: Tensor,
    step: Tensor,
    is_done: Tensor,
    caps: Tensor,
    end: int,
) -> None:
    """Append drawn tokens to their rows in one kernel instead of eight.

    Args:
        token: Shape (rows, 1), int64.
        last: Shape (rows, 1), int64: takes the token, or ``end`` in a row that has ended.
        tokens: Shape (rows, capacity), int64: takes the same at ``step``.
        step: Shape (rows, 1), int64: counted on.
        is_done: Shape (rows, 1), bool: set where the token is ``end`` or the cap is reached.
        caps: Shape (rows, 1), int64.
        end: The end's id.
    """
    n_rows = len(token)
    _note_kernel[(1,)](
        token,
        last,
        tokens,
        step,
        is_done.view(torch.uint8),
        caps,
        n_rows,
        tokens.stride(0),
        tokens.shape[1],
        END=end,
        BLOCK=triton.next_power_of_2(n_rows),
    )


@triton.jit
def _note_kernel(
    token, last, tokens, steps, is_done, caps,
    n_rows, token_stride, capacity, END: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.arange(0, BLOCK)
    is_row = row < n_rows
    was_done = tl.load(is_done + row, mask=is_row, other=1) != 0
    drawn = tl.where(was_done, END, tl.load(token + row, mask=is_row, other=END))
    step = tl.load(steps + row, mask=is_row, other=0)
    tl.store(last + row, drawn, mask=is_row)
    tl.store(tokens + row * token_stride + step, drawn, mask=is_row & (step < capacity))
    tl.store(steps + row, step + 1, mask=is_row)
    ends = was_done | (drawn == END) | (step + 1 >= tl.load(caps + row, mask=is_row, other=0))
    tl.store(is_done + row, ends.to(tl.uint8), mask=is_row)


@triton.jit
def _mix(x):
    """See ``tts.sampling._mix``."""
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & _MASK32
    x = ((x ^ (x >> 15)) * 0x735A2D97) & _MASK32
    return x ^ (x >> 15)


@triton.jit
def _sum(amounts, is_counted):
    """Add up int32 as int64; kept as int32, a row of 16 k fits a block's registers."""
    return tl.sum(tl.where(is_counted, amounts, 0).to(tl.int64))


@triton.jit
def _amount(bits):
    """Return what one token of this value weighs."""
    return (bits.to(tl.float32, bitcast=True) * _SCALE).to(tl.int64)


@triton.jit
def _select(bits, amounts, target, total, low, IS_COUNT: tl.constexpr):
    """Find the largest value v such that the amounts of all >= v exceed the target.

    The bracket [low, high) is halved until it holds one token (less than two of the least amount
    in it) or one value.

    Args:
        bits: Non-negative float32 as int32, at most 1.0.
        amounts: int32 of the same shape, 0 where there is no token.
        target: int64, below ``total``.
        total: int64, the sum of all amounts.
        low: int32, no more than v.
        IS_COUNT: Whether every token's amount is 1.

    Returns:
        v as bits, and the sum of the amounts above it.
    """
    low = tl.where(target < (1 if IS_COUNT else _UNIT), _ONE, low)
    high = tl.full((), _ONE + 1, tl.int32)
    above = tl.full((), 0, tl.int64)
    is_wide = high - low > 1
    while is_wide:
        middle = low + (high - low) // 2
        found = _sum(amounts, bits >= middle)
        is_low = found > target
        low = tl.where(is_low, middle, low)
        total = tl.where(is_low, found, total)
        high = tl.where(is_low, high, middle)
        above = tl.where(is_low, above, found)
        each = tl.full((), 1, tl.int64) if IS_COUNT else _amount(low)
        is_wide = (high - low > 1) & (total - above >= 2 * each)
    return tl.max(tl.where(bits < high, bits, 0)), above


@triton.jit
def _penalise(scores, row_tokens, step, capacity, penalty):
    """Penalise recent tokens in memory: every old score is read before one is written."""
    back = tl.arange(0, _WINDOW_BLOCK)
    index = step - 1 - back
    is_recent = (back < _WINDOW) & (index >= 0) & (index < capacity)
    recent = tl.load(row_tokens + index, mask=is_recent, other=0)
    old = tl.load(scores + recent, mask=is_recent, other=0.0)
    tl.debug_barrier()
    tl.store(scores + recent, tl.where(old > 0, old / penalty, old * penalty), mask=is_recent)
    tl.debug_barrier()


@triton.jit
def _kept_mass(bits, amounts, relative, total, is_token, vocabulary, top_k, min_p):
    """Return the sum of what top-k and min-p keep; both keep the front of the order."""
    kept = total
    if min_p > 0:
        kept = _sum(amounts, relative >= min_p)
    if top_k == 1:
        kept = tl.full((), _UNIT, tl.int64)
    elif top_k < vocabulary:
        ones = is_token.to(tl.int32)
        start = tl.full((), 0, tl.int32)
        value, n_above = _select(
            bits, ones, (top_k - 1).to(tl.int64), vocabulary.to(tl.int64), start, True
        )
        above = _sum(amounts, bits > value)
        kept = tl.minimum(kept, above + (top_k - n_above) * _amount(value))
    return kept


@triton.jit
def _draw_kernel(
    scores, parameters, keys, steps, tokens, drawn,
    vocabulary, capacity, token_stride, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    scores += row.to(tl.int64) * vocabulary
    temperature = tl.load(parameters + row * 6 + 1)
    top_k = tl.load(parameters + row * 6 + 2).to(tl.int32)
    top_p = tl.load(parameters + row * 6 + 3).to(tl.int64)
    min_p = tl.load(parameters + row * 6 + 4)
    penalty = tl.load(parameters + row * 6 + 5)
    step = tl.load(steps + row)
    if penalty != 1.0:
        _penalise(scores, tokens + row.to(tl.int64) * token_stride, step, capacity, penalty)
    ids = tl.arange(0, BLOCK)
    is_token = ids < vocabulary
    score = tl.load(scores + ids, mask=is_token, other=float("-inf")) / temperature
    relative = tl.exp(score - tl.max(score))
    relative = tl.where(is_token & (relative == relative), relative, 0.0)
    bits = relative.to(tl.int32, bitcast=True)
    amounts = (relative * _SCALE).to(tl.int32)

    total = _sum(amounts, is_token)
    mass = _kept_mass(bits, amounts, relative, total, is_token, vocabulary, top_k, min_p)
    low = tl.full((), _LEAST, tl.int32)
    if top_p < _MASK24 + 1:
        needed = (mass >> 24) * top_p + (((mass & _MASK24) * top_p + _MASK24) >> 24)
        low, above = _select(bits, amounts, needed - 1, total, low, False)
        each = tl.maximum(_amount(low), 1)
        mass = above + (needed - above + each - 1) // each * each

    random = _mix(step ^ tl.load(keys + row * 2)) + tl.load(keys + row * 2 + 1)
    random = _mix(random & _MASK32) >> 8
    target = (mass >> 24) * random + (((mass & _MASK24) * random) >> 24)
    value, above = _select(bits, amounts, target, total, low, False)
    nth = (target - above) // tl.maximum(_amount(value), 1) + 1
    is_equal = (bits == value) & is_token
    is_found = is_equal & (tl.cumsum(is_equal.to(tl.int32), 0) == nth)
    token = tl.min(tl.where(is_found, ids, vocabulary))
    token = tl.where(token < vocabulary, token, 0)  # none where no score is a number
    tl.store(drawn + row, token.to(tl.int64))
