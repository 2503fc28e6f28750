// The element types, T in memory and A in arithmetic, chosen by one -DSTORAGE_... flag; and the index
// type, chosen by -DINDEX: int where all arrays have fewer than 2^30 elements.
//
// This file is prepended to every .cu file in the folder. It includes no header, so that kernels
// compile wherever there is NVRTC; only the half-precision conversions differ off the GPU.

#ifndef INDEX
#define INDEX long long
#endif
typedef INDEX index_t;

struct float16_t { unsigned short bits; };
struct bfloat16_t { unsigned short bits; };

#ifdef __CUDACC_RTC__

__device__ __forceinline__ float widen(float16_t x) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
    return wide;
}
__device__ __forceinline__ float16_t narrow16(float x) {
    float16_t y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
__device__ __forceinline__ unsigned bits_of(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float float_of(unsigned x) { return __uint_as_float(x); }

#else  // off the GPU: what the tests' stand-in for the compiler defines

__device__ __forceinline__ float widen(float16_t x) { return widen_half(x.bits); }
__device__ __forceinline__ float16_t narrow16(float x) { return float16_t{narrow_half(x)}; }

#endif

// A bfloat16 is the upper half of a float; round to nearest, ties to even; a NaN stays a NaN.
__device__ __forceinline__ float widen(bfloat16_t x) { return float_of((unsigned)x.bits << 16); }
__device__ __forceinline__ bfloat16_t narrow_bf16(float x) {
    bfloat16_t y;
    const unsigned u = bits_of(x);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    y.bits = nan ? (unsigned short)((u >> 16) | 0x40u)
                 : (unsigned short)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    return y;
}

#if defined(STORAGE_float64)
typedef double T;
typedef double A;
__device__ __forceinline__ A load(T x) { return x; }
__device__ __forceinline__ T store(A x) { return x; }
#elif defined(STORAGE_float16)
typedef float16_t T;
typedef float A;
__device__ __forceinline__ A load(T x) { return widen(x); }
__device__ __forceinline__ T store(A x) { return narrow16(x); }
#elif defined(STORAGE_bfloat16)
typedef bfloat16_t T;
typedef float A;
__device__ __forceinline__ A load(T x) { return widen(x); }
__device__ __forceinline__ T store(A x) { return narrow_bf16(x); }
#else
typedef float T;
typedef float A;
__device__ __forceinline__ A load(T x) { return x; }
__device__ __forceinline__ T store(A x) { return x; }
#endif

// V elements, loaded or stored at once; the address must be a multiple of their total size.
template <int V>
struct alignas(V * sizeof(T)) Pack {
    T v[V];
};
#define WIDE (16 / (int)sizeof(T))

// 16 bytes of shared memory.
struct alignas(16) Chunk {
    unsigned w[4];
};

// A grid-stride loop: visits every index below n once, whatever the launch shape.
#define EACH(i, n)                                                        \
    for (index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); \
         i += (index_t)gridDim.x * blockDim.x)
