// Weights on their way, codes, and products by tensor cores.
#pragma once
#include "memory.cuh"

__device__ __forceinline__ void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    if constexpr (BITS == 16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},"
            " {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},"
            " {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Codes to float16, first the bits of 1,024 and the code, raised as it is to have no sign. Those
// 1,024 and more are taken off at once, or off the sums (`scale`).
template <bool EXACT>
__device__ __forceinline__ u32 less(u32 x, u32 by) {
    if constexpr (EXACT) asm("sub.rn.f16x2 %0, %0, %1;" : "+r"(x) : "r"(by));
    return x;
}
template <bool EXACT>
__device__ __forceinline__ void from_bytes(u32 (&a)[2], u32 w) {
    const u32 ones = 0x64646464;
    asm("prmt.b32 %0, %1, %2, 0x4240;" : "=r"(a[0]) : "r"(w), "r"(ones));
    asm("prmt.b32 %0, %1, %2, 0x4341;" : "=r"(a[1]) : "r"(w), "r"(ones));
    a[0] = less<EXACT>(a[0], 0x64806480), a[1] = less<EXACT>(a[1], 0x64806480);
}
// The second of two nibbles of a byte becomes sixteen times its code.
template <bool EXACT>
__device__ __forceinline__ void from_nibbles(u32 (&a)[2], u32 w) {
    asm("lop3.b32 %0, %1, 0x000f000f, 0x64006400, 0xea;" : "=r"(a[0]) : "r"(w));
    asm("lop3.b32 %0, %1, 0x00f000f0, 0x64006400, 0xea;" : "=r"(a[1]) : "r"(w));
    if constexpr (EXACT) {
        a[0] = less<true>(a[0], 0x64086408);
        asm("fma.rn.f16x2 %0, %0, %1, %2;" : "+r"(a[1]) : "r"(0x2c002c00u), "r"(0xd480d480u));
    }
}

// A warp's weights on their way: `next` is asked for when the oldest have been taken.
struct Ring {
    u32 at, full, slot, phase, n_left, zero;
    const char* next;

    __device__ __forceinline__ Ring(u32 base, u32 warp, const char* weights, u32 n_stages, u32 zero)
        : at(base + RING_AT + warp * RING_BYTES),
          full(base + FULL + 8 * warp * N_STAGES),
          slot(0),
          phase(0),
          n_left(n_stages),
          zero(zero),
          next(weights) {
        for (int i = 0; i < N_STAGES && n_left; i++) ask(i, 0);
    }
    // `last` was read last from where the copy goes. That it is looked at makes sure that it is
    // here: a copy is not ordered behind reads. `zero` is what only the host knows to be zero.
    __device__ __forceinline__ void ask(u32 to, u32 last) {
        if (lane_id() == (last & zero))
            copy(at + to * STAGE_BYTES, next, STAGE_BYTES, full + 8 * to);
        next += STAGE_BYTES, n_left--;
    }
    u32 owed;
    // Ask for what was not when the last N stages were released.
    template <int N>
    __device__ __forceinline__ void ask_owed() {
#pragma unroll
        for (int i = N; i > 0; i--)
            if (n_left) ask(slot >= i ? slot - i : slot + N_STAGES - i, owed);
    }
    __device__ __forceinline__ void release(u32 last, bool is_later) {
        __syncwarp();
        if (is_later)
            owed = last;
        else if (n_left)
            ask(slot, last);
        if (++slot == N_STAGES) slot = 0, phase ^= 1;
    }
};

typedef u32 Fragment[4][4];  // 16 outputs by 64 inputs: four products' first operands, of a lane

// Take N units of a layer out of the ring; `first` is known where this is compiled into. Of the
// stages that end there, the last N_LATER are to be asked for later.
template <int N, bool EXACT, int N_LATER = 0>
__device__ __forceinline__ void take(int first, Fragment* a, Ring& ring) {
    const u32 lane = lane_id();
#pragma unroll
    for (int u = 0; u < N; u++) {
        const int in_stage = (first + u) % STAGE_UNITS;
        if (in_stage == 0) wait(ring.full + 8 * ring.slot, ring.phase);
        const u32 at = ring.at + ring.slot * STAGE_BYTES + in_stage * UNIT_BYTES + lane * 16;
        u32 last, pair[2];
        if constexpr (BITS == 16) {
#pragma unroll
            for (int s = 0; s < 4; s++) {
                const uint4 w = load4(at + s * 512);
                a[u][s][0] = w.x, a[u][s][1] = w.y, a[u][s][2] = w.z, a[u][s][3] = w.w;
            }
            last = a[u][3][3];
        } else if constexpr (BITS == 8) {
            const uint4 w = load4(at), w2 = load4(at + 512);
            const u32 words[8] = {w.x, w.y, w.z, w.w, w2.x, w2.y, w2.z, w2.w};
#pragma unroll
            for (int i = 0; i < 8; i++) {
                from_bytes<EXACT>(pair, words[i]);
                a[u][i / 2][2 * (i % 2)] = pair[0], a[u][i / 2][2 * (i % 2) + 1] = pair[1];
            }
            last = w2.w;
        } else {
            const uint4 w = load4(at);
            const u32 words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
            for (int s = 0; s < 4; s++) {
                from_nibbles<EXACT>(pair, words[s]);
                a[u][s][0] = pair[0], a[u][s][1] = pair[1];
                from_nibbles<EXACT>(pair, words[s] >> 8);
                a[u][s][2] = pair[0], a[u][s][3] = pair[1];
            }
            last = w.w;
        }
        if (in_stage == STAGE_UNITS - 1)
            ring.release(last, (first + N) / STAGE_UNITS - (first + u + 1) / STAGE_UNITS < N_LATER);
    }
}

