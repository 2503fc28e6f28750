// Products of tiles, warp by warp (mma.sync): see tensor.cuh.
//
//                 N: TILE_N numbers, two warps across (48 numbers: one across and four down)
//               +---------------+---------------+
//               |               |               |     In a step, a warp reads (64 + TILE_N/2) * 64 bytes
//      M: 128   |  warp 0       |  warp 1       |     of shared memory for 64 * TILE_N/2 * DEPTH
//      numbers, |  64 x TILE_N/2|               |     multiply-adds: m16n8k16 of 16-bit numbers,
//      two      +---------------+---------------+     m16n8k8 of 32-bit ones.
//      warps    |  warp 2       |  warp 3       |
//      down     +---------------+---------------+

#if TENSOR_CORES && !defined(WARPGROUPS)

#define STAGES 3
#define WARPS_ACROSS (TILE_N == 48 ? 1 : 2)
#define M_TILES (2 * WARPS_ACROSS)            // of 16 rows, per warp
#define N_TILES (TILE_N / WARPS_ACROSS / 8)  // of 8 columns, per warp
#define LEFT_CHUNKS (TILE_M * 4)
#define PITCH(columns) ((columns) <= 64 ? 64 : 128)  // elements in a row across: a power of two
#define RIGHT_CHUNKS (PITCH(TILE_N) * 4)
#define STAGE_CHUNKS (LEFT_CHUNKS + RIGHT_CHUNKS)

struct Sums {
    float v[M_TILES][N_TILES][4];
};
struct Fragments {
    unsigned a[M_TILES][4], b[N_TILES][2];
};

// ---------------------------------------------------------------- tensor core instructions

#ifdef __CUDACC_RTC__

// Loads four 8 x 8 matrices of 16-bit elements; each lane has the address of a row of 16 bytes:
// lanes 8 i ... 8 i + 7 those of matrix i. From each, lane 4 g + t gets word t of row g, or
// (transposed) of column g.
__device__ __forceinline__ void load_matrices(unsigned (&out)[4], const Chunk* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void load_transposed(unsigned (&out)[4], const Chunk* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}

__device__ __forceinline__ unsigned to_tf32(unsigned x) {
    unsigned y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(__uint_as_float(x)));
    return y;
}

// sums += a b for 16 x 8 outputs; the plain version below shows the register layout.
__device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4],
                                             const unsigned (&b)[2]) {
#if defined(STORAGE_float16)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif defined(STORAGE_bfloat16)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

__device__ __forceinline__ void multiply_fragments(Sums& sums, Fragments& f) {
    if (sizeof(T) == 4) {
#pragma unroll
        for (int i = 0; i < M_TILES; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) f.a[i][j] = to_tf32(f.a[i][j]);
#pragma unroll
        for (int i = 0; i < N_TILES; ++i)
#pragma unroll
            for (int j = 0; j < 2; ++j) f.b[i][j] = to_tf32(f.b[i][j]);
    }
#pragma unroll
    for (int m = 0; m < M_TILES; ++m)
#pragma unroll
        for (int n = 0; n < N_TILES; ++n) multiply_add(sums.v[m][n], f.a[m], f.b[n]);
}

#else  // off the GPU: publish and published let the lanes of a warp read each other's values

__device__ void load_matrices(unsigned (&out)[4], const Chunk* row) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    publish(row);
    __syncwarp();
    for (int i = 0; i < 4; ++i) out[i] = published<const Chunk*>(8 * i + g)->w[t];
    __syncwarp();
}
__device__ void load_transposed(unsigned (&out)[4], const Chunk* row) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    publish(row);
    __syncwarp();
    for (int i = 0; i < 4; ++i) {
        unsigned short pair[2];
        for (int j = 0; j < 2; ++j)
            memcpy(&pair[j], (const char*)published<const Chunk*>(8 * i + 2 * t + j) + 2 * g, 2);
        out[i] = pair[0] | (unsigned)pair[1] << 16;
    }
    __syncwarp();
}

__device__ float number_in(unsigned word, int e) {
#if defined(STORAGE_float16)
    return widen(float16_t{(unsigned short)(word >> (16 * e))});
#elif defined(STORAGE_bfloat16)
    return widen(bfloat16_t{(unsigned short)(word >> (16 * e))});
#else  // tf32 keeps 10 bits; round to nearest, ties away from zero
    return float_of((word + 0x1000u) & ~0x1fffu);
#endif
}

// Lane 4 g + t holds, with E numbers per word:
//   of a, word i: rows g + 8 (i % 2), columns 4 E (i / 2) + E t + e;
//   of b, word i: rows 4 E i + E t + e, column g;
//   of c, number i: row g + 8 (i / 2), column 2 t + i % 2.
struct Numbers {
    float a[M_TILES][4][PER_WORD], b[N_TILES][2][PER_WORD];
};
__device__ void multiply_fragments(Sums& sums, Fragments& f) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    Numbers mine;
    for (int m = 0; m < M_TILES; ++m)
        for (int i = 0; i < 4; ++i)
            for (int e = 0; e < PER_WORD; ++e) mine.a[m][i][e] = number_in(f.a[m][i], e);
    for (int n = 0; n < N_TILES; ++n)
        for (int i = 0; i < 2; ++i)
            for (int e = 0; e < PER_WORD; ++e) mine.b[n][i][e] = number_in(f.b[n][i], e);
    publish(mine);
    __syncwarp();
    for (int tt = 0; tt < 4; ++tt) {
        const Numbers& left = published<Numbers>(4 * g + tt);
        for (int column = 0; column < 2; ++column) {
            const Numbers& right = published<Numbers>(4 * (2 * t + column) + tt);
            for (int m = 0; m < M_TILES; ++m)
                for (int n = 0; n < N_TILES; ++n)
                    for (int row = 0; row < 2; ++row)
                        for (int half = 0; half < 2; ++half)
                            for (int e = 0; e < PER_WORD; ++e)
                                sums.v[m][n][2 * row + column] +=
                                    left.a[m][2 * half + row][e] * right.b[n][half][e];
        }
    }
    __syncwarp();
}

