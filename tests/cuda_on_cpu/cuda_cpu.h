// What a .cu file sees when g++ compiles it: CUDA's names, meaning what they mean on a GPU.
//
// Strict where a GPU is undefined: divergent barriers and threads that exit before a barrier end the program with a
// message, shared memory holds 0xFF bytes (NaN) until it is written, and the order of threads and blocks can be permuted.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
using std::max;
using std::min;

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __constant__ static
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
// All shared arrays of a file lie in one section, so that they can be filled before each block.
// (extern __shared__, whose size the launch gives, is rewritten to cpu::dynamic_shared() by emulated.py.)
#define __shared__ static __attribute__((section("gpu_shared")))

namespace cpu {
struct Thread { uint3 index; unsigned lane, warp; };
struct Grid { uint3 block; dim3 block_size, grid_size; };
extern Thread* thread;                              // the CUDA thread that runs now
extern Grid grid;

void sync_block(int line);                          // __syncthreads
void sync_warp(unsigned mask, int line);            // __syncwarp: orders memory among the lanes
struct Exchange { uint64_t value; unsigned ballot; };
// Every lane of mask gives (value, lane to read) and gets that lane's value (its own where that lane is not in mask) and
// one bit a lane for value != 0. As on a GPU this orders no memory.
Exchange warp_exchange(unsigned mask, uint64_t value, unsigned from, int line);
void* dynamic_shared();

inline unsigned mask_or_all(unsigned mask = 0xffffffffu) { return mask; }
inline unsigned ballot(unsigned mask, bool vote, int line) { return warp_exchange(mask, vote, 0, line).ballot; }
template <class T> T shuffle(unsigned mask, T value, unsigned from, int line) {
    static_assert(sizeof(T) <= 8, "a shuffle carries at most 8 bytes");
    uint64_t word = 0;
    std::memcpy(&word, &value, sizeof(T));
    word = warp_exchange(mask, word, from, line).value;
    std::memcpy(&value, &word, sizeof(T));
    return value;
}
template <class T, class Change> T atomically(T* address, Change change) {
    T old, changed;
    __atomic_load(address, &old, __ATOMIC_RELAXED);
    do changed = change(old);
    while (!__atomic_compare_exchange(address, &old, &changed, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}
// Calls a kernel with its arguments from void**, as cuLaunchKernel does; their types come from its signature.
template <class... A, size_t... I> void call(void (*kernel)(A...), void** values, std::index_sequence<I...>) {
    kernel(*(std::remove_reference_t<A>*)values[I]...);
}
template <class... A> void call(void (*kernel)(A...), void** values) {
    call(kernel, values, std::index_sequence_for<A...>{});
}
using Kernel = void (*)(void** values);
struct Entry { Entry(const char* name, Kernel kernel, size_t arguments); };      // registers a kernel by name
template <class... A> constexpr size_t count_arguments(void (*)(A...)) { return sizeof...(A); }
}  // namespace cpu

#define CPU_ENTRY(name) \
    static cpu::Entry entry_##name(#name, [](void** values) { cpu::call(name, values); }, cpu::count_arguments(name));

#define threadIdx (cpu::thread->index)
#define blockIdx (cpu::grid.block)
#define blockDim (cpu::grid.block_size)
#define gridDim (cpu::grid.grid_size)
#define warpSize 32
#define __syncthreads() cpu::sync_block(__LINE__)
#define __syncwarp(...) cpu::sync_warp(cpu::mask_or_all(__VA_ARGS__), __LINE__)
#define __shfl_sync(mask, value, from) cpu::shuffle((mask), (value), (unsigned)(from), __LINE__)
#define __shfl_down_sync(mask, value, d) cpu::shuffle((mask), (value), cpu::thread->lane + (unsigned)(d), __LINE__)
#define __shfl_up_sync(mask, value, d) cpu::shuffle((mask), (value), cpu::thread->lane - (unsigned)(d), __LINE__)
#define __shfl_xor_sync(mask, value, d) cpu::shuffle((mask), (value), cpu::thread->lane ^ (unsigned)(d), __LINE__)
#define __ballot_sync(mask, vote) cpu::ballot((mask), (vote), __LINE__)
#define __any_sync(mask, vote) (cpu::ballot((mask), (vote), __LINE__) != 0)
#define __all_sync(mask, vote) (cpu::ballot((mask), !(vote), __LINE__) == 0)
#define __threadfence() __atomic_thread_fence(__ATOMIC_SEQ_CST)

template <class T> T atomicAdd(T* p, T v) { return cpu::atomically(p, [=](T old) { return (T)(old + v); }); }
template <class T> T atomicMax(T* p, T v) { return cpu::atomically(p, [=](T old) { return max(old, v); }); }
template <class T> T atomicMin(T* p, T v) { return cpu::atomically(p, [=](T old) { return min(old, v); }); }
template <class T> T atomicOr(T* p, T v) { return cpu::atomically(p, [=](T old) { return (T)(old | v); }); }
template <class T> T atomicExch(T* p, T v) { return cpu::atomically(p, [=](T) { return v; }); }
template <class T> T atomicCAS(T* p, T expected, T v) {
    return cpu::atomically(p, [=](T old) { return old == expected ? v : old; });
}
template <class T> T __ldg(const T* p) { return *p; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
inline float __int_as_float(int v) { float f; std::memcpy(&f, &v, 4); return f; }
inline int __float_as_int(float v) { int i; std::memcpy(&i, &v, 4); return i; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
// Exact at multiples of a half, as on a GPU.
inline double sinpi(double v) {
    v -= 2.0 * std::rint(0.5 * v);                                              // [-1, 1], exactly
    v = v > 0.5 ? 1.0 - v : v < -0.5 ? -1.0 - v : v;
    return std::sin(3.14159265358979323846 * v);
}
inline float rsqrtf(float v) { return 1.f / std::sqrt(v); }
using std::isfinite;
using std::isnan;
