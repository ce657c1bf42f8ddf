// One head's attention: each warp sees some slots of a row, a block joins what its warps saw, and a
// cluster what its blocks did.
#pragma once
#include "block.cuh"

// Eight numbers of 16 bits.
__device__ __forceinline__ void widen(float (&x)[8], const uint4& w) {
    const u32 words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
    for (int i = 0; i < 4; i++) x[2 * i] = low(words[i]), x[2 * i + 1] = high(words[i]);
}
__device__ __forceinline__ uint4 narrow(const float (&x)[8]) {
    return make_uint4(pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7]));
}
__device__ __forceinline__ void load8(float (&x)[8], u32 at) {
    const uint4 a = load4(at), b = load4(at + 16);
    const u32 words[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = __uint_as_float(words[i]);
}

// Keys and values of the slots that a lane sees at once: eight lanes have a slot, four slots a
// warp.
struct Slots {
    u16 *k_at, *v_at;     // this lane's eight numbers of the first slot of the cache
    int first, position;  // this lane's first slot; that of the new entry, up to which are others
    uint4 k[AHEAD], v[AHEAD];

    __device__ __forceinline__ int slot(int i) const { return first + 4 * C * ROW_WARPS * i; }
    __device__ __forceinline__ void ask(int from) {
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const int at = slot(from + i);
            k[i] = v[i] = make_uint4(0, 0, 0, 0);
            if (at < position) {
                k[i] = __ldcg((const uint4*)(k_at + at * HEAD));
                v[i] = __ldcg((const uint4*)(v_at + at * HEAD));
            }
        }
    }
};

// What a lane has seen: sums of values, each times two to the power of its score less the largest.
struct Attention {
    float q[8], sums[8], most, weight;

    // See the new entry, as it will be read, and leave it in the cache.
    __device__ __forceinline__ void see_new(const Slots& slots, float (&key)[8], float (&value)[8],
                                            u32 lane) {
        const uint4 new_k = narrow(key), new_v = narrow(value);
        widen(key, new_k);
        float s = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) s += q[i] * key[i];
#pragma unroll
        for (int i = 1; i < 8; i *= 2) s += __shfl_xor_sync(~0u, s, i);
        most = s;
        if (lane < 8) {
            weight = 1;
            widen(sums, new_v);
            __stcg((uint4*)(slots.k_at + slots.position * HEAD), new_k);
            __stcg((uint4*)(slots.v_at + slots.position * HEAD), new_v);
        }
    }
    __device__ __forceinline__ void see(const Slots& slots, int from) {
        float s[AHEAD], new_most = most;
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            float y[8];
            widen(y, slots.k[i]);
            s[i] = 0;
#pragma unroll
            for (int j = 0; j < 8; j++) s[i] += q[j] * y[j];
        }
#pragma unroll
        for (int j = 1; j < 8; j *= 2)
#pragma unroll
            for (int i = 0; i < AHEAD; i++) s[i] += __shfl_xor_sync(~0u, s[i], j);
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (slots.slot(from + i) >= slots.position) s[i] = -1e38f;
            new_most = fmaxf(new_most, s[i]);
        }
        new_most = fmaxf(new_most, __shfl_xor_sync(~0u, new_most, 8));
        new_most = fmaxf(new_most, __shfl_xor_sync(~0u, new_most, 16));
        const float less = exp2_(most - new_most);
        weight *= less, most = new_most;
#pragma unroll
        for (int j = 0; j < 8; j++) sums[j] *= less;
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const float p = exp2_(s[i] - most);
            float y[8];
            widen(y, slots.v[i]);
            weight += p;
#pragma unroll
            for (int j = 0; j < 8; j++) sums[j] += p * y[j];
        }
    }
    // Leave a warp's sums, its largest score and its weight.
    __device__ __forceinline__ void leave(u32 part, u32 lane) {
        // Over the four slots that a warp sees together: each lane ends with two numbers.
        float four[4], two[2];
        const bool upper = lane & 16, right = lane & 8;
#pragma unroll
        for (int j = 0; j < 4; j++)
            four[j] = (upper ? sums[j + 4] : sums[j]) +
                      __shfl_xor_sync(~0u, upper ? sums[j] : sums[j + 4], 16);
#pragma unroll
        for (int j = 0; j < 2; j++)
            two[j] = (right ? four[j + 2] : four[j]) +
                     __shfl_xor_sync(~0u, right ? four[j] : four[j + 2], 8);
        weight += __shfl_xor_sync(~0u, weight, 8);
        weight += __shfl_xor_sync(~0u, weight, 16);
        const u32 first = 8 * (lane & 7) + (upper ? 4 : 0) + (right ? 2 : 0);
        store2(part + 4 * first, two[0], two[1]);
        if (lane == 0) store2(part + 4 * HEAD, most, weight);
    }
};

