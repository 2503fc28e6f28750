// Convolution with a stride of 1 and its input gradient, as products of tiles by warpgroups (wgmma.cuh)
// whose pixels are copied to shared memory once for all taps of the kernel (see tma.cuh):
//
//   out[n, h, w, k] = sum over r, s, c of in[n, h + r - top, w + s - left, c] W[r, s, c, k]
//
//     rows of pixels in shared memory, `pitch` each          Pixels are numbered along the padded rows
//      +--+--+--+--+--+--+--+                                of all images, so that an output pixel's
//      |  |  |##|##|##|##|##|  <- a tile: 256 output         inputs at tap (r, s) of the kernel are
//      +--+--+--+--+--+--+--+     pixels in their order,     those of its own number + r pitch + s:
//      |##|##|##|##|##|##|  |     some of them padding       the left matrices of all R S taps are
//      +--+--+--+--+--+--+--+                                one tile, read from different rows on.
//      |  |  |  |  |  |  |  |  <- what other taps read
//      +--+--+--+--+--+--+--+     An input gradient is the same sum over dy, with the kernel turned.
//
// The padding between two rows (images) is the right (lower) one of the first and the left (upper) one
// of the second. Each block computes tiles of 256 x TILE_N in turn: one thread starts all copies, and two
// groups of four warps multiply. Bias and ReLU, or the mask of the ReLU before, are applied to the sums.
//
// 2 N H W K R S C/G operations, and as many on padding as shifts.py says. A tile reads its pixels once for
// each 16 SLICES channels, and all weights of its columns, from the L2 cache.
// Tested against Backend.convolution and Backend.convolution_input_gradient.

#if TENSOR_CORES && defined(WARPGROUPS)

#ifndef SLICES
#define SLICES 4  // of 16 channels, multiplied in a step
#endif
#ifdef INPUT_GRADIENT
#define RIGHT_ALONG true  // W[r, s, k, c]: the sum is over its last axis
#else
#define RIGHT_ALONG false
#endif
#define MULTIPLIERS 256                  // threads
#define ALL_THREADS (MULTIPLIERS + 32)   // and one more warp, which copies
#define PIXELS 256                       // of a tile
#define PIXEL_BYTES 128                  // in shared memory: 64 channels, of which 16 SLICES are read
#define CHANNELS (16 * SLICES)
#define WEIGHT_STAGES 4
#define WEIGHT_BYTES (TILE_N * (RIGHT_ALONG ? PIXEL_BYTES : CHANNELS * 2))

// N images of H x W output pixels; a group has `in` channels to sum over and `out` output channels, of
// `all` in memory. An image has `rows` padded rows of `pitch` pixels; a tile's pixels are within `height`
// rows. They take `bytes` of shared memory.
struct Shifts {
    int N, H, W, R, S, top, left, groups, in, out, all, pitch, rows, height, bytes;
};

struct Work {
    index_t pixel;  // the tile's first
    int group, column;
};
__device__ __forceinline__ Work work_of(index_t tile, const Shifts& o) {
    const int columns = (o.out + TILE_N - 1) / TILE_N;
    Work work;
    work.column = (int)(tile % columns) * TILE_N;
    tile /= columns;
    work.group = (int)(tile % o.groups);
    work.pixel = tile / o.groups * PIXELS;
    return work;
}

// Both rings of buffers in shared memory, with the barriers that end their copies and their uses.
struct Buffers {
    char *pixels, *weights;
    Barrier *pixels_there, *pixels_free, *weights_there, *weights_free;
};

// Starts all copies of the block's tiles, in the order in which they are used.
__device__ void copy_tiles(const Buffers& b, const TensorMap* in, const TensorMap* weight, const Shifts& o,
                           index_t tiles) {
    unsigned slab = 0, step = 0;  // copies so far: of pixels, and of weights
    for (index_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const Work work = work_of(tile, o);
        for (int c = 0; c < o.in; c += CHANNELS, ++slab) {
            const int buffer = slab % 2;
            wait(&b.pixels_free[buffer], (slab / 2 & 1) ^ 1);
            expect(&b.pixels_there[buffer], o.height * o.pitch * PIXEL_BYTES);
            for (int i = 0; i < o.height; ++i) {
                const index_t row = work.pixel / o.pitch + i;
                copy_box(b.pixels + buffer * o.bytes + i * o.pitch * PIXEL_BYTES, in,
                         &b.pixels_there[buffer], work.group * o.in + c, -o.left,
                         (int)(row % o.rows) - o.top, (int)(row / o.rows));
            }
            for (int tap = 0; tap < o.R * o.S; ++tap, ++step) {
                const int stage = step % WEIGHT_STAGES;
                wait(&b.weights_free[stage], (step / WEIGHT_STAGES & 1) ^ 1);
                expect(&b.weights_there[stage], WEIGHT_BYTES);
                char* to = b.weights + stage * WEIGHT_BYTES;
                if (RIGHT_ALONG) {
                    const int turned = o.R * o.S - 1 - tap;
                    copy_box(to, weight, &b.weights_there[stage], work.group * o.in + c,
                             turned * o.out + work.column);
                } else
                    for (int strip = 0; strip < TILE_N / (STRIP(TILE_N) * 8); ++strip)
                        copy_box(to + strip * CHANNELS * STRIP(TILE_N) * 16, weight,
                                 &b.weights_there[stage],
                                 work.group * o.out + work.column + strip * STRIP(TILE_N) * 8,
                                 tap * o.in + c);
            }
        }
    }
}

