// What goes into down, and down.
#pragma once
#include "block.cuh"

// Add what the warps left of gate and up, and tell all blocks of the cluster what becomes of it.
__device__ __forceinline__ void tell_gated(const Block& b, const Norms& norm, u32 scales) {
    for (u32 i = b.tid / 4; i < FFN * ROWS; i += THREADS / 4) {
        // Gate and up by two threads each, that add half of the warps' sums.
        const u32 is_up = b.tid & 1, half = b.tid >> 1 & 1, channel = i / ROWS, row = i % ROWS;
        float y =
            sum_of(b.base, half, 16 * (channel / 8) + 8 * is_up + channel % 8, row, scales, N_FFN);
        y = (y + __shfl_xor_sync(~0u, y, 2)) * norm.of(row);
        const float other = __shfl_xor_sync(~0u, y, 1);
        const float gate = is_up ? other : y, up = is_up ? y : other;
        const float h = __fdividef(gate * up, 1.f + exp2_(-1.4426950408889634f * gate));
        if constexpr (BITS == 16) {
            const float beside = __shfl_xor_sync(~0u, h, 4 * ROWS);
            const u32 word = pack(h, beside), second = __shfl_xor_sync(~0u, word, 8 * ROWS);
            const u32 at = H_AT + row * H_STRIDE + 2 * (b.rank * FFN + channel);
            if (channel % 4 == 0) tell2(b.ffn_peer + at, word, second, b.ffn_peer + H_BAR);
        } else if (b.tid % 4 == 0) {
            store(b.base + H_FLOATS_AT + 4 * (row * FFN + channel), h);
        }
    }
    if constexpr (BITS < 16) {
        meet();  // a warp needs all that share a scale
        constexpr int BLOCKS = FFN / H_BLOCK, N = H_BLOCK / 32;
        for (u32 i = b.warp; i < ROWS * BLOCKS; i += WARPS) {
            const u32 row = i / BLOCKS, block = i % BLOCKS;
            const u32 at = b.base + H_FLOATS_AT + 4 * (row * FFN + block * H_BLOCK + N * b.lane);
            float h[N];
#pragma unroll
            for (int j = 0; j < N; j++) h[j] = load(at + 4 * j);
            b.tell_integers<N>(
                h, H_AT + row * PLANES * H_STRIDE + b.rank * FFN + block * H_BLOCK, H_STRIDE,
                H_SCALES_AT + 4 * (row * H_SCALES_STRIDE + b.rank * BLOCKS + block), H_BAR);
        }
    }
}

// Multiply some blocks of inputs; sums of inputs whose scales differ stay apart.
__device__ __forceinline__ void multiply_down(Sum (&c)[DOWN_CHUNK][H_PARTS][4], const Fragment* a,
                                              u32 rows_from) {
    Rows rows[DOWN_CHUNK];
#pragma unroll
    for (int j = 0; j < DOWN_CHUNK; j++) {
        const u32 at = rows_from + j * BLOCK_BYTES;
        if constexpr (H_PARTS == 1) {
            rows[j] = rows_at(at);
        } else {  // each product has 32 inputs that follow each other
            load2(rows[j].b[0], rows[j].b[1], at), load2(rows[j].b[2], rows[j].b[3], at + 32);
        }
    }
#pragma unroll
    for (int s = 0; s < PRODUCTS; s++)
#pragma unroll
        for (int j = 0; j < DOWN_CHUNK; j++)
            multiply(c[j][s * H_PARTS / PRODUCTS], a[j][s], rows[j].b[2 * s], rows[j].b[2 * s + 1]);
}

// Add a lane's sums of two columns over some blocks from one on.
__device__ __forceinline__ void add_down(float (&sums)[2], const Sum (&c)[DOWN_CHUNK][H_PARTS][4],
                                         const Block& b, int from, u32 scales) {
    if constexpr (BITS == 16) {
#pragma unroll
        for (int j = 0; j < DOWN_CHUNK; j++)
            sums[0] += first_of(c[j][0]), sums[1] += second_of(c[j][0]);
    } else {
        const u32 of_inputs = b.base + H_SCALES_AT + 4 * (b.lane & (ROWS - 1)) * H_SCALES_STRIDE;
        float first = 0, second = 0;  // of one scale of weights
#pragma unroll
        for (int j = 0; j < DOWN_CHUNK; j++) {
#pragma unroll
            for (int s = 0; s < H_PARTS; s++) {
                const float by = load(of_inputs + 4 * ((from + j) * H_PARTS + s));
                first += (float)first_of(c[j][s]) * by, second += (float)second_of(c[j][s]) * by;
            }
            if ((from + j + 1) % GROUP_BLOCKS && j + 1 < DOWN_CHUNK) continue;
            if (b.warp < OUT_TILES) {
                const u32 group = (from + j) / GROUP_BLOCKS;
                float scale, scale2;
                load2(scale, scale2,
                      scales + 4 * (group * COLUMNS + 16 * b.warp + 2 * (b.lane >> 2)));
                sums[0] += first * scale, sums[1] += second * scale2;
            }
            first = second = 0;
        }
    }
}
