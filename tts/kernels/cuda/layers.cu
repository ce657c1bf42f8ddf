// All layers of a decoder for one new entry of one or two rows, in one launch that stays.
//
// A cluster of C blocks owns one attention head and a share of the feed-forward channels; a block
// ("rank") owns WIDTH / C columns of the residual stream, which it keeps in registers throughout.
// Within a cluster blocks tell each other by stores into each other's shared memory that count
// themselves at the receiver's barrier; clusters meet twice a layer, where each has left its part
// of every column's sum in global memory. A part's lowest bit says which meeting it is of, so that
// a reader polls the numbers themselves, and nothing waits for a fence or a flag.
//
// Each warp streams its own weights through a ring of its own in shared memory: it asks for more
// whenever it has taken some. It takes them into the first operand of a tensor core's product
// before it waits for the rows, the second operand, so that behind a wait little is left to do.
//
// Defined at compile time: WIDTH, FFN (channels of a block), C, N_CLUSTERS, ROWS, BITS, QK_NORM,
// STAGE_UNITS.

#include "block.cuh"

extern "C" __global__ void __cluster_dims__(C, 1, 1) __launch_bounds__(THREADS, 1)
    layers(const char* weights, const float* numbers, const float* first_gain, const u16* x_in,
           u16* out, const long long* positions, u16* keys, u16* values, long long layer_stride,
           long long row_stride, long long head_stride, long long slot_stride, const float* cosines,
           const float* sines, u32* parts, u32* counter, int n_layers, float eps) {
    extern __shared__ __align__(128) char shared[];
    Block b;
    b.base = (u32)__cvta_generic_to_shared(shared), b.eps = eps;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(b.rank));
    b.cluster = blockIdx.x / C, b.tid = threadIdx.x, b.lane = b.tid % 32;
    b.warp = __shfl_sync(~0u, b.tid / 32, 0);  // the same in all lanes, as the compiler then knows
    const u32 base = b.base, tid = b.tid, lane = b.lane, warp = b.warp, rank = b.rank;
    b.peer = peer_address(base, lane >> 1 & 3), b.row_peer = peer_address(base, lane / ROWS & 3);
    b.ffn_peer = peer_address(base, lane & 3);
    if (tid == 0) {
        for (int i = 0; i < WARPS * N_STAGES + 2; i++) make_barrier(base + NUMBERS_FULL + 8 * i, 1);
        make_barrier(base + X_BAR, 1), make_barrier(base + QKV_BAR, 1);
        make_barrier(base + PARTS_BAR, 1), make_barrier(base + H_BAR, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        expect(base + X_BAR, X_BYTES), expect(base + QKV_BAR, QKV_BYTES);
        expect(base + PARTS_BAR, PARTS_BYTES), expect(base + H_BAR, H_BYTES);
    }
    asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");

    const u32 n_stages = n_layers * STAGES, zero = (u32)n_layers >> 30;
    Ring ring(base, warp, weights + ((u64)blockIdx.x * WARPS + warp) * n_stages * STAGE_BYTES,
              n_stages, zero);
    const auto ask_numbers = [&](int layer) {
        if (tid == 0 && layer < n_layers)
            copy(base + NUMBERS_AT + (layer & 1) * N_NUMBERS * 4,
                 numbers + ((u64)layer * gridDim.x + blockIdx.x) * N_NUMBERS, N_NUMBERS * 4,
                 base + NUMBERS_FULL + 8 * (layer & 1));
    };
    ask_numbers(0);
    const u32 k_warp = warp % K_WARPS, m_warp = warp / K_WARPS;
    const u32 row = warp / ROW_WARPS, row_warp = warp % ROW_WARPS, sub = lane >> 3,
              lane8 = lane & 7;
    const int position = (int)positions[row];
    const u32 launch = peek(counter);
    // What this thread makes of its output of qkv: sixteen queries, keys and values a rank, of
    // which the first two come as halves of pairs that are turned.
    const u32 qkv_row = tid % ROWS, kind = tid / ROWS / 32;
    const u32 at16 = 4 * (tid / ROWS / 16 % 2) + tid / ROWS / 2 % 4 + 8 * (tid / ROWS / 8 % 2);
    const u32 qkv_peer = peer_address(base, lane / ROWS / 2 & 3);
    const u32 d = kind == 2 ? 16 * rank + at16 : 8 * rank + at16 % 8 + 32 * (at16 / 8);
    float cosine = 1, sine = 0;
    if (kind < 2) {
        const float turn = kind ? 1 : 0.125f * 1.4426950408889634f;  // HEAD^-1/2 and log2(e)
        const long long at = positions[qkv_row] * HEAD + d;
        cosine = cosines[at] * turn, sine = sines[at] * (at16 < 8 ? -turn : turn);
    }
    // Two meetings a layer, in turn in two places of which each is written once a layer.
    const u32 place = C * N_CLUSTERS * COLUMNS * ROWS;
    const u32 theirs = rank * N_CLUSTERS * COLUMNS * ROWS;
    const u32 mine = theirs + b.cluster * COLUMNS * ROWS;
    u32 meeting = (launch * (u32)n_layers & 1) ^ 1;  // the lowest bit of what is left there
    // A thread's number of the stream; those beyond the columns have none.
    const bool has_column = 16 * warp < COLUMNS;
    const u32 column = rank * COLUMNS + 16 * warp + (lane & 15),
              stream_row = ROWS == 2 ? lane >> 4 : 0;
    float x = 0;
    if (has_column) {
        x = __uint_as_float((u32)x_in[stream_row * WIDTH + column] << 16);
        b.tell_stream(x, first_gain[column]);
    }
    // Float16 rows are told times a power of two, near what the last norm divided by, lest they
    // overflow; all blocks know the same one.
    Norms power = {1, 1};
    const auto told = [&](float gain) { return BITS == 16 ? gain : gain * power.of(stream_row); };
    const auto untold = [&](const Norms& norm, u32 r) {
        return BITS == 16 ? norm.of(r) : norm.of(r) * inverse_of_power(power.of(r));
    };
    const auto keep_power = [&](const Norms& norm) {
        if (BITS < 16) power = {power_below(norm.first), power_below(norm.second)};
    };
    // Add what all clusters left for this block to the stream, and tell the stream times gains.
    const auto hear_and_tell = [&](const u32* left, u32 gains) {
        if (!has_column) return;
        x += b.join(left, meeting);
        b.tell_stream(x, told(load_bfloat16(gains + 2 * (16 * warp + (lane & 15)))));
    };
    u32 n_x = 0;
    for (int layer = 0; layer < n_layers; layer++, meeting ^= 1) {
        const u32 phase = layer & 1, half = layer & 1;
        const u32 number = base + NUMBERS_AT + half * N_NUMBERS * 4;
        const u16* k_at =
            keys + layer * layer_stride + row * row_stride + b.cluster * head_stride + lane8 * 8;
        const u16* v_at =
            values + layer * layer_stride + row * row_stride + b.cluster * head_stride + lane8 * 8;
        uint4 k[AHEAD], v[AHEAD];
        const auto slot_of = [&](int i) {
            return 4 * (i * (C * ROW_WARPS) + (int)(rank * ROW_WARPS + row_warp)) + (int)sub;
        };
        const auto fetch = [&](int first) {
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                const int slot = slot_of(first + i);
                k[i] = v[i] = make_uint4(0, 0, 0, 0);
                if (slot < position) {
                    k[i] = __ldcg((const uint4*)(k_at + slot * slot_stride));
                    v[i] = __ldcg((const uint4*)(v_at + slot * slot_stride));
                }
            }
        };
        Norms norm;
        wait(base + NUMBERS_FULL + 8 * half, layer >> 1 & 1);
        {
            fetch(0);
            Fragment a[QKV_TURNS];
            take<QKV_TURNS, false>(0, a, ring);
            wait(base + X_BAR, n_x++ & 1);
            if (tid == 0) expect(base + X_BAR, X_BYTES);
            float c[QKV_TURNS][4] = {}, inputs[4] = {};
            const Rows rows = rows_at(base + X_AT, X_STRIDE, k_warp);
            multiply<QKV_TURNS>(c, a, rows);
            if (BITS < 16) add_rows(inputs, rows);
            norm = b.norms();
            if (lane % 4 == 0)
#pragma unroll
                for (int t = 0; t < QKV_TURNS; t++) {
                    const int tile = t * M_WARPS + m_warp;
                    if (tile >= QKV_TILES) continue;
                    if (BITS < 16) take_off(c[t], inputs);
                    leave(c[t], base + SUMS_AT + 4 * k_warp * N_SUMS, tile);
                }
        }
        meet();
        ask_numbers(layer + 1);  // all are done with the layer before, whose place they take
        if (tid < 2 * N_QKV * ROWS) {
            float y = sum_of(base, tid / ROWS % 2, 16 * kind + at16, qkv_row,
                             number + 4 * QKV_SCALE, N_QKV);
            y = (y + __shfl_xor_sync(~0u, y, ROWS)) * untold(norm, qkv_row);
            if constexpr (QK_NORM) {
                float squares = y * y;
#pragma unroll
                for (int i = 2 * ROWS; i < 16 * ROWS; i *= 2)
                    squares += __shfl_xor_sync(~0u, squares, i);
                if (kind < 2 && tid / ROWS % 2 == 0 && at16 < 8)
                    tell(qkv_peer + HEAD_SQUARES_AT +
                             4 * (((qkv_row * 2 + kind) * C + rank) * 2 + at16 / 4),
                         bits(squares), qkv_peer + QKV_BAR);
                if (kind < 2) y *= load(number + 4 * (QK_GAIN + kind * HEAD + d));
            }
            y = y * cosine + __shfl_xor_sync(~0u, y, 8 * ROWS) * sine;
            u32 four[4];
            gather(four, bits(y), 2 * ROWS, 4 * ROWS);
            if (tid / ROWS % 2 == 0)
                tell4(qkv_peer + QKV_AT + 4 * (qkv_row * 3 * HEAD + kind * HEAD + (d & ~3u)), four,
                      qkv_peer + QKV_BAR);
        }
        keep_power(norm);
        Fragment a_out[1];
        take<1, true>(OUT_UNIT, a_out, ring);
        wait(base + QKV_BAR, phase);
        if (tid == 0) expect(base + QKV_BAR, QKV_BYTES);
        {
            const u32 q_at = base + QKV_AT + 4 * row * 3 * HEAD;
            float q[8], sums[8] = {}, most = -1e30f, weight = 0;
            const auto head_norm = [&](int of) {
                float squares = 0;
#pragma unroll
                for (int i = 0; i < 2 * C; i++)
                    squares += load(base + HEAD_SQUARES_AT + 4 * ((row * 2 + of) * 2 * C + i));
                return rsqrtf(squares / HEAD + eps);
            };
            load8(q, q_at + 32 * lane8);
            if constexpr (QK_NORM) {
                const float r = head_norm(0);
#pragma unroll
                for (int i = 0; i < 8; i++) q[i] *= r;
            }
            if (rank == C - 1 && row_warp == ROW_WARPS - 1) {
                // The new entry: seen by this warp, as it will be read, and left in the cache.
                float y[8], s = 0;
                load8(y, q_at + 4 * HEAD + 32 * lane8);
                if constexpr (QK_NORM) {
                    const float r = head_norm(1);
#pragma unroll
                    for (int i = 0; i < 8; i++) y[i] *= r;
                }
                const uint4 new_k = make_uint4(pack(y[0], y[1]), pack(y[2], y[3]), pack(y[4], y[5]),
                                               pack(y[6], y[7]));
                widen(y, new_k);
#pragma unroll
                for (int i = 0; i < 8; i++) s += q[i] * y[i];
#pragma unroll
                for (int i = 1; i < 8; i *= 2) s += __shfl_xor_sync(~0u, s, i);
                most = s;
                load8(y, q_at + 8 * HEAD + 32 * lane8);
                const uint4 new_v = make_uint4(pack(y[0], y[1]), pack(y[2], y[3]), pack(y[4], y[5]),
                                               pack(y[6], y[7]));
                if (sub == 0) {
                    weight = 1;
                    widen(sums, new_v);
                    __stcg((uint4*)(k_at + position * slot_stride), new_k);
                    __stcg((uint4*)(v_at + position * slot_stride), new_v);
                }
            }
            for (int first = 0; first == 0 || slot_of(first) - (int)sub < position;
                 first += AHEAD) {
                if (first) fetch(first);
                float s[AHEAD], new_most = most;
#pragma unroll
                for (int i = 0; i < AHEAD; i++) {
                    float y[8];
                    widen(y, k[i]);
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
                    if (slot_of(first + i) >= position) s[i] = -1e38f;
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
                    widen(y, v[i]);
                    weight += p;
#pragma unroll
                    for (int j = 0; j < 8; j++) sums[j] += p * y[j];
                }
            }
            // Over the four slots that a warp looks at together: each lane ends with two numbers.
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
            const u32 part = base + OWN_PARTS_AT + 4 * (row * OWN_PART_ROW + row_warp * PART);
            const u32 first = 8 * lane8 + (upper ? 4 : 0) + (right ? 2 : 0);
            store2(part + 4 * first, two[0], two[1]);
            if (lane == 0) store2(part + 4 * HEAD, most, weight);
        }
        meet();
        if (tid < HEAD * ROWS * 4) {  // four threads a number, each joins some of the warps' parts
            constexpr int N = ROW_WARPS / 4;
            const u32 r = tid % ROWS, quarter = tid / ROWS % 4, i = tid / ROWS / 4;
            const u32 at = base + OWN_PARTS_AT + 4 * (r * OWN_PART_ROW + quarter * N * PART);
            float m[N], most = -1e30f, sum = 0, weight = 0;
#pragma unroll
            for (int w = 0; w < N; w++)
                m[w] = load(at + 4 * (PART * w + HEAD)), most = fmaxf(most, m[w]);
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
            const u32 part =
                b.row_peer + PARTS_AT + 4 * RANK_PART * (r * C + rank);  // told by its quarter
            if (i % 4 == 0) tell4(part + 4 * i, four, b.row_peer + PARTS_BAR);
            if (i == 0) tell2(part + 4 * HEAD, bits(most), bits(weight), b.row_peer + PARTS_BAR);
        }
        wait(base + PARTS_BAR, phase);
        if (tid == 0) expect(base + PARTS_BAR, PARTS_BYTES);
        if (tid < HEAD * ROWS) {
            const u32 r = tid % ROWS, i = tid / ROWS, at = base + PARTS_AT + 4 * r * C * RANK_PART;
            float m[C], most = -1e30f, sum = 0, weight = 0;
#pragma unroll
            for (int p = 0; p < C; p++)
                m[p] = load(at + 4 * (RANK_PART * p + HEAD)), most = fmaxf(most, m[p]);
#pragma unroll
            for (int p = 0; p < C; p++) {
                const float share = exp2_(m[p] - most);
                sum += share * load(at + 4 * (RANK_PART * p + i));
                weight += share * load(at + 4 * (RANK_PART * p + HEAD + 1));
            }
            const u32 word = pack_rows(__fdividef(sum, weight), 0);
            asm volatile("st.shared.u16 [%0], %1;" ::"r"(base + Y_AT + 2 * (r * Y_STRIDE + i)),
                         "h"((u16)word)
                         : "memory");
        }
        meet();
        {
            const Rows rows = rows_at(base + Y_AT, Y_STRIDE, 0);
            float c[4] = {}, c2[4] = {};
#pragma unroll
            for (int s = 0; s < 4; s += 2) {
                multiply(c, a_out[0][s], rows.b[2 * s], rows.b[2 * s + 1]);
                multiply(c2, a_out[0][s + 1], rows.b[2 * s + 2], rows.b[2 * s + 3]);
            }
            if (warp < OUT_TILES) {
#pragma unroll
                for (int e = 0; e < 4; e++) c[e] += c2[e];
                if (BITS < 16) scale(c, number + 4 * (OUT_SCALE + 16 * warp));
                b.leave_part(c, parts + mine, warp, meeting);
            }
        }
        {
            constexpr int CHUNK = divisor(FFN_TURNS);
            constexpr int BEFORE = CHUNK < EARLY ? CHUNK : EARLY;
            Fragment a[CHUNK];
            take<BEFORE, false>(FFN_UNIT, a, ring);
            hear_and_tell(parts + theirs, number + 4 * FFN_GAIN);
            take<CHUNK - BEFORE, false>(FFN_UNIT + BEFORE, a + BEFORE, ring);
            wait(base + X_BAR, n_x++ & 1);
            if (tid == 0) expect(base + X_BAR, X_BYTES);
            float c[FFN_TURNS][4] = {}, inputs[4] = {};
            const Rows rows = rows_at(base + X_AT, X_STRIDE, k_warp);
#pragma unroll
            for (int i = 0; i < FFN_TURNS; i += CHUNK) {
                multiply<CHUNK>(c + i, a, rows);
                if (BITS < 16 && i == 0) add_rows(inputs, rows);
                if (i + CHUNK < FFN_TURNS) take<CHUNK, false>(FFN_UNIT + i + CHUNK, a, ring);
            }
            norm = b.norms();
            if (lane % 4 == 0)
#pragma unroll
                for (int t = 0; t < FFN_TURNS; t++) {
                    const int tile = t * M_WARPS + m_warp;
                    if (tile >= FFN_TILES) continue;
                    if (BITS < 16) take_off(c[t], inputs);
                    leave(c[t], base + SUMS_AT + 4 * k_warp * N_SUMS, tile);
                }
        }
        meet();
        for (u32 i = tid / 4; i < FFN * ROWS; i += THREADS / 4) {
            // Gate and up by two threads each, that add half of the warps' sums.
            const u32 is_up = tid & 1, half = tid >> 1 & 1, channel = i / ROWS, r = i % ROWS;
            float y = sum_of(base, half, 16 * (channel / 8) + 8 * is_up + channel % 8, r,
                             number + 4 * FFN_SCALE, N_FFN);
            y = (y + __shfl_xor_sync(~0u, y, 2)) * untold(norm, r);
            const float other = __shfl_xor_sync(~0u, y, 1);
            const float gate = is_up ? other : y, up = is_up ? y : other;
            const float h =
                __fdividef(gate * up * H_FACTOR, 1.f + exp2_(-1.4426950408889634f * gate));
            const float beside = __shfl_xor_sync(~0u, h, 4 * ROWS);
            const u32 word = pack_rows(h, beside), second = __shfl_xor_sync(~0u, word, 8 * ROWS);
            const u32 at = H_AT + 2 * (r * H_STRIDE + rank * FFN + channel);
            if (channel % 4 == 0) tell2(b.ffn_peer + at, word, second, b.ffn_peer + H_BAR);
        }
        keep_power(norm);
        {
            // Some blocks of inputs at a time; in 4 bits two are a group.
            constexpr int D = DOWN_CHUNK, G = D < GROUP_BLOCKS ? D : GROUP_BLOCKS;
            static_assert(D % G == 0 && GROUP_BLOCKS % G == 0, "whole groups");
            Fragment a[D];
            float sum[4] = {};
            take<D, true, DOWN_LATER>(DOWN_UNIT, a, ring);
            wait(base + H_BAR, phase);
            if (tid == 0) expect(base + H_BAR, H_BYTES);
#pragma unroll
            for (int i = 0; i < DOWN_BLOCKS; i += D) {
                float c[D][4] = {};
                Rows rows[D];
#pragma unroll
                for (int j = 0; j < D; j++) rows[j] = rows_at(base + H_AT, H_STRIDE, i + j);
#pragma unroll
                for (int s = 0; s < 4; s++)
#pragma unroll
                    for (int j = 0; j < D; j++)
                        multiply(c[j], a[j][s], rows[j].b[2 * s], rows[j].b[2 * s + 1]);
                if (i + D < DOWN_BLOCKS) take<D, true>(DOWN_UNIT + i + D, a, ring);
#pragma unroll
                for (int g = 0; g < D; g += G) {
                    float (&first)[4] = c[g];
#pragma unroll
                    for (int j = g + 1; j < g + G; j++)
#pragma unroll
                        for (int e = 0; e < 4; e++) first[e] += c[j][e];
                    const int group = (i + g) / GROUP_BLOCKS;
                    if (BITS < 16 && warp < OUT_TILES)
                        scale(first, number + 4 * (DOWN_SCALE + group * COLUMNS + 16 * warp),
                              1 / H_FACTOR);
#pragma unroll
                    for (int e = 0; e < 4; e++) sum[e] += first[e];
                }
            }
            if (warp < OUT_TILES) b.leave_part(sum, parts + place + mine, warp, meeting);
        }
        pause<POLL_AFTER>();
        hear_and_tell(parts + place + theirs, number + 4 * NEXT_GAIN);
        ring.ask_owed<DOWN_LATER>();
    }
    wait(base + X_BAR, n_x & 1);
    const float norm = b.norms().of(stream_row);
    if (b.cluster == 0 && has_column) {
        const float y = x * norm * first_gain[WIDTH + column];  // the gain of the last norm
        if (ROWS == 2 || lane < 16) out[stream_row * WIDTH + column] = (u16)pack(y, 0);
        if (rank == 0 && tid == 0) *counter = launch + 1;
    }
    asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}