// A matrix in shared memory, 16 numbers of L wide: see the PTX manual's "matrix descriptor". Its first row
// may be any of the 8 in which the swizzle repeats, which follows the address.
__device__ __forceinline__ Descriptor pixels_at(const char* start) {
    const Descriptor stride = 8 * PIXEL_BYTES / 16, swizzle = 1;
    return shared_address((const Chunk*)start) / 16 | (Descriptor)1 << 16 | stride << 32 | swizzle << 62;
}
__device__ __forceinline__ Descriptor weights_at(const char* start, int slice) {
    if (RIGHT_ALONG) return pixels_at(start + slice * 32);
    const int strip = STRIP(TILE_N);
    const Descriptor from = shared_address((const Chunk*)start) / 16 + slice * 16 * strip;
    const Descriptor leading = CHANNELS * strip, stride = 8 * strip, swizzle = strip == 8 ? 1 : 2;
    return from | leading << 16 | stride << 32 | swizzle << 62;
}

// Tells that this warp has read a buffer.
__device__ __forceinline__ void leave(Barrier* barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) arrive(barrier);
}

extern "C" __global__ void __launch_bounds__(ALL_THREADS, 1)
    conv_tma(const __grid_constant__ TensorMap in, const __grid_constant__ TensorMap weight,
             const A* __restrict__ bias, const T* __restrict__ mask, T* __restrict__ out, Shifts o, int relu,
             index_t tiles) {
    __shared__ Barrier barriers[4 + 2 * WEIGHT_STAGES];
    char* start = (char*)(shared_tiles + (64 - shared_address(shared_tiles) / 16 % 64) % 64);
    const Buffers b = {start,        start + 2 * o.bytes, barriers, barriers + 2,
                       barriers + 4, barriers + 4 + WEIGHT_STAGES};
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; ++i) {
            start_barrier(&b.pixels_there[i], 1);
            start_barrier(&b.pixels_free[i], MULTIPLIERS / 32);
        }
        for (int i = 0; i < WEIGHT_STAGES; ++i) {
            start_barrier(&b.weights_there[i], 1);
            start_barrier(&b.weights_free[i], MULTIPLIERS / 32);
        }
        show_copies();
    }
    __syncthreads();
    if (threadIdx.x >= MULTIPLIERS) {
        if (threadIdx.x == MULTIPLIERS) copy_tiles(b, &in, &weight, o, tiles);
        return;
    }
    const int lane = threadIdx.x % 32;
    unsigned slab = 0, step = 0;
    for (index_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const Work work = work_of(tile, o);
        const int first = (int)(work.pixel % o.pitch) + threadIdx.x / 128 * 128;
        Sums sums;
        clear(sums);
        bool last = false;  // whether the previous step was the last of its pixels
        for (int c = 0; c < o.in; c += CHANNELS, ++slab) {
            wait(&b.pixels_there[slab % 2], slab / 2 & 1);
            for (int tap = 0; tap < o.R * o.S; ++tap, ++step) {
                const int stage = step % WEIGHT_STAGES, shift = tap / o.S * o.pitch + tap % o.S;
                const char* pixels = b.pixels + slab % 2 * o.bytes + (first + shift) * PIXEL_BYTES;
                wait(&b.weights_there[stage], step / WEIGHT_STAGES & 1);
                open_products();
#pragma unroll
                for (int slice = 0; slice < SLICES; ++slice) {
                    const Descriptor right = weights_at(b.weights + stage * WEIGHT_BYTES, slice);
#pragma unroll
                    for (int half = 0; half < HALVES; ++half)
                        multiply_later<true, RIGHT_ALONG>(
                            sums.v[half], pixels_at(pixels + half * 64 * PIXEL_BYTES + slice * 32), right);
                }
                close_products();
                wait_products<1>();  // those of the previous step
                if (c + tap > 0) leave(&b.weights_free[(step - 1) % WEIGHT_STAGES]);
                if (last) leave(&b.pixels_free[(slab - 1) % 2]);
                last = tap + 1 == o.R * o.S;
            }
        }
        wait_products<0>();
        leave(&b.weights_free[(step - 1) % WEIGHT_STAGES]);
        leave(&b.pixels_free[(slab - 1) % 2]);
#pragma unroll
        for (int half = 0; half < HALVES; ++half)
#pragma unroll
            for (int n = 0; n < N_TILES; ++n)
#pragma unroll
                for (int i = 0; i < 4; ++i) settle(sums.v[half][n][i]);
#pragma unroll
        for (int i = 0; i < 2 * HALVES; ++i) {
            const index_t pixel = work.pixel + threadIdx.x / 32 * 16 + threadIdx.x / 128 * 64 + i / 2 * 64 +
                                  i % 2 * 8 + lane / 4;
            const index_t row = pixel / o.pitch, n = row / o.rows;
            const int w = (int)(pixel % o.pitch), h = (int)(row % o.rows);
            if (w >= o.W || h >= o.H || n >= o.N) continue;
            const index_t at = ((n * o.H + h) * o.W + w) * o.all + work.group * o.out;
#pragma unroll
            for (int j = 0; j < N_TILES; ++j) {
                const int k = work.column + j * 8 + lane % 4 * 2;  // even, as `out` is
                if (k >= o.out) break;
                float v0 = sums.v[i / 2][j][i % 2 * 2], v1 = sums.v[i / 2][j][i % 2 * 2 + 1];
                if (bias) v0 += bias[work.group * o.out + k], v1 += bias[work.group * o.out + k + 1];
                if (relu) v0 = v0 < 0 ? 0 : v0, v1 = v1 < 0 ? 0 : v1;
                if (mask) {
                    if (!(load(mask[at + k]) > 0)) v0 *= 0;  // a NaN stays a NaN
                    if (!(load(mask[at + k + 1]) > 0)) v1 *= 0;
                }
                store_pair(out + at + k, v0, v1, true);
            }
        }
    }
}

#endif
