// Copies of boxes of an array to shared memory by the tensor memory accelerator (TMA), and barriers in
// shared memory (mbarrier) that tell when they have arrived: of compute capability 9.0, for conv_tma.cu.
//
// A barrier has phases, even and odd in turns. A phase ends when as many threads have arrived as
// start_barrier says and all bytes that they expect have arrived; wait(barrier, 1) returns at once
// before the first phase has ended.

#if TENSOR_CORES && defined(WARPGROUPS)

// An array and the size of its boxes: the driver's CUtensorMap, made by tensor_map.py.
struct alignas(64) TensorMap {
    unsigned long long opaque[16];
};
typedef unsigned long long Barrier;

#ifdef __CUDACC_RTC__

__device__ __forceinline__ void start_barrier(Barrier* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
                 : "memory");
}
__device__ __forceinline__ void arrive(Barrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives, and adds bytes that must arrive before the phase ends.
__device__ __forceinline__ void expect(Barrier* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}
// Waits for the end of the phase of this parity.
__device__ __forceinline__ void wait(Barrier* barrier, int parity) {
    unsigned done = 0;
    while (!done)
        asm volatile(
            "{ .reg .pred ended; mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2; "
            "selp.u32 %0, 1, 0, ended; }"
            : "=r"(done)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
}

// Starts copying the box at these coordinates, the innermost first, to shared memory; what is outside
// the array is zeros, and counts as bytes too.
__device__ __forceinline__ void copy_box(void* to, const TensorMap* array, Barrier* barrier, int x, int y) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%3, %4}], [%2];" ::"r"(shared_address(to)),
        "l"(array), "r"(shared_address(barrier)), "r"(x), "r"(y)
        : "memory");
}
__device__ __forceinline__ void copy_box(void* to, const TensorMap* array, Barrier* barrier, int x, int y,
                                         int z, int n) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(to)),
        "l"(array), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(n)
        : "memory");
}

#else  // off the GPU

__device__ void start_barrier(Barrier* barrier, int arrivals) { fibers::start_barrier(barrier, arrivals); }
__device__ void arrive(Barrier* barrier) { fibers::arrive(barrier, 0); }
__device__ void expect(Barrier* barrier, int bytes) { fibers::arrive(barrier, bytes); }
__device__ void wait(Barrier* barrier, int parity) { fibers::wait(barrier, parity); }
__device__ void copy_box(void* to, const TensorMap* array, Barrier* barrier, int x, int y) {
    const int at[] = {x, y};
    fibers::queue_box(to, shared_address((Chunk*)to), array, at, 2, barrier);
}
__device__ void copy_box(void* to, const TensorMap* array, Barrier* barrier, int x, int y, int z, int n) {
    const int at[] = {x, y, z, n};
    fibers::queue_box(to, shared_address((Chunk*)to), array, at, 4, barrier);
}

#endif

#endif
