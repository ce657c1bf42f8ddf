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
// As rows are multiplied: by codes as float16, whose bits hold any of them beside those of 1,024.
__device__ __forceinline__ u32 pack_rows(float low, float high) {
    if constexpr (BITS == 16) return pack(low, high);
    u32 word;
    asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
__device__ __forceinline__ float low(u32 word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float high(u32 word) { return __uint_as_float(word & 0xffff0000u); }

__device__ __forceinline__ float exp2_(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
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
__device__ __forceinline__ void meet() {
    asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory");
}

// Global memory that other blocks write

__device__ __forceinline__ u32 peek(const u32* p) {
    u32 v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
template <int N>
__device__ __forceinline__ void look(u32 (&v)[N], const u32* p, bool is_wanted) {
    if constexpr (N == 2)
        asm volatile(
            "{ .reg .pred p; setp.ne.u32 p, %3, 0;"
            " @p ld.relaxed.gpu.global.v2.u32 {%0,%1}, [%2]; }"
            : "+r"(v[0]), "+r"(v[1])
            : "l"(p), "r"((u32)is_wanted)
            : "memory");
    else
        asm volatile(
            "{ .reg .pred p; setp.ne.u32 p, %2, 0; @p ld.relaxed.gpu.global.u32 %0, [%1]; }"
            : "+r"(v[0])
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
