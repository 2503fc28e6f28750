// The gradient of a convolution's weights as one product (implicit GEMM):
//
//   dW[l, k] = sum over m of x[m, l] dy[m, k]      m = (n, p, q), l = (r, s, c)
//
//        dy: m x k                              a block: 128 rows l x TILE_N maps of one group, over
//           +--+--+--+                          one part of the pixels m (see tensor.cuh; both tiles
//           |  |##|  |  part 0                  run across m)
//   x: l x m|  |##|  |
//   +-----+ +--+--+--+                          dW is small and m long, so there are more blocks to
//   |#####| |  |  |  |  part 1 ...              make by cutting m into parts than dW into tiles. Each
//   +-----+ +--+--+--+                          part writes its own sums; part_totals adds them in
//   |     |                                     order. The parts depend on the shape alone: the same
//   +-----+                                     bits each time, on every card.
//
// 2 N P Q K R S C/G operations; reads x and dy about once from device memory for each column (row) of
// tiles, writes parts * R S C/G K floats and reads them again. Sums and dW are float32.
// Tested against Backend.convolution_weight_gradient.

#if TENSOR_CORES

// The windows of DEPTH pixels a step as a tile across m: TILE_M numbers l.
struct WindowsAcross {
    static constexpr bool ALONG = false;
    static constexpr int ROW_CHUNKS = TILE_M / PER_CHUNK, ROWS = THREADS / ROW_CHUNKS;
    const T* x;
    Place o;
    index_t m, end, n;
    int p, q;                                // of pixel m, this thread's first of a step
    int c[PIECES], r[PIECES], s[PIECES];  // of the pieces of its chunk
    int offset;

    __device__ WindowsAcross(const T* x, const Place& o, const Tile& tile, index_t first, index_t end)
        : x(x), o(o), m(first + threadIdx.x / ROW_CHUNKS), end(end), offset(tile.group * o.cx) {
        q = (int)(m % o.Q), p = (int)(m / o.Q % o.P);
        n = m / ((index_t)o.P * o.Q);
#pragma unroll
        for (int piece = 0; piece < PIECES; ++piece) {
            const int l = (int)tile.row + threadIdx.x % ROW_CHUNKS * PER_CHUNK + piece * VECTOR;
            c[piece] = l % o.cx, s[piece] = l / o.cx % o.S, r[piece] = l / o.cx / o.S;
        }
    }

    __device__ void fetch(Chunk* tile) {
#pragma unroll
        for (int i = 0; i < DEPTH / ROWS; ++i) {
            const int k = threadIdx.x / ROW_CHUNKS + i * ROWS;
            char* to = (char*)(tile + across(k, threadIdx.x % ROW_CHUNKS, TILE_M));
            const int top = p * o.stride_h - o.top, left = q * o.stride_w - o.left;
#pragma unroll
            for (int piece = 0; piece < PIECES; ++piece) {
                const int h = top + r[piece], w = left + s[piece];
                const bool there = m < end && r[piece] < o.R && (unsigned)h < (unsigned)o.H &&
                                   (unsigned)w < (unsigned)o.W;
                const index_t at = ((n * o.H + h) * o.W + w) * o.C + offset + c[piece];
                copy_later<VECTOR * sizeof(T)>(to + piece * VECTOR * sizeof(T), there ? x + at : x,
                                               there);
            }
            m += ROWS;
            q += ROWS;
            while (q >= o.Q) {
                q -= o.Q;
                if (++p == o.P) p = 0, ++n;
            }
        }
    }
};

extern "C" __global__ void __launch_bounds__(THREADS)
    conv_weight_gradient(const T* __restrict__ x, const T* __restrict__ dy, A* __restrict__ sums_of,
                         Place o, index_t share) {
    const index_t pixels = (index_t)o.N * o.P * o.Q;
    const int length = o.R * o.S * o.cx;
    const Tile tile = tile_of((o.kg + TILE_N - 1) / TILE_N, o.groups, (length + TILE_M - 1) / TILE_M);
    const index_t first = tile.part * share, end = pixels - first < share ? pixels : first + share;
    const int maps = tile.group * o.kg + tile.column;
    WindowsAcross left(x, o, tile, first, end);
    Rows right = {dy + maps, first, end, o.K, o.kg - tile.column, 1, 1};
    Sums sums;
    multiply_tiles(sums, left, right, (int)((end - first + DEPTH - 1) / DEPTH));
    A* out = sums_of + (index_t)tile.part * o.R * o.S * o.cg * o.K;
    each_pair(sums, [=](int row, int column, float v0, float v1) {
        const int l = (int)tile.row + row, k = tile.column + column;
        const int tap = l / o.cx, c = l % o.cx;
        if (l >= length || c >= o.cg || k >= o.kg) return;
        const index_t at = ((index_t)tap * o.cg + c) * o.K + maps + column;
        out[at] = v0;
        if (k + 1 < o.kg) out[at + 1] = v1;
    });
}

#endif

extern "C" __global__ void part_totals(const A* __restrict__ sums_of, A* __restrict__ dw, int parts,
                                       index_t size) {
    EACH(i, size) {
        A total = 0;
        for (int part = 0; part < parts; ++part) total += sums_of[part * size + i];
        dw[i] = total;
    }
}
