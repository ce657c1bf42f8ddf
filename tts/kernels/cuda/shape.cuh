// What follows from the shape that a kernel is compiled for; see layers.cu.
#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;

constexpr int HEAD = 64, WARPS = 16, THREADS = 32 * WARPS;
constexpr int COLUMNS = WIDTH / C;        // of the stream, of one block
constexpr int X_BLOCKS = WIDTH / 64;      // inputs are taken 64 at a time
constexpr int K_WARPS = X_BLOCKS;         // warps along the inputs
constexpr int M_WARPS = WARPS / K_WARPS;  // and along the outputs
constexpr int QKV_TILES = 3 * HEAD / 16 / C, QKV_TURNS = (QKV_TILES + M_WARPS - 1) / M_WARPS;
constexpr int FFN_TILES = FFN / 8, FFN_TURNS = (FFN_TILES + M_WARPS - 1) / M_WARPS;
constexpr int OUT_TILES = COLUMNS / 16;  // a warp each, at the most
constexpr int DOWN_BLOCKS = FFN * C / 64;
// Of a unit each warp has 16 outputs and 64 inputs. Where the units of a product begin in a layer:
constexpr int OUT_UNIT = QKV_TURNS, FFN_UNIT = OUT_UNIT + 1, DOWN_UNIT = FFN_UNIT + FFN_TURNS;
constexpr int UNITS = DOWN_UNIT + DOWN_BLOCKS;
constexpr int UNIT_BYTES = 16 * 64 * BITS / 8;  // of one warp
constexpr int STAGE_BYTES = STAGE_UNITS * UNIT_BYTES;
constexpr int STAGES = UNITS / STAGE_UNITS;  // of a layer
// Of a number of units, how many are taken together: registers hold four of 16 bits, eight of
// codes.
constexpr int divisor(int n, int most = BITS == 16 ? 4 : 8) {
    return n % most == 0 ? most : divisor(n, most - 1);
}
constexpr int FFN_CHUNK = divisor(FFN_TURNS), EARLY = BITS == 16 ? 2 : 4;
constexpr int FFN_BEFORE = FFN_CHUNK < EARLY ? FFN_CHUNK : EARLY;  // of those, before polling
constexpr int DOWN_CHUNK =
    BITS == 4 ? (DOWN_BLOCKS % 4 ? 2 : 4) : divisor(DOWN_BLOCKS, 4);  // two blocks are a group
// Weights that arrive are in the way of what blocks tell each other: so few are on their way at
// once, and where they were the slower for it on an H200 (benchmarks/decoder/NOTES.md), stages that
// end among some units are asked for only when something has been heard.
constexpr int MAX_STAGES = 2;
constexpr int ended(int first, int n) { return (first + n) / STAGE_UNITS - first / STAGE_UNITS; }
constexpr int later(bool is_better, int n_ended) { return is_better && n_ended ? 1 : 0; }
constexpr int OUT_LATER = later(BITS == 8, ended(OUT_UNIT, 1));
constexpr int FFN_LATER = later(BITS < 16, ended(FFN_UNIT, FFN_BEFORE));
constexpr int DOWN_LATER = later(BITS == 8 && DOWN_CHUNK == DOWN_BLOCKS, 1);
constexpr int POLL_AFTER = BITS == 16 ? 1200 : 250;  // clocks before polling behind down
constexpr int GROUP = 128;                           // inputs that share a scale in 4 bits
constexpr int X_GROUPS = BITS == 4 ? WIDTH / GROUP : 1;
constexpr int DOWN_GROUPS = BITS == 4 ? FFN * C / GROUP : 1;
constexpr int GROUP_BLOCKS = BITS == 4 ? GROUP / 64 : DOWN_BLOCKS;
// Codes are multiplied by rows of integers of 16 bits, in two planes of bytes. So many of them
// share a scale: of the stream and of a head 64, of what goes into down:
constexpr int H_BLOCK = FFN % 64 ? 32 : 64;
constexpr int H_PARTS = BITS == 16 ? 1 : 64 / H_BLOCK;  // of a unit, with a scale each
constexpr int N_QKV = QKV_TILES * 16, N_FFN = FFN_TILES * 16;

// What a layer's small numbers are, per block, float32; gains of the stream two to a word.
constexpr int NEXT_GAIN = 0, FFN_GAIN = COLUMNS / 2, QK_GAIN = COLUMNS;
constexpr int QKV_SCALE = QK_GAIN + (QK_NORM ? 2 * HEAD : 0);
constexpr int OUT_SCALE = QKV_SCALE + (BITS < 16 ? N_QKV * X_GROUPS : 0);
constexpr int FFN_SCALE = OUT_SCALE + (BITS < 16 ? COLUMNS : 0);
constexpr int DOWN_SCALE = FFN_SCALE + (BITS < 16 ? N_FFN * X_GROUPS : 0);
constexpr int N_NUMBERS = DOWN_SCALE + (BITS < 16 ? COLUMNS * DOWN_GROUPS : 0);

constexpr int ROW_WARPS = WARPS / ROWS, AHEAD = 3;  // warps of a row's attention, steps in flight
constexpr int PART = HEAD + 2, OWN_PART_ROW = ROW_WARPS * PART, RANK_PART = HEAD + 4;
// Bytes from a row, or a plane of one, to the next: 16 lanes read four of them without conflicts.
constexpr int stride(int n) { return BITS == 16 ? 2 * n + 16 : n % 128 ? n : n + 64; }
constexpr int PLANES = BITS == 16 ? 1 : 2;
constexpr int X_STRIDE = stride(WIDTH), Y_STRIDE = stride(HEAD), H_STRIDE = stride(FFN * C);

