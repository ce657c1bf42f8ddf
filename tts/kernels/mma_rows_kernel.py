"""The kernel of ``tts.kernels.mma_rows``: few rows on tensor cores, by weights as they lie.

As in ``tts.kernels.linear`` a program asks for its whole share of the weights before it waits for
anything; what is left to do when its rows are there is a tenth of the instructions. Eight columns
of the weight are the second operand of a tensor core's product, and which input goes with which is
free as long as both operands agree: so weights stay in memory as they are, and a thread takes 16
bytes of one column at a time. Codes become exact 16-bit floats by a bit pattern and a difference.
The first operand is the rows, over and over: each repetition keeps the sums of another eight
columns, so that few threads hold sums of nothing.

Tensors have the axes (lanes, warps, turns, blocks of eight columns, words): in this order Triton
gives a thread whole words of one turn.
"""
# ruff: noqa: ANN001, ANN201, ANN202, C901, N803, N806 - kernels have no Python types
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,misc"

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


def _mma(name: str, x: str, w: str, is_first: bool) -> str:
    """Multiply two words of a column by two of a row, and add to the sums."""
    sums = "{$0,$1,$2,$3}"
    return (
        f"mma.sync.aligned.m16n8k16.row.col.f32.{name}.{name}.f32 {sums}, {{{x}}}, {{{w}}}, "
        f"{'{f,f,f,f}' if is_first else sums}; "
    )


def _assembly(name: str, bits: int) -> str:
    """Multiply four words of a column ($4 to $7) by the words of a row that go with them ($8 on).

    The other eight rows of the tensor core's product are zero.
    """
    text = "{ .reg .b32 z, a, b, c, d, v; .reg .f32 f; mov.b32 z, 0; mov.f32 f, 0f00000000; "
    ones = {"bf16": 0x4300, "f16": 0x6400}[name]  # the bits of 128 and of 1024
    both, nibble = (f"0x{number:04x}{number:04x}" for number in (ones, ones + 8))
    if bits == 16:
        text += _mma(name, "$8,z,$9,z", "$4,$5", is_first=True)
        return text + _mma(name, "$10,z,$11,z", "$6,$7", is_first=False) + "}"
    if bits == 4:
        # A nibble below the bits of 128 or 1024, less that and the 8 of its sign.
        for i in range(4):
            for part, shift in (("a", 0), ("b", 4), ("c", 8), ("d", 12)):
                source = f"${4 + i}"
                if shift:
                    text += f"shr.u32 v, {source}, {shift}; "
                    source = "v"
                text += f"lop3.b32 {part}, {source}, 0x000f000f, {both}, 0xea; "
                text += f"mov.b32 v, {nibble}; sub.rn.{name}x2 {part}, {part}, v; "
            text += _mma(name, f"${8 + i},z,${12 + i},z", "a,b", is_first=i == 0)
            text += _mma(name, f"${16 + i},z,${20 + i},z", "c,d", is_first=False)
        return text + "}"
    for i in range(4):
        text += f"shr.u32 v, ${4 + i}, 8; "
        for part, less, source in (("a", "b", f"${4 + i}"), ("c", "d", "v")):
            if name == "f16":  # 1024 and the byte, less 1024 and the 128 of its sign
                text += f"lop3.b32 {part}, {source}, 0x00ff00ff, {both}, 0xea; "
                text += f"mov.b32 {less}, 0x64806480; "
            else:  # 128 and the lower seven bits, less 128 or 256 by the highest
                text += f"lop3.b32 {part}, {source}, 0x007f007f, {both}, 0xea; "
                text += f"lop3.b32 {less}, {source}, 0x00800080, 0x43804380, 0x6a; "
            text += f"sub.rn.{name}x2 {part}, {part}, {less}; "
        text += _mma(name, f"${8 + i},z,${12 + i},z", "a,c", is_first=i == 0)
    return text + "}"