// Return one over the root mean square of a query or a key.
__device__ __forceinline__ float head_norm(const Block& b, u32 row, u32 is_key) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < 2 * C; i++)
        squares += load(b.base + HEAD_SQUARES_AT + 4 * ((row * 2 + is_key) * 2 * C + i));
    return rsqrt_(squares / HEAD + b.eps);
}

// See this warp's slots of a row, of which the first are in registers, and leave what was seen.
__device__ __forceinline__ void attend(const Block& b, Slots& slots, u32 row, u32 row_warp) {
    const u32 q_at = b.base + QKV_AT + 4 * (row * 3 * HEAD + 8 * (b.lane & 7));
    Attention seen = {};
    seen.most = -1e30f;
    load8(seen.q, q_at);
    if constexpr (QK_NORM) {
        const float norm = head_norm(b, row, 0);
#pragma unroll
        for (int i = 0; i < 8; i++) seen.q[i] *= norm;
    }
    if (b.rank == C - 1 && row_warp == ROW_WARPS - 1) {
        float key[8], value[8];
        load8(key, q_at + 4 * HEAD), load8(value, q_at + 8 * HEAD);
        if constexpr (QK_NORM) {
            const float norm = head_norm(b, row, 1);
#pragma unroll
            for (int i = 0; i < 8; i++) key[i] *= norm;
        }
        seen.see_new(slots, key, value, b.lane);
    }
    seen.see(slots, 0);
    for (int i = AHEAD; slots.slot(i) - (int)(b.lane >> 3) < slots.position; i += AHEAD)
        slots.ask(i), seen.see(slots, i);
    seen.leave(b.base + OWN_PARTS_AT + 4 * (row * OWN_PART_ROW + row_warp * PART), b.lane);
}

// Join what the warps of this block left, and tell all blocks of the cluster.
__device__ __forceinline__ void tell_parts(const Block& b) {
    if (b.tid >= HEAD * ROWS * 4) return;
    // Four threads a number, each joins some of the warps' parts.
    constexpr int N = ROW_WARPS / 4;
    const u32 row = b.tid % ROWS, quarter = b.tid / ROWS % 4, i = b.tid / ROWS / 4;
    const u32 at = b.base + OWN_PARTS_AT + 4 * (row * OWN_PART_ROW + quarter * N * PART);
    float m[N], most = -1e30f, sum = 0, weight = 0;
#pragma unroll
    for (int w = 0; w < N; w++) m[w] = load(at + 4 * (PART * w + HEAD)), most = fmaxf(most, m[w]);
    most = fmaxf(most, __shfl_xor_sync(~0u, most, ROWS));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 2 * ROWS));
#pragma unroll
    for (int w = 0; w < N; w++) {
        const float p = exp2_(m[w] - most);
        sum += p * load(at + 4 * (PART * w + i));
        weight += p * load(at + 4 * (PART * w + HEAD + 1));
    }
#pragma unroll
    for (int j = ROWS; j < 4 * ROWS; j *= 2)
        sum += __shfl_xor_sync(~0u, sum, j), weight += __shfl_xor_sync(~0u, weight, j);
    u32 four[4];
    gather(four, bits(sum), 4 * ROWS, 8 * ROWS);
    const u32 part = b.row_peer + PARTS_AT + 4 * RANK_PART * (row * C + b.rank);  // to its quarter
    if (i % 4 == 0) tell4(part + 4 * i, four, b.row_peer + PARTS_BAR);
    if (i == 0) tell2(part + 4 * HEAD, bits(most), bits(weight), b.row_peer + PARTS_BAR);
}

// Join what the blocks of the cluster told, and leave it as what is multiplied by `out`.
__device__ __forceinline__ void join_parts(const Block& b) {
    if (b.warp >= ROWS) return;
    const u32 at = b.base + PARTS_AT + 4 * b.warp * C * RANK_PART;
    float m[C], w[C], most = -1e30f, y[2] = {}, weight = 0;
#pragma unroll
    for (int p = 0; p < C; p++)
        load2(m[p], w[p], at + 4 * (RANK_PART * p + HEAD)), most = fmaxf(most, m[p]);
#pragma unroll
    for (int p = 0; p < C; p++) {
        const float share = exp2_(m[p] - most);
        float first, second;
        load2(first, second, at + 4 * (RANK_PART * p + 2 * b.lane));
        y[0] += share * first, y[1] += share * second;
        weight += share * w[p];
    }
    const u32 to = b.base + Y_AT + b.warp * PLANES * Y_STRIDE;
    if constexpr (BITS == 16) {
        const float by = __fdividef(1, weight);
        store_int(to + 4 * b.lane, (int)pack(y[0] * by, y[1] * by));
    } else {
        const float largest = largest_of(largest_of_two(fabsf(y[0]), fabsf(y[1])));
        const u32 own = to + 2 * b.lane;
        store_integers<2>(own, own + Y_STRIDE, y, to_integers(largest));
        if (b.lane == 0)
            store(b.base + Y_SCALES_AT + 4 * b.warp, __fdividef(from_integers(largest), weight));
    }
}
