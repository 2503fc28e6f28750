// Products of tiles by a warpgroup, four warps at a time (wgmma), for 16-bit numbers on compute
// capability 9.0: see tensor.cuh. Compiled with -DWARPGROUPS, for the architecture sm_90a.
//
//                 N: TILE_N numbers
//               +-------------------+     The tensor cores read both tiles from shared memory, 16 of
//      M: 128   |  warp 0: 16 rows  |     DEPTH at a time, while the threads start copying the tiles
//      numbers, |  warp 1           |     for two steps later. Of the four stages, two are being
//      half 0   |  warp 2           |     copied, one is multiplied, and one may still be read by the
//               |  warp 3           |     products of the previous step.
//               +-------------------+
//      half 1   |  warp 0, ...      |     A step reads (64 + TILE_N) * 64 bytes of shared memory for
//               +-------------------+     each half, for 64 * TILE_N * DEPTH multiply-adds.
//
// The layouts are those that the instruction requires (PTX manual, "wgmma: matrix layout"): rows of 64
// bytes along L, swizzled within 512 bytes; across L, strips of 64 columns (32 where 64 does not divide
// TILE_N), the DEPTH rows of a strip together, swizzled within 8 rows. 48 columns can run along L only.

#if TENSOR_CORES && defined(WARPGROUPS)

#define STAGES 4
#define AHEAD 2                  // steps between the start of a copy and its use
#define HALVES 2                 // of 64 rows
#define N_TILES (TILE_N / 8)     // of 8 columns
#define LEFT_CHUNKS (TILE_M * 4)
#define STAGE_CHUNKS (LEFT_CHUNKS + TILE_N * 4)
#define STRIP(columns) ((columns) % 64 ? 4 : 8)  // chunks of a strip of columns

struct Sums {
    float v[HALVES][N_TILES][4];
};
typedef unsigned long long Descriptor;

extern __shared__ Chunk shared_tiles[];  // STAGES stages, and space to align the first

__device__ __forceinline__ int across(int k, int chunk, int columns) {
    const int strip = STRIP(columns), swizzle = strip == 8 ? k & 7 : k >> 1 & 3;
    return (chunk / strip * DEPTH + k) * strip + (chunk % strip ^ swizzle);
}

// ---------------------------------------------------------------- tensor core instructions

#ifdef __CUDACC_RTC__

// Makes what this thread copied visible to the tensor cores, after a barrier.
__device__ __forceinline__ void show_copies() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// Opens a group of products, which close_products ends.
__device__ __forceinline__ void open_products() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void close_products() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most LEFT groups of products are in flight.
template <int LEFT>
__device__ __forceinline__ void wait_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

// Keeps the compiler from reading a sum before the preceding wait.
__device__ __forceinline__ void settle(float& sum) { asm volatile("" : "+f"(sum)::"memory"); }

#if defined(STORAGE_float16)
#define NUMBERS "f32.f16.f16"
#else
#define NUMBERS "f32.bf16.bf16"
#endif
#define FOUR(j) "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
#define EIGHT_TILES(j)                                                                         \
    FOUR(j), FOUR(j + 1), FOUR(j + 2), FOUR(j + 3), FOUR(j + 4), FOUR(j + 5), FOUR(j + 6), \
        FOUR(j + 7)
#define NAMES_24                                                                         \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
    "%18, %19, %20, %21, %22, %23"
#define NAMES_32 NAMES_24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES_48 \
    NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define NAMES_64 \
    NAMES_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define PRODUCT(shape, names, left, right, transposed, ...)                                   \
    asm volatile("{ .reg .pred add; setp.eq.u32 add, 0, 0; "                                  \
                 "wgmma.mma_async.sync.aligned." shape "." NUMBERS " {" names "}, " left ", " \
                 right ", add, 1, 1, " transposed "; }"                                       \
                 : __VA_ARGS__                                                                \
                 : "l"(a), "l"(b), "n"(LEFT_ALONG ? 0 : 1), "n"(RIGHT_ALONG ? 0 : 1))

