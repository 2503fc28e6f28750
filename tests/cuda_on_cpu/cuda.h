// CUDA C's vocabulary as ordinary C++: the kernels of minialex/backends/cuda run on the CPU.
//
// A block runs at a time. A kernel without barriers runs its threads one after the other, in an
// order that `seed` shuffles. A kernel with barriers runs each thread as a fiber, which gives way at
// __syncthreads, __syncwarp and shuffles; the order between barriers is shuffled too, so that a
// missing barrier changes the result. Threads that wait at different barriers, or return while
// others wait, are an error, as they would be undefined on a GPU.
//
// fibers.cpp has the definitions. It is compiled once and linked to every kernel. Each kernel is
// compiled with this header alone, which includes little, because most of a kernel's compilation
// would be the standard library otherwise.
#pragma once
#include <stdint.h>
#include <string.h>

#pragma GCC visibility push(hidden)  // each library has its own, as if all were in one file

struct dim3_t {
    unsigned x, y, z;
};
extern dim3_t threadIdx, blockIdx, blockDim, gridDim;

#define __global__ static
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __grid_constant__
#define __launch_bounds__(...)
// one array for the block that runs; launches hold Python's lock, so one runs at a time
#define __shared__ static
#define warpSize 32

#define NAN __builtin_nanf("")
#define OVERLOADED(name)                                                \
    static inline float name(float x) { return __builtin_##name##f(x); } \
    static inline double name(double x) { return __builtin_##name(x); }
OVERLOADED(exp)
OVERLOADED(log)
OVERLOADED(sqrt)
OVERLOADED(tanh)
static inline float pow(float x, float y) { return __builtin_powf(x, y); }
static inline double pow(double x, double y) { return __builtin_pow(x, y); }

static inline unsigned bits_of(float x) {
    unsigned u;
    memcpy(&u, &x, 4);
    return u;
}
static inline float float_of(unsigned u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}
// IEEE half precision by the compiler's own type
struct float16_t;
// widened by a table: without an instruction for it the conversion is a library call
extern float halves[65536];
static inline float widen_half(unsigned short bits) { return halves[bits]; }
static inline unsigned short narrow_half(float x) {
    const _Float16 h = (_Float16)x;
    unsigned short bits;
    memcpy(&bits, &h, 2);
    return bits;
}

namespace fibers {
enum State { RUNNABLE, AT_BARRIER, AT_WARP_BARRIER, AT_PHASE, DONE };

// OPAQUE: other code runs before such a function returns, so its callers may not count on which
// registers it uses.
#define OPAQUE __attribute__((noinline, noipa))
OPAQUE void give_way(State state, int line);
extern int current;
extern uint64_t exchange[1024];

// What lanes of a warp give each other: each writes, a warp barrier, each reads, a warp barrier.
enum { PUBLISHED = 1024 };
extern char published_by[1024][PUBLISHED];
template <class V>
static inline void publish(const V& value) {
    static_assert(sizeof(V) <= PUBLISHED, "too much to publish");
    memcpy(published_by[current], &value, sizeof value);
}
template <class V>
static inline const V& published(int lane) {
    return *(const V*)published_by[(current & ~31) + lane];
}

// cp.async: copies that a thread starts arrive when it waits for them, and no sooner; until then
// nobody can count on what stands there, old or new.
void queue_copy(void* to, const void* from, unsigned bytes);  // from: null for zeros
void close_copies();
void finish_copies(int left);

// mbarrier: 8 bytes in shared memory. A phase ends when all have arrived, and all expected bytes too.
void start_barrier(void* barrier, unsigned arrivals);
void arrive(void* barrier, int bytes);  // bytes: expected from then on
void wait(void* barrier, unsigned parity);

// cp.async.bulk.tensor: a box arrives at any time until its barrier's phase ends; until then nobody can
// count on what stands there. `shared`: the address of `to`, which the swizzle follows.
void queue_box(void* to, unsigned shared, const void* tensor_map, const int* at, int rank, void* barrier);

template <class V>
static inline V shuffled(V value, unsigned source, int line) {
    const unsigned me = (unsigned)current, warp = me & ~31u;
    memcpy(&exchange[me], &value, sizeof value);
    give_way(AT_WARP_BARRIER, line);
    V result;
    memcpy(&result, &exchange[warp + (source & 31)], sizeof result);
    give_way(AT_WARP_BARRIER, line);
    return result;
}

// A launch runs every block in turn, in shuffled order: a kernel with barriers a thread at a time
// through fibers, any other a block's threads one after the other by plain calls. `data` are its
// arguments; the result is 0, or why it failed.
typedef void (*Thread)(void** data);
typedef void (*Threads)(const dim3_t* thread, const dim3_t* end, void** data);
int launch(const unsigned* grid, const unsigned* block, uint64_t seed, Thread, void** data);
int launch(const unsigned* grid, const unsigned* block, uint64_t seed, Threads, void** data);
}  // namespace fibers

using fibers::close_copies;
using fibers::finish_copies;
using fibers::publish;
using fibers::published;
using fibers::queue_copy;

#define __syncthreads() fibers::give_way(fibers::AT_BARRIER, __LINE__)
#define __syncwarp(...) fibers::give_way(fibers::AT_WARP_BARRIER, __LINE__)
#define __shfl_sync(mask, v, source) fibers::shuffled(v, (unsigned)(source), __LINE__)
#define __shfl_xor_sync(mask, v, bits) \
    fibers::shuffled(v, ((unsigned)fibers::current & 31) ^ (unsigned)(bits), __LINE__)

#pragma GCC visibility pop
