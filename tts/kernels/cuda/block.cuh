// What a block of a cluster tells and hears.
#pragma once
#include "weights.cuh"

// Of the first and of the second row.
struct Norms {
    float first, second;
    __device__ __forceinline__ float of(u32 row) const { return ROWS == 2 && row ? second : first; }
};

// The power of two below a number, and one over it.
__device__ __forceinline__ float power_below(float x) {
    return __uint_as_float(bits(x) & 0x7f800000u);
}
__device__ __forceinline__ float inverse_of_power(float x) {
    return __uint_as_float(0x7f000000u - bits(x));
}

struct Block {
    u32 base, rank, cluster, tid, lane, warp;
    u32 peer, row_peer, ffn_peer;  // whom this lane tells: by its bits 1 and 2, by those above
                                   // its row, by 0 and 1
    float eps;

    // Tell all blocks of the cluster this thread's number of the stream, times a gain, and squares
    // for the norm. Half a warp has sixteen columns of the first row, half of the second.
    __device__ __forceinline__ void tell_stream(float x, float gain) const {
        const float scaled = x * gain, other = __shfl_xor_sync(~0u, scaled, 1);
        const u32 row = ROWS == 2 ? lane >> 4 : 0;
        u32 four[4];
        gather(four, lane & 1 ? pack_rows(other, scaled) : pack_rows(scaled, other), 2, 4);
        const u32 at = X_AT + 2 * (row * X_STRIDE + rank * COLUMNS + 16 * warp + (lane & 8));
        if (ROWS == 2 ? !(lane & 1) : !(lane & 17)) tell4(peer + at, four, peer + X_BAR);
        float squares = x * x;
#pragma unroll
        for (int i = 1; i < 16; i *= 2) squares += __shfl_xor_sync(~0u, squares, i);
        const u32 slot = SQUARES_AT + 4 * (row * SQUARES_STRIDE + rank * (COLUMNS / 16) + warp);
        if ((lane & 15) % 2 == 0 && (lane & 15) < 2 * C && (ROWS == 2 || lane < 16))
            tell(peer + slot, bits(squares), peer + X_BAR);
    }

    // Return one over the root mean square of each row.
    __device__ __forceinline__ Norms norms() const {
        // Every fourth four of a row's sums each, rows in turn.
        constexpr int N = WIDTH / 16;
        const u32 row = ROWS == 2 ? lane & 1 : 0;
        const u32 at = base + SQUARES_AT + 4 * (row * SQUARES_STRIDE + (lane >> 1 & 3) * 4);
        float sum = 0;
#pragma unroll
        for (int i = 0; i < N; i += 16) {
            const uint4 w = load4(at + 4 * i);
            sum += (__uint_as_float(w.x) + __uint_as_float(w.y)) +
                   (__uint_as_float(w.z) + __uint_as_float(w.w));
        }
        sum += __shfl_xor_sync(~0u, sum, 2), sum += __shfl_xor_sync(~0u, sum, 4);
        const float mine = rsqrtf(sum / WIDTH + eps), other = __shfl_xor_sync(~0u, mine, 1);
        return {row ? other : mine, row ? mine : other};
    }

    // Leave a tile's part of its columns for the blocks of this rank.
    __device__ __forceinline__ void leave_part(const float (&c)[4], u32* mine, int tile,
                                               u32 stamp) const {
        if (lane & 3) return;
        u32* at = mine + ROWS * (16 * tile + (lane >> 2));
        const u32 keep = ~1u;
        if constexpr (ROWS == 2) {
            asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1,%2};" ::"l"(at),
                         "r"(bits(c[0]) & keep | stamp), "r"(bits(c[1]) & keep | stamp)
                         : "memory");
            asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1,%2};" ::"l"(at + 8 * ROWS),
                         "r"(bits(c[2]) & keep | stamp), "r"(bits(c[3]) & keep | stamp)
                         : "memory");
        } else {
            asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(at),
                         "r"(bits(c[0]) & keep | stamp)
                         : "memory");
            asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(at + 8),
                         "r"(bits(c[2]) & keep | stamp)
                         : "memory");
        }
    }

    // Return the sum of all clusters' parts of this thread's number: half a warp polls the first
    // half of the clusters, for both rows.
    __device__ __forceinline__ float join(const u32* theirs, u32 stamp) const {
        constexpr int N = N_CLUSTERS / 2, STRIDE = COLUMNS * ROWS;
        const u32 upper = lane >> 4;
        const u32* at = theirs + ROWS * (16 * warp + (lane & 15)) + upper * (N * STRIDE);
        u32 v[N][ROWS];
#pragma unroll
        for (int c = 0; c < N; c++) {
#pragma unroll
            for (int row = 0; row < ROWS; row++) v[c][row] = stamp ^ 1;
            look(v[c], at + c * STRIDE, true);
        }
        bool is_waiting;
        do {
            is_waiting = false;
#pragma unroll
            for (int c = 0; c < N; c++) {
                const u32 wrong = (v[c][0] ^ stamp | v[c][ROWS - 1] ^ stamp) & 1;
                is_waiting |= wrong;
                look(v[c], at + c * STRIDE, wrong);
            }
        } while (is_waiting);
        float sums[ROWS] = {};
#pragma unroll
        for (int row = 0; row < ROWS; row++)
#pragma unroll
            for (int c = 0; c < N; c++) sums[row] += __uint_as_float(v[c][row]);
        const float first = sums[0], second = sums[ROWS - 1];
        if (ROWS == 1) return first + __shfl_xor_sync(~0u, first, 16);
        return (upper ? second : first) + __shfl_xor_sync(~0u, upper ? first : second, 16);
    }
};

// Eight numbers of 16 bits.
__device__ __forceinline__ void widen(float (&x)[8], const uint4& w) {
    const u32 words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
    for (int i = 0; i < 4; i++) x[2 * i] = low(words[i]), x[2 * i + 1] = high(words[i]);
}

__device__ __forceinline__ void load8(float (&x)[8], u32 at) {
    const uint4 a = load4(at), b = load4(at + 16);
    const u32 words[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = __uint_as_float(words[i]);
}
