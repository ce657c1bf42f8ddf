// Weights on their way, codes, and products by tensor cores.
#pragma once
#include "memory.cuh"

// Sums of products: of bfloat16, or of codes and of integers of 16 bits, whose upper bytes are one
// column of the second operand and whose lower ones are the next.
constexpr int PRODUCTS = BITS == 16 ? 4 : 2;  // of 64 inputs
template <int BITS_>
struct SumOf {
    typedef int type;
};
template <>
struct SumOf<16> {
    typedef float type;
};
typedef SumOf<BITS>::type Sum;

__device__ __forceinline__ void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},"
        " {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void multiply(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3},"
        " {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// A lane's sum for the first and for the second eight outputs of a tile, of its row.
__device__ __forceinline__ int first_of(const int (&c)[4]) { return c[0] * 256 + c[1]; }
__device__ __forceinline__ int second_of(const int (&c)[4]) { return c[2] * 256 + c[3]; }
__device__ __forceinline__ float first_of(const float (&c)[4]) {
    return ROWS == 2 && lane_id() & 1 ? c[1] : c[0];
}
__device__ __forceinline__ float second_of(const float (&c)[4]) {
    return ROWS == 2 && lane_id() & 1 ? c[3] : c[2];
}

// A warp's weights on their way: `next` is asked for when the oldest have been taken.
struct Ring {
    u32 at, full, slot, phase, n_left, zero;
    const char* next;
    u32 owed;

    __device__ __forceinline__ Ring(u32 base, u32 warp, const char* weights, u32 n_stages, u32 zero)
        : at(base + RING_AT + warp * RING_BYTES),
          full(base + FULL + 8 * warp * N_STAGES),
          slot(0),
          phase(0),
          n_left(n_stages),
          zero(zero),
          next(weights),
          owed(0) {
        for (int i = 0; i < N_STAGES && n_left; i++) ask(i, 0);
    }
    // `last` was read last from where the copy goes. That it is looked at makes sure that it is
    // here: a copy is not ordered behind reads. `zero` is what only the host knows to be zero.
    __device__ __forceinline__ void ask(u32 to, u32 last) {
        if (lane_id() == (last & zero))
            copy(at + to * STAGE_BYTES, next, STAGE_BYTES, full + 8 * to);
        next += STAGE_BYTES, n_left--;
    }
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
            owed |= last;
        else if (n_left)
            ask(slot, last);
        if (++slot == N_STAGES) slot = 0, phase ^= 1;
    }
};

typedef u32 Fragment[PRODUCTS][4];  // 16 outputs by 64 inputs: first operands, of a lane

// Take N units of a layer out of the ring; `first` is known where this is compiled into. Of the
// stages that end there, the last N_LATER are to be asked for later.
template <int N, int N_LATER = 0>
__device__ __forceinline__ void take(int first, Fragment* a, Ring& ring) {
    const u32 lane = lane_id();
#pragma unroll
    for (int u = 0; u < N; u++) {
        const int in_stage = (first + u) % STAGE_UNITS;
        if (in_stage == 0) wait(ring.full + 8 * ring.slot, ring.phase);
        const u32 at = ring.at + ring.slot * STAGE_BYTES + in_stage * UNIT_BYTES + lane * 16;
        u32 last;
        if constexpr (BITS == 4) {
            // Of a byte the lower nibble is of the first eight outputs, the upper one of the
            // others: either becomes sixteen times its code.
            const uint4 w = load4(at);
            const u32 words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                a[u][i / 2][2 * (i % 2)] = words[i] << 4 & 0xf0f0f0f0;
                a[u][i / 2][2 * (i % 2) + 1] = words[i] & 0xf0f0f0f0;
            }
            last = w.w;
        } else {
#pragma unroll
            for (int s = 0; s < PRODUCTS; s++) {
                const uint4 w = load4(at + s * 512);
                a[u][s][0] = w.x, a[u][s][1] = w.y, a[u][s][2] = w.z, a[u][s][3] = w.w;
            }
            last = a[u][PRODUCTS - 1][3];
        }
        if (in_stage == STAGE_UNITS - 1)
            ring.release(last, (first + N) / STAGE_UNITS - (first + u + 1) / STAGE_UNITS < N_LATER);
    }
}