struct Rows {  // 64 inputs of a row: four products' second operands, of a lane
    u32 b[8];
};

__device__ __forceinline__ Rows rows_at(u32 at, int stride, int block) {
    const u32 lane = lane_id();
    const u32 row = ROWS == 2 ? lane >> 2 & 1 : 0;
    const u32 from = at + 2 * (row * stride + 64 * block + 16 * (lane & 3));
    const uint4 first = load4(from), second = load4(from + 16);
    return {{first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w}};
}

// Several at a time, so that none waits for the one before.
template <int N>
__device__ __forceinline__ void multiply(float (*c)[4], const Fragment* a, const Rows& rows) {
#pragma unroll
    for (int s = 0; s < 4; s++)
#pragma unroll
        for (int t = 0; t < N; t++) multiply(c[t], a[t][s], rows.b[2 * s], rows.b[2 * s + 1]);
}

// Put together the words of four lanes whose numbers differ in two bits: all four get them.
__device__ __forceinline__ void gather(u32 (&four)[4], u32 word, u32 first_bit, u32 second_bit) {
    const u32 lane = lane_id();
    const u32 other = __shfl_xor_sync(~0u, word, first_bit);
    const u32 low = lane & first_bit ? other : word, high = lane & first_bit ? word : other;
    const u32 low2 = __shfl_xor_sync(~0u, low, second_bit),
              high2 = __shfl_xor_sync(~0u, high, second_bit);
    const bool is_second = lane & second_bit;
    four[0] = is_second ? low2 : low, four[1] = is_second ? high2 : high;
    four[2] = is_second ? low : low2, four[3] = is_second ? high : high2;
}

// Sums of the inputs themselves, in every place where a tile has sums.
__device__ __forceinline__ void add_rows(float (&c)[4], const Rows& rows) {
    const u32 ones[4] = {0x3c003c00, 0x3c003c00, 0x3c003c00, 0x3c003c00};
#pragma unroll
    for (int s = 0; s < 4; s++) multiply(c, ones, rows.b[2 * s], rows.b[2 * s + 1]);
}

// Take off what codes were raised by; the second half of a tile in 4 bits stays sixteen times
// itself.
__device__ __forceinline__ void take_off(float (&c)[4], const float (&inputs)[4]) {
    constexpr float FIRST = BITS == 8 ? 1024 + 128 : 1024 + 8, SECOND = 1024 + 128;
    c[0] -= FIRST * inputs[0], c[1] -= FIRST * inputs[1];
    c[2] -= SECOND * inputs[2], c[3] -= SECOND * inputs[3];
}

__device__ __forceinline__ void scale(float (&c)[4], u32 scales, float by = 1) {
    const u32 g = lane_id() >> 2;
    const float s0 = load(scales + 4 * g) * by, s1 = load(scales + 4 * (g + 8)) * by;
    c[0] *= s0, c[1] *= s0, c[2] *= s1, c[3] *= s1;
}

// Leave a tile's sums of a warp's inputs for whoever adds those of all warps: by every fourth lane,
// others have those of rows that are not there.
__device__ __forceinline__ void leave(const float (&c)[4], u32 at, int tile) {
    at += 4 * ROWS * (16 * tile + (lane_id() >> 2));
    if (ROWS == 2) {
        store2(at, c[0], c[1]), store2(at + 64, c[2], c[3]);
    } else {
        store(at, c[0]), store(at + 32, c[2]);
    }
}

// Add what half of the warps left of an output of a row, and scale it: every second of the warps,
// or the first and the last in 4 bits, where neighbours share scales.
__device__ __forceinline__ float sum_of(u32 base, u32 half, u32 output, u32 row, u32 scales,
                                        u32 n_outputs) {
    constexpr int COUNT = K_WARPS / 2, STRIDE = BITS == 4 ? 1 : 2;
    constexpr int OF_GROUP = BITS == 4 ? GROUP / 64 : COUNT,
                  STEP = OF_GROUP < COUNT ? OF_GROUP : COUNT;
    const u32 first = BITS == 4 ? half * COUNT : half;
    const u32 at = base + SUMS_AT + 4 * (first * N_SUMS + ROWS * output + row);
    float all = 0;
#pragma unroll
    for (int w = 0; w < COUNT; w += STEP) {
        float sum = 0;
#pragma unroll
        for (int i = w; i < w + STEP; i++) sum += load(at + 4 * N_SUMS * STRIDE * i);
        if (BITS < 16)
            sum *=
                load(scales + 4 * ((BITS == 4 ? (first + w) / OF_GROUP : 0) * n_outputs + output));
        all += sum;
    }
    return BITS == 4 && output & 8 ? all * 0.0625f : all;
}
