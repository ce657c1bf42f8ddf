// Bits, and what a block and a cluster share.
#pragma once
#include "shape.cuh"

__device__ __forceinline__ u32 lane_id() {
    u32 i;
    asm("mov.u32 %0, %%laneid;" : "=r"(i));
    return i;
}
__device__ __forceinline__ u32 bits(float x) { return __float_as_uint(x); }

__device__ __forceinline__ u32 pack(float low, float high) {
    u32 word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
__device__ __forceinline__ float low(u32 word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float high(u32 word) { return __uint_as_float(word & 0xffff0000u); }

__device__ __forceinline__ float exp2_(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float rsqrt_(float x) {
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Shared memory

__device__ __forceinline__ uint4 load4(u32 at) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(at));
    return v;
}
__device__ __forceinline__ float load(u32 at) {
    float v;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(at));
    return v;
}
__device__ __forceinline__ float load_bfloat16(u32 at) {
    u16 v;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(at));
    return __uint_as_float((u32)v << 16);
}
__device__ __forceinline__ void store(u32 at, float v) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(at), "f"(v) : "memory");
}
__device__ __forceinline__ void store_int(u32 at, int v) {
    asm volatile("st.shared.s32 [%0], %1;" ::"r"(at), "r"(v) : "memory");
}
__device__ __forceinline__ int load_int(u32 at) {
    int v;
    asm volatile("ld.shared.s32 %0, [%1];" : "=r"(v) : "r"(at));
    return v;
}
__device__ __forceinline__ void load2(u32& a, u32& b, u32 at) {
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(a), "=r"(b) : "r"(at));
}
__device__ __forceinline__ void load2(float& a, float& b, u32 at) {
    asm volatile("ld.shared.v2.f32 {%0,%1}, [%2];" : "=f"(a), "=f"(b) : "r"(at));
}
__device__ __forceinline__ void store_byte(u32 at, u32 v) {
    asm volatile("st.shared.u8 [%0], %1;" ::"r"(at), "r"(v) : "memory");
}
__device__ __forceinline__ void store_half(u32 at, u32 v) {
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(at), "h"((u16)v) : "memory");
}
__device__ __forceinline__ void store2(u32 at, float a, float b) {
    asm volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(at), "f"(a), "f"(b) : "memory");
}
__device__ __forceinline__ u32 peer_address(u32 at, u32 rank) {
    u32 there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
    return there;
}
// Store into a block of the cluster; its barrier counts the bytes when they are there.
__device__ __forceinline__ void tell(u32 at, u32 word, u32 barrier) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(at),
        "r"(word), "r"(barrier)
        : "memory");
}
__device__ __forceinline__ void tell4(u32 at, const u32 (&w)[4], u32 barrier) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1,%2,%3,%4}, "
        "[%5];" ::"r"(at),
        "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]), "r"(barrier)
        : "memory");
}
__device__ __forceinline__ void tell2(u32 at, u32 a, u32 b, u32 barrier) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1,%2}, [%3];" ::
            "r"(at),
        "r"(a), "r"(b), "r"(barrier)
        : "memory");
}

// Integers of 16 bits

// The largest: its upper byte is no more than 127.
constexpr float LARGEST = 32500;

// Return the larger of two magnitudes; not a number if one is none, which fmaxf would drop.
__device__ __forceinline__ float largest_of_two(float x, float y) {
    return __uint_as_float(max(bits(x), bits(y)));
}
// Return the largest magnitude of a warp's numbers; not a number if one is none.
__device__ __forceinline__ float largest_of(float x) {
    return __uint_as_float(__reduce_max_sync(~0u, bits(fabsf(x))));
}
// Return what numbers up to a magnitude are multiplied by to become such integers (all become zero
// below 1e-30 and above 8e37), and what those are multiplied by to become numbers again.
__device__ __forceinline__ float to_integers(float largest) {
    return largest > 1e-30f ? LARGEST * reciprocal(largest) : 0;
}
__device__ __forceinline__ float from_integers(float largest) { return largest * (1 / LARGEST); }

// Leave one number or two as integers, upper and lower bytes apart; the lower ones have a sign too.
template <int N>
__device__ __forceinline__ void store_integers(u32 upper_at, u32 lower_at, const float (&x)[N],
                                               float by) {
    u32 upper = 0, lower = 0;
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int v = __float2int_rn(x[i] * by);
        upper |= ((u32)(v + 128) >> 8 & 255) << 8 * i, lower |= ((u32)v & 255) << 8 * i;
    }
    if constexpr (N == 1) {
        store_byte(upper_at, upper), store_byte(lower_at, lower);
    } else {
        store_half(upper_at, upper), store_half(lower_at, lower);
    }
}

// Barriers

__device__ __forceinline__ void make_barrier(u32 at, u32 n) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(n) : "memory");
}
__device__ __forceinline__ void expect(u32 at, u32 n_bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(n_bytes)
                 : "memory");
}
__device__ __forceinline__ void wait(u32 at, u32 phase) {
    asm volatile(
        "{ .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;"
        " @!p bra again; }" ::"r"(at),
        "r"(phase)
        : "memory");
}
template <int CLOCKS>
__device__ __forceinline__ void pause() {
    const long long from = clock64();
    while (CLOCKS && clock64() - from < CLOCKS) {
    }
}
// Of some warps, which say the same number.
__device__ __forceinline__ void meet_of(u32 number, u32 n_threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(n_threads) : "memory");
}
__device__ __forceinline__ void meet() {
    asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory");
}

// Global memory that other blocks write

__device__ __forceinline__ u32 peek(const u32* p) {
    u32 v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
__device__ __forceinline__ void look(u32 (&v)[2], const u32* p, bool is_wanted) {
    asm volatile(
        "{ .reg .pred p; setp.ne.u32 p, %3, 0;"
        " @p ld.relaxed.gpu.global.v2.u32 {%0,%1}, [%2]; }"
        : "+r"(v[0]), "+r"(v[1])
        : "l"(p), "r"((u32)is_wanted)
        : "memory");
}

// Copy into shared memory, past the first-level cache; the barrier counts the bytes.
__device__ __forceinline__ void copy(u32 to, const void* from, u32 n_bytes, u32 barrier) {
    u64 policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    expect(barrier, n_bytes);
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
        " [%0], [%1], %2, [%3], %4;" ::"r"(to),
        "l"(from), "r"(n_bytes), "r"(barrier), "l"(policy)
        : "memory");
}
