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
// Codes of 8 or 4 bits are multiplied as they are, by rows of integers of 16 bits: two planes of
// bytes, two columns of the second operand, of which neighbours share a scale. Sums are exact.
//
// Defined at compile time: WIDTH, FFN (channels of a block), C, N_CLUSTERS, ROWS, BITS, QK_NORM,
// STAGE_UNITS.

#include "attention.cuh"
#include "feed_forward.cuh"

extern "C" __global__ void __cluster_dims__(C, 1, 1) __launch_bounds__(THREADS, 1)
    layers(const char* weights, const float* numbers, const float* first_gain, const u16* x_in,
           u16* out, const long long* positions, u16* keys, u16* values, long long layer_stride,
           long long row_stride, long long head_stride, const float* cosines, const float* sines,
           u32* parts, u32* counter, int n_layers, float eps) {
    extern __shared__ __align__(128) char shared[];
    Block b;
    b.base = (u32)__cvta_generic_to_shared(shared), b.eps = eps;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(b.rank));
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(b.tid));  // once: it is slow to ask for
    b.cluster = blockIdx.x / C, b.lane = b.tid % 32;
    b.warp = __shfl_sync(~0u, b.tid / 32, 0);  // the same in all lanes, as the compiler then knows
    const u32 base = b.base, tid = b.tid, lane = b.lane, warp = b.warp, rank = b.rank;
    b.x_peer = peer_address(base, lane >> 2 & 3), b.h_peer = peer_address(base, lane >> 3);
    b.row_peer = peer_address(base, lane / ROWS & 3), b.ffn_peer = peer_address(base, lane & 3);
    if (tid == 0) {
        for (int i = 0; i < WARPS * N_STAGES + 2; i++) make_barrier(base + NUMBERS_FULL + 8 * i, 1);
        make_barrier(base + X_BAR, 1), make_barrier(base + QKV_BAR, 1);
        make_barrier(base + PARTS_BAR, 1), make_barrier(base + H_BAR, 1);
        make_barrier(base + SQUARES_BAR, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        expect(base + X_BAR, X_BYTES), expect(base + QKV_BAR, QKV_BYTES);
        expect(base + PARTS_BAR, PARTS_BYTES), expect(base + H_BAR, H_BYTES);
        expect(base + SQUARES_BAR, SQUARES_BYTES);
    }
    asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");

    const u32 n_stages = n_layers * STAGES, zero = (u32)n_layers >> 30;
    Ring ring(base, warp, weights + ((u64)blockIdx.x * WARPS + warp) * n_stages * STAGE_BYTES,
              n_stages, zero);
    const auto ask_numbers = [&](int layer) {
        if (tid == 12 * 32 && layer < n_layers)  // a warp with no output of qkv and no new entry
            copy(base + NUMBERS_AT + (layer & 1) * N_NUMBERS * 4,
                 numbers + ((u64)layer * gridDim.x + blockIdx.x) * N_NUMBERS, N_NUMBERS * 4,
                 base + NUMBERS_FULL + 8 * (layer & 1));
    };
    ask_numbers(0);
    const u32 row = warp / ROW_WARPS, row_warp = warp % ROW_WARPS;
    const long long in_cache = row * row_stride + b.cluster * head_stride + lane % 8 * 8;
    Slots slots;
    slots.k_at = keys + in_cache, slots.v_at = values + in_cache;
    slots.first = 4 * (rank * ROW_WARPS + row_warp) + lane / 8;
    slots.position = (int)positions[row];
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
    const u32 stream_row = warp % ROWS, own = 32 * (warp / ROWS) + b.own_column();
    const bool has_column = 32 * (warp / ROWS) < COLUMNS;
    const u32 column = rank * COLUMNS + own;
    float x = 0;
    if (has_column) {
        x = __uint_as_float((u32)x_in[stream_row * WIDTH + column] << 16);
        b.tell_stream(x, first_gain[column]);
    }
    // Add what all clusters left for this block to the stream, and tell the stream times gains.
    const auto hear_and_tell = [&](const u32* left, u32 gains) {
        if (!has_column) return;
        x += b.join(left, meeting);
        b.tell_stream(x, load_bfloat16(gains + 2 * own));
    };
    const u32 x_rows = base + X_AT + second_operand(X_STRIDE) + warp % K_WARPS * BLOCK_BYTES;
    const u32 y_rows = base + Y_AT + second_operand(Y_STRIDE);
    const u32 h_rows = base + H_AT + second_operand(H_STRIDE, BLOCK_BYTES / 4 / H_PARTS);
    u32 n_x = 0, n_norms = 0;
    const auto hear_norms = [&] {
        wait(base + SQUARES_BAR, n_norms++ & 1);
        if (tid == 0) expect(base + SQUARES_BAR, SQUARES_BYTES);
        return b.norms();
    };
    for (int layer = 0; layer < n_layers; layer++, meeting ^= 1) {
        const u32 phase = layer & 1, half = layer & 1;
        const u32 number = base + NUMBERS_AT + half * N_NUMBERS * 4;
        Norms norm;
        wait(base + NUMBERS_FULL + 8 * half, layer >> 1 & 1);
        {
            slots.ask(0);  // before weights, that they be here before those
            if (layer) ring.ask_owed<DOWN_LATER>();
            Fragment a[QKV_TURNS];
            take<QKV_TURNS>(0, a, ring);
            wait(base + X_BAR, n_x++ & 1);
            if (tid == 0) expect(base + X_BAR, X_BYTES);
            Sum c[QKV_TURNS][4] = {};
            multiply<QKV_TURNS>(c, a, rows_at(x_rows));
            norm = hear_norms();
            leave<QKV_TURNS>(c, QKV_TILES, base, warp);
        }
        meet();
        ask_numbers(layer + 1);  // all are done with the layer before, whose place they take
        if (tid < 2 * N_QKV * ROWS) {
            float y = sum_of(base, tid / ROWS % 2, 16 * kind + at16, qkv_row,
                             number + 4 * QKV_SCALE, N_QKV);
            y = (y + __shfl_xor_sync(~0u, y, ROWS)) * norm.of(qkv_row);
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
        Fragment a_out[1];
        take<1, OUT_LATER>(OUT_UNIT, a_out, ring);
        wait(base + QKV_BAR, phase);
        if (tid == 0) expect(base + QKV_BAR, QKV_BYTES);
        attend(b, slots, row, row_warp);
        meet();
        tell_parts(b);
        ring.ask_owed<OUT_LATER>();
        wait(base + PARTS_BAR, phase);
        if (tid == 0) expect(base + PARTS_BAR, PARTS_BYTES);
        join_parts(b);
        float scale1 = 1, scale2 = 1;
        if (BITS < 16 && warp < OUT_TILES)
            load2(scale1, scale2, number + 4 * (OUT_SCALE + 16 * warp + 2 * (lane >> 2)));
        meet();
        {
            const Rows rows = rows_at(y_rows);
            Sum c[4] = {}, c2[4] = {};
#pragma unroll
            for (int s = 0; s < PRODUCTS; s += 2) {
                multiply(c, a_out[0][s], rows.b[2 * s], rows.b[2 * s + 1]);
                multiply(c2, a_out[0][s + 1], rows.b[2 * s + 2], rows.b[2 * s + 3]);
            }
            if (warp < OUT_TILES) {
#pragma unroll
                for (int e = 0; e < 4; e++) c[e] += c2[e];
                float first = first_of(c), second = second_of(c);
                if (BITS < 16) {
                    const float by = load(base + Y_SCALES_AT + 4 * (lane & (ROWS - 1)));
                    first *= by * scale1, second *= by * scale2;
                }
                b.leave_part(first, second, parts + mine, warp, meeting);
            }
        }
        {
            Fragment a[FFN_CHUNK];
            take<FFN_BEFORE, FFN_LATER>(FFN_UNIT, a, ring);
            hear_and_tell(parts + theirs, number + 4 * FFN_GAIN);
            ring.ask_owed<FFN_LATER>();
            take<FFN_CHUNK - FFN_BEFORE>(FFN_UNIT + FFN_BEFORE, a + FFN_BEFORE, ring);
            wait(base + X_BAR, n_x++ & 1);
            if (tid == 0) expect(base + X_BAR, X_BYTES);
            Sum c[FFN_TURNS][4] = {};
            const Rows rows = rows_at(x_rows);
#pragma unroll
            for (int i = 0; i < FFN_TURNS; i += FFN_CHUNK) {
                multiply<FFN_CHUNK>(c + i, a, rows);
                if (i + FFN_CHUNK < FFN_TURNS) take<FFN_CHUNK>(FFN_UNIT + i + FFN_CHUNK, a, ring);
            }
            norm = hear_norms();
            leave<FFN_TURNS>(c, FFN_TILES, base, warp);
        }
        meet();
        tell_gated(b, norm, number + 4 * FFN_SCALE);
        {
            Fragment a[DOWN_CHUNK];
            take<DOWN_CHUNK, DOWN_LATER>(DOWN_UNIT, a, ring);
            wait(base + H_BAR, phase);
            if (tid == 0) expect(base + H_BAR, H_BYTES);
            float sums[2] = {};
#pragma unroll
            for (int i = 0; i < DOWN_BLOCKS; i += DOWN_CHUNK) {
                Sum c[DOWN_CHUNK][H_PARTS][4] = {};
                multiply_down(c, a, h_rows + i * BLOCK_BYTES);
                if (i + DOWN_CHUNK < DOWN_BLOCKS)
                    take<DOWN_CHUNK>(DOWN_UNIT + i + DOWN_CHUNK, a, ring);
                add_down(sums, c, b, i, number + 4 * DOWN_SCALE);
            }
            if (warp < OUT_TILES)
                b.leave_part(sums[0], sums[1], parts + place + mine, warp, meeting);
        }
        pause<POLL_AFTER>();
        hear_and_tell(parts + place + theirs, number + 4 * NEXT_GAIN);
        slots.k_at += layer_stride, slots.v_at += layer_stride;
    }
    wait(base + X_BAR, n_x & 1);
    const float norm = hear_norms().of(stream_row);
    if (b.cluster == 0 && has_column) {
        const float y = x * norm * first_gain[WIDTH + column];  // the gain of the last norm
        out[stream_row * WIDTH + column] = (u16)pack(y, 0);
        if (rank == 0 && tid == 0) *counter = launch + 1;
    }
    asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}
