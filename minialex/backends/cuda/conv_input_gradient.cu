// The gradient of a convolution's input as one product (implicit GEMM), masked by the ReLU before it:
//
//   dx[m, c] = sum over l of dy[m, l] W[l, c]      m = (n, h, w), l = (r, s, k)
//
// where dy[m, l] is dy at the output pixel whose window has input pixel m at its tap (r, s), if there
// is one. With `input` (the convolution's x, a ReLU's output), dx is zero wherever `input` is.
//
//        W: c x l, rows along l                 a block: 128 pixels of dx x TILE_N channels of a group
//           +-----------+                       (see tensor.cuh). K is innermost in dy and in W, so both
//           |###########|                       are copied 16 bytes at a time where the group's
//   dy: m x l           |                       channels allow it
//   +-----------+ ------+
//   |###########|  dx: +--+    2 N H W C R S K/G operations: with a stride, stride^2 times as many as
//   +-----------+      |##|    the forward pass, most of them on zeros. (The only strided layer of the
//   |           |      +--+    paper's network is the first, whose input has no gradient.)
//   +-----------+              dx is written once; dy is read about once from device memory.
//
// Each dx is one sum in a fixed order: no atomics, and no im2col matrix in memory.
// Tested against Backend.convolution_input_gradient.

#if TENSOR_CORES

// Where this thread's chunk of l begins: the same in both tiles, which run along l.
struct Tap {
    int r, s, k;
};
__device__ __forceinline__ void advance(Tap& at, const Sizes& o, int numbers) {
    at.k += numbers;
    while (at.k >= o.kg) {
        at.k -= o.kg;
        if (++at.s == o.S) at.s = 0, ++at.r;
    }
}
__device__ __forceinline__ Tap first_tap(const Sizes& o) {
    const int l = threadIdx.x % 4 * PER_CHUNK;
    return Tap{l / o.kg / o.S, l / o.kg % o.S, l % o.kg};
}

struct Outputs {
    static constexpr bool ALONG = true;
    const T* dy;
    Sizes o;
    Tap& next;
    index_t at[4];   // offset in dy of each row: of its pixel, or where it divides of its image
    int h[4], w[4];  // positions of its four pixels, counted from the corner of the padding

    __device__ Outputs(const T* dy, const Sizes& o, const Tile& tile, Tap& next)
        : dy(dy), o(o), next(next) {
        const index_t pixels = (index_t)o.N * o.H * o.W;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const index_t m = tile.row + threadIdx.x / 4 + i * 32;
            const index_t n = m / ((index_t)o.H * o.W);
            h[i] = m < pixels ? (int)(m / o.W % o.H) + o.top : -(1 << 29);
            w[i] = (int)(m % o.W) + o.left;
            at[i] = n * o.P * o.Q * o.K + tile.group * o.kg;
            if (!DIVISIONS) at[i] += ((index_t)h[i] * o.Q + w[i]) * o.K;
            if (m >= pixels) at[i] = 0;
        }
    }

    __device__ void fetch(Chunk* tile) {
        const int chunk = threadIdx.x % 4;
        Tap tap = next;
        const bool strided = DIVISIONS && (o.stride_h > 1 || o.stride_w > 1);
#pragma unroll PIECES_AT_ONCE
        for (int piece = 0; piece < PIECES; ++piece) {
            const index_t step = tap.k - ((index_t)tap.r * o.Q + tap.s) * o.K;
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                int p = h[i] - tap.r, q = w[i] - tap.s;
                bool there = tap.r < o.R && p >= 0 && q >= 0;
                if (strided && there) {
                    there = p % o.stride_h == 0 && q % o.stride_w == 0;
                    p /= o.stride_h, q /= o.stride_w;
                }
                there = there && p < o.P && q < o.Q;
                const index_t from = DIVISIONS ? ((index_t)p * o.Q + q) * o.K + tap.k : step;
                char* to = (char*)(tile + along(threadIdx.x / 4 + i * 32, chunk));
                copy_later<VECTOR * sizeof(T)>(to + piece * VECTOR * sizeof(T), dy + at[i] + from,
                                               there);
            }
            if (piece + 1 < PIECES) advance(tap, o, VECTOR);
        }
    }
};

// Its tiles are fetched after those of Outputs, so it advances the tap for both.
struct Weights {
    static constexpr bool ALONG = true;
    const T* weight;  // at this group's channels
    Sizes o;
    Tap& next;
    int column;

    __device__ void fetch(Chunk* tile) {
        const int chunk = threadIdx.x % 4;
        Tap tap = next;
#pragma unroll PIECES_AT_ONCE
        for (int piece = 0; piece < PIECES; ++piece) {
            const index_t at = (index_t)(tap.r * o.S + tap.s) * o.cg * o.K + tap.k;
#pragma unroll
            for (int i = 0; i < (TILE_N + 31) / 32; ++i) {
                const int row = threadIdx.x / 4 + i * 32, c = column + row;
                if (TILE_N % 32 && row >= TILE_N) break;
                const bool there = tap.r < o.R && c < o.cg;
                char* to = (char*)(tile + along(row, chunk));
                copy_later<VECTOR * sizeof(T)>(to + piece * VECTOR * sizeof(T),
                                               weight + at + (index_t)c * o.K, there);
            }
            if (piece + 1 < PIECES) advance(tap, o, VECTOR);
        }
        advance(next, o, DEPTH);
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 2)
    conv_input_gradient(const T* __restrict__ dy, const T* __restrict__ weight,
                        const T* __restrict__ input, T* __restrict__ dx, Sizes o) {
    const index_t pixels = (index_t)o.N * o.H * o.W;
    const Tile tile = tile_of((o.cg + TILE_N - 1) / TILE_N, o.groups, (pixels + TILE_M - 1) / TILE_M);
    Tap next = first_tap(o);
    Outputs left(dy, o, tile, next);
    Weights right = {weight + tile.group * o.kg, o, next, tile.column};
    Sums sums;
    multiply_tiles(sums, left, right, (o.R * o.S * o.kg + DEPTH - 1) / DEPTH);
    each_pair(sums, [=](int row, int column, float v0, float v1) {
        const index_t m = tile.row + row;
        const int c = tile.column + column;
        if (m >= pixels || c >= o.cg) return;
        const index_t at = m * o.C + tile.group * o.cg + c;
        const bool both = c + 1 < o.cg;
        if (input) {
            if (!(load(input[at]) > 0)) v0 *= 0;  // a NaN stays a NaN
            if (both && !(load(input[at + 1]) > 0)) v1 *= 0;
        }
        store_pair(dx + at, v0, v1, both);
    });
}

#endif