constexpr int align(int n) { return (n + 127) / 128 * 128; }
// Where things lie in shared memory. What is done with before another is begun shares its place.
constexpr int NUMBERS_AT = 0;
constexpr int X_AT = align(NUMBERS_AT + 2 * N_NUMBERS * 4);
constexpr int SQUARES_AT = align(X_AT + ROWS * PLANES * X_STRIDE);
constexpr int N_SQUARES = WIDTH / 32, SQUARES_STRIDE = N_SQUARES + 16;  // of a row
constexpr int X_SCALES_AT = align(SQUARES_AT + ROWS * SQUARES_STRIDE * 4);
constexpr int X_SCALES_STRIDE = X_BLOCKS + 4;
constexpr int STAGE_AT = align(X_SCALES_AT + ROWS * X_SCALES_STRIDE * 4);  // of what a warp tells
constexpr int LARGEST_AT = align(STAGE_AT + WARPS * 128);
constexpr int QKV_AT = align(LARGEST_AT + WARPS * 4);
constexpr int HEAD_SQUARES_AT = align(QKV_AT + ROWS * 3 * HEAD * 4);  // [row][query, key][rank][2]
constexpr int PARTS_AT = align(HEAD_SQUARES_AT + ROWS * 4 * C * 4), H_AT = PARTS_AT;
constexpr int PARTS_SIZE = ROWS * C * RANK_PART * 4, H_SIZE = ROWS * PLANES * H_STRIDE;
constexpr int Y_AT = align(PARTS_AT + (PARTS_SIZE > H_SIZE ? PARTS_SIZE : H_SIZE));
constexpr int Y_SCALES_AT = Y_AT + ROWS * PLANES * Y_STRIDE;
constexpr int H_SCALES_AT = align(Y_SCALES_AT + ROWS * 4);
constexpr int H_SCALES_STRIDE = FFN * C / H_BLOCK + 4;
constexpr int H_FLOATS_AT = align(H_SCALES_AT + ROWS * H_SCALES_STRIDE * 4);
constexpr int H_FLOATS_SIZE = BITS == 16 ? 0 : ROWS * FFN * 4;
constexpr int SUMS_AT = align(H_FLOATS_AT + H_FLOATS_SIZE), OWN_PARTS_AT = SUMS_AT;
// Of a warp; so many more that the threads that add them meet no conflicts of banks.
constexpr int N_SUMS =
    (N_QKV > N_FFN ? N_QKV : N_FFN) * ROWS + (BITS == 16 ? 16 : 32 / K_WARPS) / ROWS;
constexpr int SUMS_SIZE = K_WARPS * N_SUMS * 4, OWN_PARTS_SIZE = ROWS * OWN_PART_ROW * 4;
constexpr int X_BAR = align(SUMS_AT + (SUMS_SIZE > OWN_PARTS_SIZE ? SUMS_SIZE : OWN_PARTS_SIZE));
constexpr int QKV_BAR = X_BAR + 8, PARTS_BAR = QKV_BAR + 8, H_BAR = PARTS_BAR + 8;
constexpr int SQUARES_BAR = H_BAR + 8;
constexpr int NUMBERS_FULL = SQUARES_BAR + 8, FULL = NUMBERS_FULL + 16;
constexpr int RING_AT = align(FULL + 8 * WARPS * MAX_STAGES);
constexpr int FIT = (227 * 1024 - RING_AT) / (WARPS * STAGE_BYTES);  // whatever room is left
constexpr int N_STAGES = FIT < MAX_STAGES ? FIT : MAX_STAGES, RING_BYTES = N_STAGES * STAGE_BYTES;
constexpr int SHARED_BYTES = RING_AT + WARPS * RING_BYTES;

constexpr int X_BYTES = ROWS * (WIDTH * 2 + (BITS == 16 ? 0 : X_BLOCKS) * 4);
constexpr int SQUARES_BYTES = ROWS * N_SQUARES * 4;
constexpr int QKV_BYTES = ROWS * (3 * HEAD + (QK_NORM ? 4 * C : 0)) * 4;
constexpr int PARTS_BYTES = ROWS * C * PART * 4;
constexpr int H_BYTES = ROWS * FFN * C * 2 + (BITS == 16 ? 0 : ROWS * (FFN * C / H_BLOCK) * 4);

static_assert(ROWS == 1 || ROWS == 2, "rows");
static_assert(X_BLOCKS <= WARPS && WARPS % X_BLOCKS == 0 && WIDTH % 64 == 0, "width");
static_assert(COLUMNS % 64 == 0 && COLUMNS * ROWS <= 32 * WARPS && WIDTH <= 1024, "columns");
static_assert(C == 4 && FFN % 16 == 0, "tiles");
static_assert(UNITS % STAGE_UNITS == 0 && N_CLUSTERS % 2 == 0 && K_WARPS % 2 == 0, "stages");
static_assert(OUT_TILES <= WARPS && N_STAGES >= 2, "room");
static_assert(BITS != 4 || FFN * C % GROUP == 0, "groups");
static_assert(BITS == 16 || FFN % 32 == 0, "blocks");
static_assert(DOWN_BLOCKS % DOWN_CHUNK == 0, "chunks");

extern "C" __device__ const int LAYOUT[] = {SHARED_BYTES, UNITS, UNIT_BYTES, N_NUMBERS};
