// What a block of a cluster tells and hears.
#pragma once
#include "weights.cuh"

// Of the first and of the second row.
struct Norms {
    float first, second;
    __device__ __forceinline__ float of(u32 row) const { return ROWS == 2 && row ? second : first; }
};

// A part without the bit that says which meeting it is of: with an odd number of layers the same
// part has another one every second time.
__device__ __forceinline__ float unstamped(u32 part) { return __uint_as_float(part & ~1u); }

struct Block {
    u32 base, rank, cluster, tid, lane, warp;
    u32 x_peer, h_peer, row_peer, ffn_peer;  // whom this lane tells: by its bits 2 and 3, by 3 and
                                             // 4, by those above its row, by 0 and 1
    float eps;

    // Return which of its warp's 32 columns of a row this lane has: it polls them two by two.
    __device__ __forceinline__ u32 own_column() const { return 2 * (lane & 15) + (lane >> 4); }

    // Tell all blocks of the cluster this thread's number of the stream, times a gain, and squares
    // for the norm. A warp has 32 columns of a row.
    __device__ __forceinline__ void tell_stream(float x, float gain) const {
        const float scaled = x * gain;
        const u32 row = warp % ROWS, chunk = warp / ROWS, column = rank * COLUMNS + 32 * chunk;
        const u32 stage = base + STAGE_AT + 128 * warp;
        u32 at = X_AT + row * PLANES * X_STRIDE;
        float most = 0;
        if constexpr (BITS == 16) {
            store_half(stage + 2 * own_column(), pack(scaled, 0));
            at += 2 * column + 16 * (lane & 3);
        } else {
            // The warp beside has the other half of what shares a scale.
            most = largest_of(scaled);
            if (lane == 0) store(base + LARGEST_AT + 4 * warp, most);
            meet_of(2 + warp / (2 * ROWS) * ROWS + row, 64);
            most = largest_of_two(most, load(base + LARGEST_AT + 4 * (warp ^ ROWS)));
            const u32 own = stage + own_column();
            store_integers<1>(own, own + 32, {scaled}, to_integers(most));
            at += (lane >> 1 & 1) * X_STRIDE + column + 16 * (lane & 1);
        }
        __syncwarp();
        if (lane < 16) {
            const uint4 w = load4(stage + 16 * (lane & 3));
            const u32 four[4] = {w.x, w.y, w.z, w.w};
            tell4(x_peer + at, four, x_peer + X_BAR);
        }
        if (BITS < 16 && lane >= 16 && (lane & 3) == 1 && chunk % 2 == 0)
            tell(x_peer + X_SCALES_AT + 4 * (row * X_SCALES_STRIDE + column / 64),
                 bits(from_integers(most)), x_peer + X_BAR);
        float squares = x * x;
#pragma unroll
        for (int i = 1; i < 32; i *= 2) squares += __shfl_xor_sync(~0u, squares, i);
        if (lane >= 16 && (lane & 3) == 0)
            tell(x_peer + SQUARES_AT + 4 * (row * SQUARES_STRIDE + column / 32), bits(squares),
                 x_peer + SQUARES_BAR);
    }

    // Return one over the root mean square of each row.
    __device__ __forceinline__ Norms norms() const {
        // Four of a row's sums each, rows in turn.
        constexpr u32 N = N_SQUARES / 4;
        const u32 row = ROWS == 2 ? lane & 1 : 0;
        const uint4 w =
            load4(base + SQUARES_AT + 4 * (row * SQUARES_STRIDE + 4 * (lane >> 1 & (N - 1))));
        float sum = (__uint_as_float(w.x) + __uint_as_float(w.y)) +
                    (__uint_as_float(w.z) + __uint_as_float(w.w));
#pragma unroll
        for (int i = 2; i < 2 * N; i *= 2) sum += __shfl_xor_sync(~0u, sum, i);
        const float mine = rsqrt_(sum / WIDTH + eps), other = __shfl_xor_sync(~0u, mine, 1);
        return {row ? other : mine, row ? mine : other};
    }

    // Leave a tile's part of its columns for the blocks of this rank: this lane's row's of two
    // columns beside each other.
    __device__ __forceinline__ void leave_part(float first, float second, u32* mine, int tile,
                                               u32 stamp) const {
        const u32 row = lane & 3;
        if (row >= ROWS) return;
        asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1,%2};" ::"l"(
                         mine + row * COLUMNS + 16 * tile + (lane >> 2) * 2),
                     "r"(bits(first) & ~1u | stamp), "r"(bits(second) & ~1u | stamp)
                     : "memory");
    }

    // Return the sum of all clusters' parts of this thread's number: half a warp polls the first
    // half of the clusters, two columns a lane.
    __device__ __forceinline__ float join(const u32* theirs, u32 stamp) const {
        constexpr int N = N_CLUSTERS / 2, STRIDE = COLUMNS * ROWS;
        const u32 upper = lane >> 4;
        const u32* at = theirs + warp % ROWS * COLUMNS + 32 * (warp / ROWS) + 2 * (lane & 15) +
                        upper * (N * STRIDE);
        u32 v[N][2];
#pragma unroll
        for (int c = 0; c < N; c++) {
            v[c][0] = v[c][1] = stamp ^ 1;
            look(v[c], at + c * STRIDE, true);
        }
        bool is_waiting;
        do {
            is_waiting = false;
#pragma unroll
            for (int c = 0; c < N; c++) {
                const u32 wrong = (v[c][0] ^ stamp | v[c][1] ^ stamp) & 1;
                is_waiting |= wrong;
                look(v[c], at + c * STRIDE, wrong);
            }
        } while (is_waiting);
        float first = 0, second = 0;
#pragma unroll
        for (int c = 0; c < N; c++) first += unstamped(v[c][0]), second += unstamped(v[c][1]);
        return (upper ? second : first) + __shfl_xor_sync(~0u, upper ? first : second, 16);
    }

    // Tell all blocks of the cluster a warp's numbers as integers that share a scale: N a lane,
    // which follow each other.
    template <int N>
    __device__ __forceinline__ void tell_integers(const float (&x)[N], u32 to, u32 stride,
                                                  u32 scale_to, u32 barrier) const {
        float most = fabsf(x[0]);
#pragma unroll
        for (int i = 1; i < N; i++) most = largest_of_two(most, fabsf(x[i]));
        most = largest_of(most);
        const u32 stage = base + STAGE_AT + 128 * warp, own = stage + N * lane;
        store_integers<N>(own, own + 32 * N, x, to_integers(most));
        __syncwarp();
        const u32 piece = lane & (4 * N - 1), plane = piece / (2 * N);
        const u32 peer = N == 2 ? h_peer : x_peer;
        if (N == 2 || lane < 16) {
            const uint4 w = load4(stage + 16 * piece);
            const u32 four[4] = {w.x, w.y, w.z, w.w};
            tell4(peer + to + plane * stride + 16 * (piece % (2 * N)), four, peer + barrier);
            if (piece == 0) tell(peer + scale_to, bits(from_integers(most)), peer + barrier);
        }
    }
};
