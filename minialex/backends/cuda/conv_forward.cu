// Convolution as one product whose left matrix is never stored (implicit GEMM), with bias and ReLU:
//
//   y[m, k] = max(0, b[k] + sum over l of x[m, l] W[l, k])      m = (n, p, q), l = (r, s, c)
//
//        W: l = (r, s, c) x k                   a block: 128 pixels of y x TILE_N channels of a group
//           +--+--+--+                          (see tensor.cuh). x is gathered pixel by pixel; C is
//           |  |##|  |                          innermost, so a chunk of 16 bytes is one copy where
//   x: m x l|  |##|  |                          the group's channels allow it
//   +-----+ +--+--+--+
//   |#####|    |##|      2 N P Q K R S C/G operations. x is read about once from device memory, and
//   +-----+ y: +--+      R S / stride^2 times from the L2 cache for each column of blocks; W is read
//   |     |              from the L2 cache once for each row of blocks. y is written once.
//   +-----+
//
// float16 and bfloat16 are summed in float32; float32 is rounded to tf32.
// Tested against Backend.convolution.

#if TENSOR_CORES

// The windows of 128 pixels of y as a tile along l.
struct Windows {
    static constexpr bool ALONG = true;
    const T* x;
    Sizes o;
    int r, s, c;  // where this thread's chunk begins
    int h[4], w[4];  // top left corners of the windows of its four rows
    index_t at[4];   // and their offsets in x

    __device__ Windows(const T* x, const Sizes& o, const Tile& tile) : x(x), o(o) {
        const int l = threadIdx.x % 4 * PER_CHUNK;
        c = l % o.cx, s = l / o.cx % o.S, r = l / o.cx / o.S;
        const index_t pixels = (index_t)o.N * o.P * o.Q;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const index_t m = tile.row + threadIdx.x / 4 + i * 32;
            const int q = (int)(m % o.Q), p = (int)(m / o.Q % o.P);
            const index_t n = m / ((index_t)o.P * o.Q);
            h[i] = m < pixels ? p * o.stride_h - o.top : -(1 << 29);
            w[i] = q * o.stride_w - o.left;
            at[i] = m < pixels ? ((n * o.H + h[i]) * o.W + w[i]) * o.C + tile.group * o.cx : 0;
        }
    }

    __device__ void advance(int numbers) {
        c += numbers;
        while (c >= o.cx) {
            c -= o.cx;
            if (++s == o.S) s = 0, ++r;
        }
    }

    __device__ void fetch(Chunk* tile) {
        const int chunk = threadIdx.x % 4;
#pragma unroll PIECES_AT_ONCE
        for (int piece = 0; piece < PIECES; ++piece) {
            const index_t step = ((index_t)r * o.W + s) * o.C + c;
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const bool there = r < o.R && (unsigned)(h[i] + r) < (unsigned)o.H &&
                                   (unsigned)(w[i] + s) < (unsigned)o.W;
                char* to = (char*)(tile + along(threadIdx.x / 4 + i * 32, chunk));
                copy_later<VECTOR * sizeof(T)>(to + piece * VECTOR * sizeof(T), x + at[i] + step,
                                               there);
            }
            advance(VECTOR);
        }
        advance(DEPTH - PER_CHUNK);
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    conv_forward(const T* __restrict__ x, const T* __restrict__ weight, const A* __restrict__ bias,
                 T* __restrict__ y, Sizes o, int relu) {
    const index_t pixels = (index_t)o.N * o.P * o.Q;
    const Tile tile = tile_of((o.kg + TILE_N - 1) / TILE_N, o.groups, (pixels + TILE_M - 1) / TILE_M);
    const int length = o.R * o.S * o.cx, first = tile.group * o.kg + tile.column;
    Windows left(x, o, tile);
    Rows right = {weight + first, 0, length, o.K, o.kg - tile.column, o.cg, o.cx};
    Sums sums;
    multiply_tiles(sums, left, right, (length + DEPTH - 1) / DEPTH);
    each_pair(sums, [=](int row, int column, float v0, float v1) {
        const index_t m = tile.row + row;
        const int k = tile.column + column;
        if (m >= pixels || k >= o.kg) return;
        T* out = y + m * o.K + first + column;
        if (bias) {
            v0 += bias[first + column];
            if (k + 1 < o.kg) v1 += bias[first + column + 1];
        }
        if (relu) v0 = v0 < 0 ? 0 : v0, v1 = v1 < 0 ? 0 : v1;
        store_pair(out, v0, v1, k + 1 < o.kg);
    });
}

#endif