struct Rows {  // 64 inputs: second operands, of a lane
    u32 b[2 * PRODUCTS];
};

constexpr int BLOCK_BYTES = BITS == 16 ? 128 : 64;  // of 64 inputs, in a row or a plane
// Where this lane's are behind the first row or plane, of which one follows the other by a stride.
__device__ __forceinline__ u32 second_operand(u32 stride, u32 n_bytes = BLOCK_BYTES / 4) {
    const u32 lane = lane_id(), column = lane >> 2;
    return (column & (PLANES * ROWS - 1)) * stride + n_bytes * (lane & 3);
}
__device__ __forceinline__ Rows rows_at(u32 at) {
    const uint4 w = load4(at);
    if constexpr (BITS == 16) {
        const uint4 w2 = load4(at + 16);
        return {{w.x, w.y, w.z, w.w, w2.x, w2.y, w2.z, w2.w}};
    } else {
        return {{w.x, w.y, w.z, w.w}};
    }
}

// Several at a time, so that none waits for the one before.
template <int N>
__device__ __forceinline__ void multiply(Sum (*c)[4], const Fragment* a, const Rows& rows) {
#pragma unroll
    for (int s = 0; s < PRODUCTS; s++)
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

// Leave a tile's sums of a warp's inputs for whoever adds those of all warps.
__device__ __forceinline__ void leave(const float (&c)[4], u32 at, int tile) {
    if (lane_id() & 3) return;  // others have what the first of four has
    at += 4 * ROWS * (16 * tile + (lane_id() >> 2));
    if (ROWS == 2) {
        store2(at, c[0], c[1]), store2(at + 64, c[2], c[3]);
    } else {
        store(at, c[0]), store(at + 32, c[2]);
    }
}
__device__ __forceinline__ void leave(const int (&c)[4], u32 at, int tile) {
    const u32 row = lane_id() & 3;
    if (row >= ROWS) return;
    at += 4 * (ROWS * (16 * tile + (lane_id() >> 2)) + row);
    store_int(at, first_of(c)), store_int(at + 32 * ROWS, second_of(c));
}

template <int TURNS>
__device__ __forceinline__ void leave(const Sum (*c)[4], int n_tiles, u32 base, u32 warp) {
    const u32 k_warp = warp % K_WARPS, m_warp = M_WARPS == 1 ? 0 : warp / K_WARPS;
#pragma unroll
    for (int t = 0; t < TURNS; t++) {
        const int tile = t * M_WARPS + m_warp;
        if (tile < n_tiles) leave(c[t], base + SUMS_AT + 4 * k_warp * N_SUMS, tile);
    }
}

// Add what half of the warps left of an output of a row, and scale it.
__device__ __forceinline__ float sum_of(u32 base, u32 half, u32 output, u32 row, u32 scales,
                                        u32 n_outputs) {
    constexpr int COUNT = K_WARPS / 2;
    float all = 0;
    if constexpr (BITS == 16) {
        const u32 at = base + SUMS_AT + 4 * (half * N_SUMS + ROWS * output + row);
#pragma unroll
        for (int w = 0; w < COUNT; w++) all += load(at + 8 * N_SUMS * w);
    } else {
        // Neighbours share scales of weights in 4 bits; each has one of its own for its inputs.
        constexpr int OF_GROUP = BITS == 4 ? GROUP / 64 : COUNT,
                      STEP = OF_GROUP < COUNT ? OF_GROUP : COUNT;
        const u32 first = half * COUNT;
        const u32 at = base + SUMS_AT + 4 * (first * N_SUMS + ROWS * output + row);
        float by[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; i += 2)
            load2(by[i], by[i + 1], base + X_SCALES_AT + 4 * (row * X_SCALES_STRIDE + first + i));
#pragma unroll
        for (int w = 0; w < COUNT; w += STEP) {
            float sum = 0;
#pragma unroll
            for (int i = w; i < w + STEP; i++) sum += (float)load_int(at + 4 * N_SUMS * i) * by[i];
            const u32 group = BITS == 4 ? (first + w) / OF_GROUP : 0;
            all += sum * load(scales + 4 * (group * n_outputs + output));
        }
    }
    return all;
}
