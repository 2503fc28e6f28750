// The gradient of a convolution's weights as one product (implicit GEMM):
//
//   dW[l, k] = sum over m of x[m, l] dy[m, k]      m = (n, p, q), l = (r, s, c)
//
//        dy: m x k                              a block: 128 rows l x TILE_N channels of a group, over
//           +--+--+--+                          one part of the pixels m (see tensor.cuh; both tiles
//           |  |##|  |  part 0                  run across m)
//   x: l x m|  |##|  |
//   +-----+ +--+--+--+                          dW is small and m is long, so m is cut into parts to
//   |#####| |  |  |  |  part 1 ...              make enough blocks for the card (split-K). Each part
//   +-----+ +--+--+--+                          writes its own sums; part_totals adds them in order.
//   |     |                                     The parts depend on the shape alone: the same bits
//   +-----+                                     each time, on every card.
//
// With `bias`, x gets one more row l, all ones, and dW's last row is the gradient of the bias; the row
// of ones replaces a row of zeros in the last tile.
//
// 2 N P Q K R S C/G operations; reads x and dy about once from device memory for each column (row) of
// tiles, writes parts * R S C/G K floats and reads them again. Sums and dW are float32.
// Tested against Backend.convolution_weight_gradient.

#if TENSOR_CORES

// The chunk at the start of the row of ones: a 1 and zeros, as T of 16 bits.
#if defined(STORAGE_float16)
__device__ const Chunk ONE = {{0x3c00u, 0, 0, 0}};
#else
__device__ const Chunk ONE = {{0x3f80u, 0, 0, 0}};
#endif

// A tile across m: TILE_M rows l of the windows of DEPTH pixels per step.
struct WindowsAcross {
    static constexpr bool ALONG = false;
    static constexpr int ROW_CHUNKS = TILE_M / PER_CHUNK, ROWS = THREADS / ROW_CHUNKS;
    const T* x;
    Sizes o;
    index_t m, end;
    int p, q;     // of pixel m, this thread's first in a step
    index_t at;   // offset in x of its window's corner, in this group's channels
    int r, s, c;  // where its chunk begins
    bool bias;

    __device__ WindowsAcross(const T* x, const Sizes& o, const Tile& tile, index_t first, index_t end,
                             bool bias)
        : x(x),
          o(o),
          m(first + threadIdx.x / ROW_CHUNKS),
          end(end),
          bias(bias) {
        q = (int)(m % o.Q), p = (int)(m / o.Q % o.P);
        const index_t row = m / ((index_t)o.P * o.Q) * o.H + p * o.stride_h - o.top;
        at = (row * o.W + q * o.stride_w - o.left) * o.C + tile.group * o.cx;
        const int l = (int)tile.row + threadIdx.x % ROW_CHUNKS * PER_CHUNK;
        c = l % o.cx, s = l / o.cx % o.S, r = l / o.cx / o.S;
    }

    __device__ void fetch(Chunk* tile) {
#pragma unroll
        for (int i = 0; i < DEPTH / ROWS; ++i) {
            const int k = threadIdx.x / ROW_CHUNKS + i * ROWS;
            char* to = (char*)(tile + across(k, threadIdx.x % ROW_CHUNKS, TILE_M));
            const int top = p * o.stride_h - o.top, left = q * o.stride_w - o.left;
            int r1 = r, s1 = s, c1 = c;  // of the piece
#pragma unroll PIECES_AT_ONCE
            for (int piece = 0; piece < PIECES; ++piece) {
                const int h = top + r1, w = left + s1;
                bool there = m < end && r1 < o.R && (unsigned)h < (unsigned)o.H &&
                             (unsigned)w < (unsigned)o.W;
                const T* from = x + at + ((index_t)r1 * o.W + s1) * o.C + c1;
                if (bias && r1 == o.R && s1 == 0 && c1 == 0)
                    from = (const T*)&ONE, there = m < end;
                copy_later<VECTOR * sizeof(T)>(to + piece * VECTOR * sizeof(T), from, there);
                if (piece + 1 == PIECES) break;
                c1 += VECTOR;
                while (c1 >= o.cx) {
                    c1 -= o.cx;
                    if (++s1 == o.S) s1 = 0, ++r1;
                }
            }
            m += ROWS;
            q += ROWS;
            at += ROWS * o.stride_w * o.C;
            while (q >= o.Q) {
                q -= o.Q;
                at += ((index_t)o.stride_h * o.W - o.Q * o.stride_w) * o.C;
                if (++p == o.P) {
                    p = 0;
                    at += ((index_t)o.H - o.P * o.stride_h) * o.W * o.C;
                }
            }
        }
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    conv_weight_gradient(const T* __restrict__ x, const T* __restrict__ dy, A* __restrict__ sums_of,
                         Sizes o, index_t share, bool bias) {
    const index_t pixels = (index_t)o.N * o.P * o.Q;
    const int length = o.R * o.S * o.cx, rows = length + bias;
    const Tile tile = tile_of((o.kg + TILE_N - 1) / TILE_N, o.groups, (rows + TILE_M - 1) / TILE_M);
    const index_t first = tile.part * share, end = pixels - first < share ? pixels : first + share;
    const int first_k = tile.group * o.kg + tile.column;
    WindowsAcross left(x, o, tile, first, end, bias);
    Rows right = {dy + first_k, first, end, o.K, o.kg - tile.column, 1, 1};
    Sums sums;
    multiply_tiles(sums, left, right, (int)((end - first + DEPTH - 1) / DEPTH));
    A* out = sums_of + (index_t)tile.part * (o.R * o.S * o.cg + bias) * o.K;
    each_pair(sums, [=](int row, int column, float v0, float v1) {
        const int l = (int)tile.row + row, k = tile.column + column;
        const int tap = l / o.cx, c = l % o.cx;
        if (l >= rows || c >= o.cg || k >= o.kg) return;  // row `length` has tap R S and c = 0
        const index_t at = ((index_t)tap * o.cg + c) * o.K + first_k + column;
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