// Starts sums += a b for 64 x TILE_N outputs over 16 of L; each_pair has the layout of the sums.
template <bool LEFT_ALONG, bool RIGHT_ALONG>
__device__ __forceinline__ void multiply_later(float (&c)[N_TILES][4], Descriptor a, Descriptor b) {
#if TILE_N == 48
    PRODUCT("m64n48k16", NAMES_24, "%24", "%25", "%26, %27", FOUR(0), FOUR(1), FOUR(2), FOUR(3),
            FOUR(4), FOUR(5));
#elif TILE_N == 64
    PRODUCT("m64n64k16", NAMES_32, "%32", "%33", "%34, %35", EIGHT_TILES(0));
#elif TILE_N == 96
    PRODUCT("m64n96k16", NAMES_48, "%48", "%49", "%50, %51", EIGHT_TILES(0), FOUR(8), FOUR(9),
            FOUR(10), FOUR(11));
#else
    PRODUCT("m64n128k16", NAMES_64, "%64", "%65", "%66, %67", EIGHT_TILES(0), EIGHT_TILES(8));
#endif
}

#else  // off the GPU: products read their tiles when they start and again when they are waited for

__device__ unsigned shared_address(const Chunk* p) { return (unsigned)(p - shared_tiles) * 16; }

struct Product {
    float (*sums)[4];
    Descriptor a, b;
    bool along[2];
    float started[N_TILES][4];
};
static std::vector<std::vector<Product>> products_of[1024];  // groups, last one open

// A matrix in shared memory, laid out as its descriptor says.
struct Matrix {
    int start, leading, stride, bits;  // the swizzle repeats every 2^bits bytes
    bool along;

    Matrix(Descriptor d, bool along)
        : start((int)(d & 0x3fff) * 16),
          leading((int)(d >> 16 & 0x3fff) * 16),
          stride((int)(d >> 32 & 0x3fff) * 16),
          bits(d >> 62 == 1 ? 7 : 6),
          along(along) {}

    float at(int i, int k) const {
        int offset = start;
        if (along) offset += ((i & 7) << bits) + (i >> 3) * stride + k * 2;
        else {
            offset += (i * 2 & ((1 << bits) - 1)) + (i * 2 >> bits) * leading;
            offset += ((k & 7) << bits) + (k >> 3) * stride;
        }
        offset ^= (offset >> 7 & ((1 << (bits - 4)) - 1)) << 4;
        T number;
        memcpy(&number, (const char*)shared_tiles + offset, sizeof number);
        return load(number);
    }
};
__device__ void product_of(const Product& p, float (&out)[N_TILES][4]) {
    const int warp = threadIdx.x / 32 % 4, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const Matrix a(p.a, p.along[0]), b(p.b, p.along[1]);
    float left[2][16], right[2][16];
    for (int j = 0; j < 2; ++j)
        for (int k = 0; k < 16; ++k) left[j][k] = a.at(16 * warp + g + 8 * j, k);
    for (int n = 0; n < N_TILES; ++n) {
        for (int j = 0; j < 2; ++j)
            for (int k = 0; k < 16; ++k) right[j][k] = b.at(8 * n + 2 * t + j, k);
        for (int j = 0; j < 4; ++j) {
            out[n][j] = 0;
            for (int k = 0; k < 16; ++k) out[n][j] += left[j / 2][k] * right[j % 2][k];
        }
    }
}

__device__ void show_copies() {}
__device__ void settle(float&) {}
__device__ void open_products() { __syncwarp(); }
__device__ void close_products() { products_of[threadIdx.x].emplace_back(); }
template <bool LEFT_ALONG, bool RIGHT_ALONG>
__device__ void multiply_later(float (&c)[N_TILES][4], Descriptor a, Descriptor b) {
    auto& groups = products_of[threadIdx.x];
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({c, a, b, {LEFT_ALONG, RIGHT_ALONG}, {}});
    product_of(groups.back().back(), groups.back().back().started);
}
template <int LEFT>
__device__ void wait_products() {
    auto& groups = products_of[threadIdx.x];
    while ((int)groups.size() > LEFT + 1) {
        for (const Product& p : groups.front()) {
            float now[N_TILES][4];
            product_of(p, now);
            for (int n = 0; n < N_TILES; ++n)
                for (int j = 0; j < 4; ++j)  // a NaN reveals a tile that was overwritten in the meantime
                    p.sums[n][j] += memcmp(&now[n][j], &p.started[n][j], 4) ? NAN : now[n][j];
        }
        groups.erase(groups.begin());
    }
    if (LEFT == 0) groups.clear();
}