#endif

// ---------------------------------------------------------------- tiles in shared memory

__device__ __forceinline__ int across(int k, int chunk, int columns) {
    const int swizzle = sizeof(T) == 2 ? k & 7 : (k & 3) << 1;
    return k * (PITCH(columns) / PER_CHUNK) + (chunk ^ swizzle);
}

// A 32-bit element of a tile across.
__device__ __forceinline__ unsigned word_across(const Chunk* tile, int k, int column, int columns) {
    return tile[across(k, column / 4, columns)].w[column % 4];
}

// This warp's part of slice `slice` (half of DEPTH) of both tiles.
template <bool LEFT_ALONG, bool RIGHT_ALONG>
__device__ __forceinline__ void load_fragments(Fragments& f, const Chunk* left, const Chunk* right,
                                               int slice) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int first_row = warp / WARPS_ACROSS * 16 * M_TILES;
    const int first_column = warp % WARPS_ACROSS * 8 * N_TILES;
#pragma unroll
    for (int m = 0; m < M_TILES; ++m) {
        const int row = first_row + m * 16;
        if (LEFT_ALONG) {
            load_matrices(f.a[m], left + along(row + lane % 16, 2 * slice + lane / 16));
        } else if (sizeof(T) == 2) {
            const int k = slice * 16 + lane % 8 + lane / 16 * 8;
            load_transposed(f.a[m], left + across(k, row / 8 + lane / 8 % 2, TILE_M));
        } else {
#pragma unroll
            for (int i = 0; i < 4; ++i)
                f.a[m][i] = word_across(left, slice * 8 + t + i / 2 * 4, row + g + i % 2 * 8, TILE_M);
        }
    }
#pragma unroll
    for (int pair = 0; pair < N_TILES / 2; ++pair) {
        const int column = first_column + pair * 16;
        unsigned four[4];  // both words of two neighbouring tiles
        if (RIGHT_ALONG) {
            const int row = column + lane % 8 + lane / 16 * 8;
            load_matrices(four, right + along(row, 2 * slice + lane / 8 % 2));
        } else if (sizeof(T) == 2) {
            const int k = slice * 16 + lane % 16;
            load_transposed(four, right + across(k, column / 8 + lane / 16, TILE_N));
        } else {
#pragma unroll
            for (int i = 0; i < 4; ++i)
                four[i] = word_across(right, slice * 8 + t + i % 2 * 4, column + g + i / 2 * 8,
                                      TILE_N);
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) f.b[2 * pair + i / 2][i % 2] = four[i];
    }
}

// sums = left right over `steps` steps of DEPTH. `left.fetch(tile)` and `right.fetch(tile)` start the
// copy of the next step's tile and advance.
template <class Left, class Right>
__device__ void multiply_tiles(Sums& sums, Left& left, Right& right, int steps) {
    __shared__ Chunk tiles[STAGES * STAGE_CHUNKS];
#pragma unroll
    for (int m = 0; m < M_TILES; ++m)
#pragma unroll
        for (int n = 0; n < N_TILES; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) sums.v[m][n][i] = 0;
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        if (stage < steps) {
            left.fetch(tiles + stage * STAGE_CHUNKS);
            right.fetch(tiles + stage * STAGE_CHUNKS + LEFT_CHUNKS);
        }
        commit_copies();
    }
    int reading = 0, writing = STAGES - 1;
    for (int step = 0; step < steps; ++step) {
        wait_copies<STAGES - 2>();
        __syncthreads();  // this stage has arrived, and all warps are done with the previous one
        if (step + STAGES - 1 < steps) {
            left.fetch(tiles + writing * STAGE_CHUNKS);
            right.fetch(tiles + writing * STAGE_CHUNKS + LEFT_CHUNKS);
        }
        commit_copies();
        const Chunk* tile = tiles + reading * STAGE_CHUNKS;
#pragma unroll
        for (int slice = 0; slice < 2; ++slice) {
            Fragments f;
            load_fragments<Left::ALONG, Right::ALONG>(f, tile, tile + LEFT_CHUNKS, slice);
            multiply_fragments(sums, f);
        }
        reading = reading + 1 == STAGES ? 0 : reading + 1;
        writing = writing + 1 == STAGES ? 0 : writing + 1;
    }
}

// Calls put(row, column, value, value of column + 1) for this thread's sums; columns are even.
template <class Put>
__device__ __forceinline__ void each_pair(const Sums& sums, Put put) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row = warp / WARPS_ACROSS * 16 * M_TILES + lane / 4;
    const int column = warp % WARPS_ACROSS * 8 * N_TILES + lane % 4 * 2;
#pragma unroll
    for (int m = 0; m < M_TILES; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int n = 0; n < N_TILES; ++n)
                put(row + m * 16 + half * 8, column + n * 8, sums.v[m][n][2 * half],
                    sums.v[m][n][2 * half + 1]);
}

#endif
