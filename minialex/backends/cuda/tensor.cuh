// Products of tiles on tensor cores, for the kernels that this file is prepended to: out = left right,
// left (M, L), right (L, N), sums in float32. This file has what both ways to multiply share: copies
// to shared memory, and which tile a block computes. mma.cuh multiplies warp by warp, on every card
// from compute capability 8.0; wgmma.cuh four warps at a time, on 9.0 only.
//
//                 N: TILE_N numbers
//               +-------------------+     a block: 4 warps, 128 threads
//               |                   |
//      M: 128   |  out, in the      |     left tile    128 x DEPTH
//      numbers  |  registers of     |     right tile   DEPTH x TILE_N
//               |  the block        |     of STAGES stages each: while one is multiplied, the next
//               +-------------------+     two are being copied from device memory (cp.async)
//
// DEPTH is 64 bytes of elements: 32 of 16 bits, or 16 of 32 bits, which tensor cores read as tf32.
//
// Shared memory holds 16-byte chunks. Tiles whose rows run along L ("along") have rows of 4 chunks,
// tiles whose rows run across L ("across") have rows of up to 128 elements. Chunks are swizzled so
// that rows or columns read together fall into different banks.
//
// Each instruction that needs an NVIDIA GPU of compute capability 8.0 has its own function; beside it
// is a plain C++ version for the tests' stand-in, lane by lane as the PTX manual defines the
// instruction. The rest of this file is not compiled for older cards or for float64.

#if defined(STORAGE_float64) || (defined(__CUDACC_RTC__) && __CUDA_ARCH__ < 800)
#define TENSOR_CORES 0
#else
#define TENSOR_CORES 1
#endif

#if TENSOR_CORES

#ifndef TILE_N
#define TILE_N 128
#endif
#ifndef VECTOR
#define VECTOR 1  // elements that are contiguous and aligned wherever a thread copies from
#endif
#ifdef DIVIDES  // x has channels of zeros (conv_forward), or a stride (conv_input_gradient)
#define DIVISIONS 1
#else
#define DIVISIONS 0
#endif
#define TILE_M 128
#define THREADS 128
#define PER_CHUNK (16 / (int)sizeof(T))
#define PIECES (PER_CHUNK / VECTOR)
// eight would take too many registers; no macro, which nvcc does not replace in a pragma
enum { PIECES_AT_ONCE = PIECES > 4 ? 1 : PIECES };
#define DEPTH (64 / (int)sizeof(T))
#define PER_WORD (4 / (int)sizeof(T))

// ---------------------------------------------------------------- copies to shared memory

#ifdef __CUDACC_RTC__

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return (unsigned)__cvta_generic_to_shared(p);
}

// Starts copying BYTES bytes, or as many zeros, to shared memory; they have arrived after
// commit_copies, wait_copies and a barrier. For zeros, `from` is not read and may be any address.
template <int BYTES>
__device__ __forceinline__ void copy_later(void* to, const void* from, bool there) {
    const int size = there ? BYTES : 0;
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                     "l"(from), "r"(size)
                     : "memory");
    else if (BYTES == 8)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(to)),
                     "l"(from), "r"(size)
                     : "memory");
    else if (BYTES == 4)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)),
                     "l"(from), "r"(size)
                     : "memory");
    else
        *(unsigned short*)to = there ? *(const unsigned short*)from : (unsigned short)0;
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most LEFT of this thread's groups of copies are in flight.
template <int LEFT>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

#else  // off the GPU

template <int BYTES>
__device__ void copy_later(void* to, const void* from, bool there) {
    if (BYTES >= 4) {
        queue_copy(to, there ? from : nullptr, BYTES);
        return;
    }
    memset(to, 0, BYTES);
    if (there) memcpy(to, from, BYTES);
}
__device__ void commit_copies() { close_copies(); }
template <int LEFT>
__device__ void wait_copies() {
    finish_copies(LEFT);
}

#endif

// The chunk of a row of 64 bytes, in a tile whose rows run along L.
__device__ __forceinline__ int along(int row, int chunk) { return row * 4 + (chunk ^ (row >> 1 & 3)); }

// The chunk of row k in a tile whose rows run across L, `columns` elements each; mma.cuh and wgmma.cuh
// have different layouts.
__device__ __forceinline__ int across(int k, int chunk, int columns);

// ---------------------------------------------------------------- operands

// A convolution's sizes: N H W C in, R S kernel, N P Q K out; cg and kg are the channels of a group.
// If x is padded with channels of zeros, a group has cx channels in memory.
struct Sizes {
    int N, H, W, C, R, S, P, Q, K, stride_h, stride_w, top, left, groups, cg, kg, cx;
};

// The tile that a block computes; columns run fastest, so that neighbouring blocks share rows.
struct Tile {
    index_t row;
    int column, group, part;
};
__device__ __forceinline__ Tile tile_of(int column_tiles, int groups, index_t row_tiles) {
    index_t i = blockIdx.x;
    Tile tile;
    tile.column = (int)(i % column_tiles) * TILE_N;
    i /= column_tiles;
    tile.group = (int)(i % groups);
    i /= groups;
    tile.row = i % row_tiles * TILE_M;
    tile.part = (int)(i / row_tiles);
    return tile;
}

// Rows `first` ... `end` - 1 of a matrix with `pitch` elements per row, `columns` of them from `from`
// on, as a tile across: TILE_N columns. With cx > cg, row (tap, c < cx) is the matrix's row
// (tap, c < cg), or zeros.
#if TILE_N != 48  // whose chunks cannot be divided among the threads: it is for tiles along only
struct Rows {
    static constexpr bool ALONG = false;
    const T* from;
    index_t first, end;
    int pitch, columns, cg, cx;

    __device__ void fetch(Chunk* tile) {
        constexpr int row_chunks = TILE_N / PER_CHUNK;
        static_assert(DEPTH * row_chunks % THREADS == 0, "each thread copies as many chunks");
#pragma unroll
        for (int i = 0; i < DEPTH * row_chunks / THREADS; ++i) {
            const int j = threadIdx.x + i * THREADS;
            const int k = j / row_chunks, chunk = j % row_chunks;
            index_t row = first + k;
            bool there = row < end;
            if (DIVISIONS && cx != cg) {
                const int tap = (int)(row / cx), c = (int)(row % cx);
                there = there && c < cg;
                row = (index_t)tap * cg + c;
            }
            char* to = (char*)(tile + across(k, chunk, TILE_N));
            constexpr int width = VECTOR == 4 && sizeof(T) == 2 ? PER_CHUNK : VECTOR;
#pragma unroll
            for (int piece = 0; piece < PER_CHUNK / width; ++piece) {
                const int column = chunk * PER_CHUNK + piece * width;
                const bool here = there && column < columns;
                copy_later<width * sizeof(T)>(to + piece * width * sizeof(T),
                                              from + row * pitch + column, here);
            }
        }
        first += DEPTH;
    }
};
#endif

// Stores two neighbouring elements, in one access where the address allows it.
__device__ __forceinline__ void store_pair(T* to, float v0, float v1, bool both) {
    if (both && (unsigned long long)to % (2 * sizeof(T)) == 0) {
        Pack<2> pair;
        pair.v[0] = store(v0), pair.v[1] = store(v1);
        *reinterpret_cast<Pack<2>*>(to) = pair;
        return;
    }
    to[0] = store(v0);
    if (both) to[1] = store(v1);
}

#endif  // TENSOR_CORES