#endif

// ---------------------------------------------------------------- tiles in shared memory

// The descriptor of slice `slice` (16 of DEPTH) of 64 (or TILE_N) rows or columns: its start, the
// strides to the next strip and to the next 8 rows, and the swizzle.
template <bool ALONG>
__device__ __forceinline__ Descriptor descriptor(const Chunk* tile, int columns, int slice) {
    const int strip = ALONG ? 4 : STRIP(columns);
    const Descriptor start = shared_address(tile) / 16 + (ALONG ? slice * 2 : slice * 16 * strip);
    const Descriptor leading = ALONG ? 1 : DEPTH * strip, stride = 8 * strip;
    return (start & 0x3fff) | leading << 16 | stride << 32 | (Descriptor)(strip == 8 ? 1 : 2) << 62;
}

__device__ void clear(Sums& sums) {
#pragma unroll
    for (int half = 0; half < HALVES; ++half)
#pragma unroll
        for (int n = 0; n < N_TILES; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) sums.v[half][n][i] = 0;
}

// sums = left right over `steps` steps of DEPTH. `left.fetch(tile)` and `right.fetch(tile)` start the
// copy of the next step's tile and advance.
template <class Left, class Right>
__device__ void multiply_tiles(Sums& sums, Left& left, Right& right, int steps) {
    // swizzled tiles start at multiples of 1024 bytes
    Chunk* tiles = shared_tiles + (64 - shared_address(shared_tiles) / 16 % 64) % 64;
    clear(sums);
    for (int stage = 0; stage < AHEAD; ++stage) {
        if (stage < steps) {
            left.fetch(tiles + stage * STAGE_CHUNKS);
            right.fetch(tiles + stage * STAGE_CHUNKS + LEFT_CHUNKS);
        }
        commit_copies();
    }
    for (int step = 0; step < steps; ++step) {
        wait_copies<AHEAD - 1>();
        show_copies();
        __syncthreads();  // this step's tiles have arrived; all are done with those of two steps before
        const Chunk* tile = tiles + step % STAGES * STAGE_CHUNKS;
        open_products();
#pragma unroll
        for (int slice = 0; slice < 2; ++slice) {
            const Descriptor b = descriptor<Right::ALONG>(tile + LEFT_CHUNKS, TILE_N, slice);
#pragma unroll
            for (int half = 0; half < HALVES; ++half)  // 64 rows along, or a strip of 64 across
                multiply_later<Left::ALONG, Right::ALONG>(
                    sums.v[half], descriptor<Left::ALONG>(tile + half * 256, TILE_M, slice), b);
        }
        close_products();
        if (step + AHEAD < steps) {
            Chunk* next = tiles + (step + AHEAD) % STAGES * STAGE_CHUNKS;
            left.fetch(next);
            right.fetch(next + LEFT_CHUNKS);
        }
        commit_copies();
        wait_products<1>();  // those of the previous step
    }
    wait_products<0>();
#pragma unroll
    for (int half = 0; half < HALVES; ++half)
#pragma unroll
        for (int n = 0; n < N_TILES; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) settle(sums.v[half][n][i]);
}

// Calls put(row, column, value, value of column + 1) for this thread's sums; columns are even.
template <class Put>
__device__ __forceinline__ void each_pair(const Sums& sums, Put put) {
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
    for (int half = 0; half < HALVES; ++half)
#pragma unroll
        for (int eight = 0; eight < 2; ++eight)
#pragma unroll
            for (int n = 0; n < N_TILES; ++n)
                put(half * 64 + eight * 8 + row, n * 8 + lane % 4 * 2,
                    sums.v[half][n][2 * eight], sums.v[half][n][2 * eight + 1]);
}

#endif