_OUT = "=&f,=&f,=&f,=&f,"
_BF16_16 = tl.constexpr(_assembly("bf16", 16))
_BF16_8 = tl.constexpr(_assembly("bf16", 8))
_BF16_4 = tl.constexpr(_assembly("bf16", 4))
_F16_16 = tl.constexpr(_assembly("f16", 16))
_F16_8 = tl.constexpr(_assembly("f16", 8))
_F16_4 = tl.constexpr(_assembly("f16", 4))
_OPERANDS_16 = tl.constexpr(_OUT + ",".join(["r"] * 8))
_OPERANDS_8 = tl.constexpr(_OUT + ",".join(["r"] * 12))
_OPERANDS_4 = tl.constexpr(_OUT + ",".join(["r"] * 20))


@triton.jit
def _pair(words, IS_BF16: tl.constexpr):
    """Widen the two 16-bit numbers of each word."""
    if IS_BF16:
        low = (words << 16).to(tl.float32, bitcast=True)
        high = (words & -65536).to(tl.float32, bitcast=True)
    else:
        low = words.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        high = (words >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    return low, high


@triton.jit
def _word(low, high, IS_BF16: tl.constexpr):
    """Round two numbers to 16 bits and put them into one word."""
    if IS_BF16:
        low = low.to(tl.bfloat16)
        high = high.to(tl.bfloat16)
    else:
        low = low.to(tl.float16)
        high = high.to(tl.float16)
    low = low.to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
    return (high.to(tl.int16, bitcast=True).to(tl.int32) << 16) | low


@triton.jit
def _columns(w, first, n_out, J: tl.constexpr, KT: tl.constexpr, KW: tl.constexpr,
             N_WORDS: tl.constexpr):  # fmt: skip
    """Load J blocks of eight columns: (lanes, KW, KT, J, 4)."""
    lane = tl.arange(0, 32)[:, None, None, None, None]
    kw = tl.arange(0, KW)[None, :, None, None, None]
    kt = tl.arange(0, KT)[None, None, :, None, None]
    j = tl.arange(0, J)[None, None, None, :, None]
    e = tl.arange(0, 4)[None, None, None, None, :]
    n = first + j * 8 + lane // 4
    k = ((kt * KW + kw) * 4 + lane % 4) * 4
    return tl.load(w + n * N_WORDS + k + e, mask=(n < n_out) & (k < N_WORDS), other=0)


@triton.jit
def _group_scales(scales, first, n_out, J: tl.constexpr, KT: tl.constexpr, KW: tl.constexpr,
                  GROUPS: tl.constexpr):  # fmt: skip
    """Load the scales of a thread's sums, two of four: (lanes, KW, KT, J, 4); zero beyond."""
    lane = tl.arange(0, 32)[:, None, None, None]
    kw = tl.arange(0, KW)[None, :, None, None]
    kt = tl.arange(0, KT)[None, None, :, None]
    j = tl.arange(0, J)[None, None, None, :]
    n = first + j * 8 + 2 * (lane % 4)
    group = kt * KW + kw
    live = (n < n_out) & (group < GROUPS)
    even = tl.load(scales + n * GROUPS + group, mask=live, other=0.0).to(tl.float32)
    odd = tl.load(scales + (n + 1) * GROUPS + group, mask=live, other=0.0).to(tl.float32)
    e = tl.arange(0, 4)[None, None, None, None, :]
    even = even[:, :, :, :, None]
    return tl.where(e == 0, even, tl.where(e == 1, odd[:, :, :, :, None], 0.0))


@triton.jit
def _inputs(x, row, i: tl.constexpr, BITS: tl.constexpr, KT: tl.constexpr, KW: tl.constexpr,
            K: tl.constexpr):  # fmt: skip
    """Load the i-th words of inputs that go with a thread's words: (lanes, KW, KT, 4)."""
    lane = tl.arange(0, 32)[:, None, None, None]
    kw = tl.arange(0, KW)[None, :, None, None]
    kt = tl.arange(0, KT)[None, None, :, None]
    e = tl.arange(0, 4)[None, None, None, :]
    v = ((kt * KW + kw) * 4 + lane % 4) * 4
    live = v < K * BITS // 32
    if BITS == 8:
        v += i * (K // 4)
    elif BITS == 4:
        v = tl.multiple_of(v // 16 * 64 + i * 16 + v % 16, [1, 1, 1, 4])
    return tl.load(x + row[:, None, None, None] * (K // 2) + v + e, mask=live, other=0)


@triton.jit
def _normed(x, gains, IS_BF16: tl.constexpr):
    """Multiply by gains; also return the squares' sum of each thread, (lanes, KW)."""
    low, high = _pair(x, IS_BF16)
    squares = tl.sum(tl.sum(low * low + high * high, axis=3), axis=2)
    gain_low, gain_high = _pair(gains, IS_BF16)
    return _word(low * gain_low, high * gain_high, IS_BF16), squares


@triton.jit
def _slow(w, x, J: tl.constexpr, KT: tl.constexpr, KW: tl.constexpr, IS_BF16: tl.constexpr):
    """Do what the tensor core does, in the interpreter: (8 rows, 8 columns, KW, KT, J)."""
    w_low, w_high = _pair(tl.reshape(w, (1, 8, 4, KW, KT, J, 4)), IS_BF16)
    x_low, x_high = _pair(tl.reshape(x, (8, 1, 4, KW, KT, 1, 4)), IS_BF16)
    return tl.sum(tl.sum(w_low * x_low + w_high * x_high, axis=6), axis=2)


@triton.jit
def _codes(w, i: tl.constexpr, BITS: tl.constexpr, IS_BF16: tl.constexpr):
    """Turn the i-th codes of each word's halves into words of two numbers."""
    bits = w >> (i * BITS)
    mask: tl.constexpr = 2**BITS - 1
    less: tl.constexpr = 2 ** (BITS - 1)
    low = (bits & mask) - less
    high = ((bits >> 16) & mask) - less
    return _word(low.to(tl.float32), high.to(tl.float32), IS_BF16)


@triton.jit
def _products(w, x0, x1, x2, x3, J: tl.constexpr, KT: tl.constexpr, KW: tl.constexpr,
              BITS: tl.constexpr, IS_BF16: tl.constexpr, IS_ASM: tl.constexpr):  # fmt: skip
    """Multiply: (lanes, KW, KT, J, 4), of which the first two are sums of a row and two columns.

    Lane l has row l // 4 of the eight and columns 2 (l % 4) and the next.
    """
    if IS_ASM:
        x0 = x0[:, :, :, None, :]
        if BITS == 16:
            asm16: tl.constexpr = _BF16_16 if IS_BF16 else _F16_16
            o = tl.inline_asm_elementwise(asm16, _OPERANDS_16, [w, x0], tl.float32, True, 4)
        elif BITS == 8:
            asm8: tl.constexpr = _BF16_8 if IS_BF16 else _F16_8
            xs = [w, x0, x1[:, :, :, None, :]]
            o = tl.inline_asm_elementwise(asm8, _OPERANDS_8, xs, tl.float32, True, 4)
        else:
            asm4: tl.constexpr = _BF16_4 if IS_BF16 else _F16_4
            xs = [w, x0, x1[:, :, :, None, :], x2[:, :, :, None, :], x3[:, :, :, None, :]]
            o = tl.inline_asm_elementwise(asm4, _OPERANDS_4, xs, tl.float32, True, 4)
    else:
        if BITS == 16:
            o = _slow(w, x0, J, KT, KW, IS_BF16)
        else:
            o = _slow(_codes(w, 0, BITS, IS_BF16), x0, J, KT, KW, IS_BF16)
            o += _slow(_codes(w, 1, BITS, IS_BF16), x1, J, KT, KW, IS_BF16)
            if BITS == 4:
                o += _slow(_codes(w, 2, BITS, IS_BF16), x2, J, KT, KW, IS_BF16)
                o += _slow(_codes(w, 3, BITS, IS_BF16), x3, J, KT, KW, IS_BF16)
        o = tl.permute(tl.reshape(o, (8, 4, 2, KW, KT, J)), (0, 1, 3, 4, 5, 2))
        o = tl.reshape(o, (32, KW, KT, J, 2))
        o = tl.permute(tl.join(o, tl.zeros_like(o)), (0, 1, 2, 3, 5, 4))
        o = tl.reshape(o, (32, KW, KT, J, 4))
    return o


@triton.jit
def _own(o, J: tl.constexpr, KW: tl.constexpr, R: tl.constexpr):
    """Sum over turns, and keep of each repetition of the rows its own eight columns.

    J blocks become J R / 8, or one: lane l holds row (l // 4) % R of block l // 4 // R. Returned
    are the lane's even and its odd column, (lanes, KW, blocks).
    """
    T: tl.constexpr = min(J, 8 // R)
    o = tl.reshape(tl.sum(o, axis=2), (32, KW, J // T, T, 4))
    block = tl.arange(0, T)[None, None, None, :, None]
    own = tl.arange(0, 32)[:, None, None, None, None] // (4 * R)
    o = tl.sum(tl.where(block == own, o, 0.0), axis=3)
    is_odd = tl.arange(0, 4)[None, None, None, :] % 2 == 1
    return tl.sum(tl.where(is_odd, 0.0, o), axis=3), tl.sum(tl.where(is_odd, o, 0.0), axis=3)


@triton.jit
def _add5(a0, b0, c0, d0, e0, a1, b1, c1, d1, e1):
    return a0 + a1, b0 + b1, c0 + c1, d0 + d1, e0 + e1


@triton.jit
def _over_warps(a, b, c, d, e, IS_ASM: tl.constexpr):
    """Sum five tensors (lanes, warps, blocks) over warps, which then meet but once."""
    if IS_ASM:
        return tl.reduce((a, b, c, d, e), 1, _add5)
    else:  # the interpreter takes a sum of its own a hundred times faster than one of ours
        return (
            tl.sum(a, axis=1), tl.sum(b, axis=1), tl.sum(c, axis=1), tl.sum(d, axis=1),
            tl.sum(e, axis=1),
        )  # fmt: skip


@triton.jit
def mma_rows_kernel(
    y, x, w, scales, norm, residual, eps,
    N_ROWS: tl.constexpr, R: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
    J: tl.constexpr, KT: tl.constexpr, KW: tl.constexpr, BITS: tl.constexpr,
    HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr, IS_SWIGLU: tl.constexpr,
    IS_PDL: tl.constexpr, IS_BF16: tl.constexpr, IS_ASM: tl.constexpr,
):  # fmt: skip
    """Multiply rows (N_ROWS, K) by a weight (N, K), or (2 N, K) for SwiGLU; all are words."""
    if IS_PDL:
        gdc_launch_dependents()
    N_WORDS: tl.constexpr = K * BITS // 32
    GROUPS: tl.constexpr = K // 128 if BITS == 4 else 1
    first = tl.program_id(0) * (8 * J)
    tile = _columns(w, first, N, J, KT, KW, N_WORDS)
    if IS_SWIGLU:
        up_tile = _columns(w, N + first, 2 * N, J, KT, KW, N_WORDS)
    lane = tl.arange(0, 32)
    row = (lane // 4) % R
    T: tl.constexpr = min(J, 8 // R)
    m = tl.arange(0, J // T)[None, :]
    n = first + (m * T + lane[:, None] // (4 * R)) * 8 + 2 * (lane[:, None] % 4)
    live_y = (lane[:, None] < 4 * R * T) & (row[:, None] < N_ROWS) & (n < N)
    if BITS == 8:
        even_scale = tl.load(scales + n, mask=live_y, other=0.0)
        odd_scale = tl.load(scales + n + 1, mask=live_y, other=0.0)
        if IS_SWIGLU:
            up_even_scale = tl.load(scales + N + n, mask=live_y, other=0.0)
            up_odd_scale = tl.load(scales + N + n + 1, mask=live_y, other=0.0)
    if BITS == 4:
        scale = _group_scales(scales, first, N, J, KT, KW, GROUPS)
        if IS_SWIGLU:
            up_scale = _group_scales(scales, N + first, 2 * N, J, KT, KW, GROUPS)
    there = tl.minimum(row, N_ROWS - 1)
    zero = lane * 0
    if HAS_NORM:
        g0 = _inputs(norm, zero, 0, BITS, KT, KW, K)
        if BITS < 16:
            g1 = _inputs(norm, zero, 1, BITS, KT, KW, K)
        if BITS < 8:
            g2 = _inputs(norm, zero, 2, BITS, KT, KW, K)
            g3 = _inputs(norm, zero, 3, BITS, KT, KW, K)
    if IS_PDL:
        gdc_wait()  # what stands above was not written by this step
    x0 = _inputs(x, there, 0, BITS, KT, KW, K)
    x1 = x0
    x2 = x0
    x3 = x0
    if BITS < 16:
        x1 = _inputs(x, there, 1, BITS, KT, KW, K)
    if BITS < 8:
        x2 = _inputs(x, there, 2, BITS, KT, KW, K)
        x3 = _inputs(x, there, 3, BITS, KT, KW, K)
    at_y = (row[:, None] * N + n) // 2
    if HAS_RESIDUAL:
        old_even, old_odd = _pair(tl.load(residual + at_y, mask=live_y, other=0), IS_BF16)
    if HAS_NORM:
        x0, squares = _normed(x0, g0, IS_BF16)
        if BITS < 16:
            x1, more = _normed(x1, g1, IS_BF16)
            squares += more
        if BITS < 8:
            x2, more = _normed(x2, g2, IS_BF16)
            squares += more
            x3, more = _normed(x3, g3, IS_BF16)
            squares += more
    o = _products(tile, x0, x1, x2, x3, J, KT, KW, BITS, IS_BF16, IS_ASM)
    if BITS == 4:
        o = o * scale
    even, odd = _own(o, J, KW, R)
    up_even, up_odd, total = even, odd, even
    if IS_SWIGLU:
        o = _products(up_tile, x0, x1, x2, x3, J, KT, KW, BITS, IS_BF16, IS_ASM)
        if BITS == 4:
            o = o * up_scale
        up_even, up_odd = _own(o, J, KW, R)
    if HAS_NORM:
        total = tl.sum(tl.reshape(squares, (8, 4, KW)), axis=1)
        total = tl.broadcast_to(total[:, None, :], (8, 4, KW))
        total = tl.broadcast_to(tl.reshape(total, (32, KW))[:, :, None], even.shape)
    even, odd, up_even, up_odd, total = _over_warps(even, odd, up_even, up_odd, total, IS_ASM)
    if BITS == 8:
        even = even * even_scale
        odd = odd * odd_scale
        if IS_SWIGLU:
            up_even = up_even * up_even_scale
            up_odd = up_odd * up_odd_scale
    if HAS_NORM:
        rms = tl.rsqrt(total / K + eps)
        even = even * rms
        odd = odd * rms
        up_even = up_even * rms
        up_odd = up_odd * rms
    if IS_SWIGLU:
        even = even * tl.sigmoid(even) * up_even
        odd = odd * tl.sigmoid(odd) * up_odd
    if HAS_RESIDUAL:
        even += old_even
        odd += old_odd
    tl.store(y + at_y, _word(even, odd, IS_BF16), mask=live_y)
