// Response normalisation and max pooling in one pass over memory each way (paper, sections 3.3, 3.4).
//
//   forward:  x -> z = x s^-beta -> y = maxima of z over windows, with argmax, the tap of each
//   backward: dy -> dz at the chosen taps -> dx as in response_norm.cu; with `relu`, dx is
//             zero where x, the output of a ReLU, is
//
//      x: the rows of one block's windows            y: `across` pixels of one row
//      +--+--+--+--+--+--+--+                        forward: block (n, p, part of a row) keeps the
//      |  |  |  |  |  |  |  |  R rows                R x ((across - 1) stride + S) pixels of x that
//      |  |  |  |  |  |  |  |      ->   | | | |      its windows cover in shared memory, as x and,
//      +--+--+--+--+--+--+--+                        normalised, as z: both of type T
//
// Forward reads x (R / stride times, the repeats from cache) and writes y and argmax; z, written and
// read again by the separate kernels, never leaves the chip. Backward: a block takes `tile` whole
// pixels; it reads x once, dy and argmax R S / stride^2 times (from cache), writes dx once.
//
// The _wide kernels do the same for WIDE channels per thread, if five are summed (n = 5 as in the paper,
// or 4) and WIDE divides the channels of a group: a position then takes a WIDEth of the integer
// divisions, and the five squares of a sum come from registers. Backward, a thread keeps its channels
// in registers, so that s^-beta is computed once.
// Every number is rounded where the separate kernels round it, so forward gives the same bits.
// Tested against max_pool(response_norm(x)) and its gradients.

struct Span {
    int low, high;
};

// The channels around c that lie in its group of `group` channels.
__device__ __forceinline__ Span span_around(int c, int group, int n) {
    const int start = c - c % group, half = n / 2;
    Span span;
    span.low = c - half > start ? c - half : start;
    span.high = c + half < start + group - 1 ? c + half : start + group - 1;
    return span;
}

// Calls use(p, q, tap) for each window that has the pixel at (h, w), which count the padding, at its
// tap: row by row of the windows' taps.
template <class Use>
__device__ __forceinline__ void each_window(int h, int w, int R, int S, int P, int Q, int stride_h,
                                            int stride_w, Use use) {
    for (int r = h % stride_h; r < R && r <= h; r += stride_h) {
        const int p = (h - r) / stride_h;
        if (p >= P) continue;
        for (int s = w % stride_w; s < S && s <= w; s += stride_w) {
            const int q = (w - s) / stride_w;
            if (q < Q) use(p, q, r * S + s);
        }
    }
}

// s^-beta; the paper's 3/4 by two square roots.
__device__ __forceinline__ A power(A s, A beta) {
    if (beta == (A)0.75) {
        const A root = sqrt(s);
        return 1 / (root * sqrt(root));
    }
    return pow(s, -beta);
}

extern "C" __global__ void norm_pool(const T* __restrict__ x, T* __restrict__ y,
                                     unsigned short* __restrict__ argmax, int N, int H, int W, int C,
                                     int R, int S, int P, int Q, int stride_h, int stride_w, int top,
                                     int left, int across, int group, int n, A k, A alpha, A beta) {
    extern __shared__ T held[];  // (2, R, width, C): x, then z
    const int width = (across - 1) * stride_w + S, parts = (Q + across - 1) / across;
    T* z = held + R * width * C;
    const index_t blocks = (index_t)N * P * parts;
    for (index_t block = blockIdx.x; block < blocks; block += gridDim.x) {
        const int q0 = (int)(block % parts) * across, p = (int)(block / parts % P);
        const index_t image = block / parts / P;
        const int h0 = p * stride_h - top, w0 = q0 * stride_w - left;
        __syncthreads();  // the previous windows have been read
        for (int i = threadIdx.x; i < R * width * C; i += blockDim.x) {
            const int c = i % C, h = h0 + i / C / width, w = w0 + i / C % width;
            const bool inside = h >= 0 && h < H && w >= 0 && w < W;
            held[i] = inside ? x[((image * H + h) * W + w) * C + c] : store((A)0);
        }
        __syncthreads();
        for (int i = threadIdx.x; i < R * width * C; i += blockDim.x) {
            const int c = i % C;
            const Span span = span_around(c, group, n);
            A sum = 0;
            for (int j = i - c + span.low; j <= i - c + span.high; ++j) {
                const A v = load(held[j]);
                sum += v * v;
            }
            z[i] = store(load(held[i]) * power(k + alpha * sum, beta));
        }
        __syncthreads();
        for (int i = threadIdx.x; i < across * C; i += blockDim.x) {
            const int c = i % C, q = q0 + i / C;
            if (q >= Q) continue;
            A best = (A)float_of(0xff800000u);  // -infinity
            unsigned short tap = 0;
            bool found = false;
            for (int r = 0; r < R; ++r) {
                if (h0 + r < 0 || h0 + r >= H) continue;
                for (int s = 0; s < S; ++s) {
                    const int w = i / C * stride_w + s;
                    if (w0 + w < 0 || w0 + w >= W) continue;
                    const A here = load(z[(r * width + w) * C + c]);
                    if (!found || here > best || (here != here && best == best)) {
                        best = here;
                        tap = (unsigned short)(r * S + s);
                    }
                    found = true;
                }
            }
            const index_t at = ((image * P + p) * Q + q) * C + c;
            y[at] = store(best);
            argmax[at] = tap;
        }
    }
}

extern "C" __global__ void norm_pool_gradient(const T* __restrict__ dy,
                                              const unsigned short* __restrict__ argmax,
                                              const T* __restrict__ x, T* __restrict__ dx,
                                              index_t pixels, int H, int W, int C, int R, int S, int P,
                                              int Q, int stride_h, int stride_w, int top, int left,
                                              int tile, int group, int n, A k, A alpha, A beta,
                                              int relu) {
    extern __shared__ T values[];  // (2, tile, C) of T: x and dz, then (tile, C) of A: ratios
    T* dz = values + tile * C;
    A* ratios = (A*)(values + 2 * tile * C);
    for (index_t first = (index_t)blockIdx.x * tile; first < pixels;
         first += (index_t)gridDim.x * tile) {
        const int count = (int)(pixels - first < tile ? pixels - first : tile) * C;
        __syncthreads();
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            const index_t pixel = first + i / C;
            const int c = i % C, w = (int)(pixel % W) + left, h = (int)(pixel / W % H) + top;
            const index_t image = pixel / ((index_t)H * W);
            A sum = 0;
            each_window(h, w, R, S, P, Q, stride_h, stride_w, [&](int p, int q, int tap) {
                const index_t at = ((image * P + p) * Q + q) * C + c;
                if (argmax[at] == tap) sum += load(dy[at]);
            });
            dz[i] = store(sum);
            values[i] = x[first * C + i];
        }
        __syncthreads();
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            const Span span = span_around(i % C, group, n);
            A sum = 0;
            for (int j = i - i % C + span.low; j <= i - i % C + span.high; ++j) {
                const A v = load(values[j]);
                sum += v * v;
            }
            const A s = k + alpha * sum;
            ratios[i] = load(dz[i]) * load(values[i]) * power(s, beta) / s;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            const Span span = span_around(i % C, group, n);
            A sum = 0, spread = 0;
            for (int j = i - i % C + span.low; j <= i - i % C + span.high; ++j) {
                const A v = load(values[j]);
                sum += v * v;
                spread += ratios[j];
            }
            const A v = load(values[i]);
            const A direct = load(dz[i]) * power(k + alpha * sum, beta);
            // rounded as the separate kernels do, before the ReLU's gradient
            const T d = store(direct - 2 * alpha * beta * v * spread);
            dx[first * C + i] = relu && !(v > 0) ? store(load(d) * (A)0) : d;
        }
    }
}

// ---------------------------------------------------------------- WIDE channels per thread

#define REACH 2                     // channels on each side of a sum
#define NEAR (WIDE + 2 * REACH)     // those that WIDE neighbouring sums need

struct alignas(2 * WIDE) Taps {
    unsigned short v[WIDE];
};

// The NEAR numbers from `at` - REACH on; those outside the group are zeros. `chunk` counts the group's.
template <class Number>
__device__ __forceinline__ void near(Number (&out)[NEAR], const Number* at, int chunk, int chunks) {
    const Number zero = {};
#pragma unroll
    for (int j = 0; j < REACH; ++j) out[j] = chunk > 0 ? at[j - REACH] : zero;
#pragma unroll
    for (int j = 0; j < WIDE; ++j) out[REACH + j] = at[j];
#pragma unroll
    for (int j = 0; j < REACH; ++j) out[REACH + WIDE + j] = chunk + 1 < chunks ? at[WIDE + j] : zero;
}
__device__ __forceinline__ void near_values(A (&out)[NEAR], const T* at, int chunk, int chunks) {
    T stored[NEAR];
    near(stored, at, chunk, chunks);
#pragma unroll
    for (int j = 0; j < NEAR; ++j) out[j] = load(stored[j]);
}

__device__ __forceinline__ A sum_of_squares(const A (&v)[NEAR], int first) {
    A sum = 0;
#pragma unroll
    for (int j = 0; j <= 2 * REACH; ++j) sum += v[first + j] * v[first + j];
    return sum;
}

extern "C" __global__ void norm_pool_wide(const T* __restrict__ x, T* __restrict__ y,
                                          unsigned short* __restrict__ argmax, int N, int H, int W,
                                          int C, int R, int S, int P, int Q, int stride_h,
                                          int stride_w, int top, int left, int across, int group,
                                          A k, A alpha, A beta) {
    extern __shared__ Chunk wide_held[];  // (2, R, width, C) of T: x, then z
    const int width = (across - 1) * stride_w + S, parts = (Q + across - 1) / across;
    const int chunks = C / WIDE, of_group = group / WIDE, all = R * width * chunks;
    Pack<WIDE>* held = (Pack<WIDE>*)wide_held;
    Pack<WIDE>* z = held + all;
    const index_t blocks = (index_t)N * P * parts;
    for (index_t block = blockIdx.x; block < blocks; block += gridDim.x) {
        const int q0 = (int)(block % parts) * across, p = (int)(block / parts % P);
        const index_t image = block / parts / P;
        const int h0 = p * stride_h - top, w0 = q0 * stride_w - left;
        __syncthreads();  // the previous windows have been read
        for (int i = threadIdx.x; i < all; i += blockDim.x) {
            const int pixel = i / chunks, c = i - pixel * chunks;
            const int row = pixel / width, h = h0 + row, w = w0 + pixel - row * width;
            Pack<WIDE> v = {};
            if (h >= 0 && h < H && w >= 0 && w < W)
                v = *reinterpret_cast<const Pack<WIDE>*>(x + ((image * H + h) * W + w) * C + c * WIDE);
            held[i] = v;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < all; i += blockDim.x) {
            A v[NEAR];
            near_values(v, held[i].v, i % of_group, of_group);
            Pack<WIDE> out;
#pragma unroll
            for (int j = 0; j < WIDE; ++j)
                out.v[j] = store(v[REACH + j] * power(k + alpha * sum_of_squares(v, j), beta));
            z[i] = out;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < across * chunks; i += blockDim.x) {
            const int column = i / chunks, c = i - column * chunks, q = q0 + column;
            if (q >= Q) continue;
            A best[WIDE];
            int tap[WIDE];
#pragma unroll
            for (int j = 0; j < WIDE; ++j) best[j] = (A)float_of(0xff800000u), tap[j] = 0;
            bool found = false;
            for (int r = 0; r < R; ++r) {
                if (h0 + r < 0 || h0 + r >= H) continue;
                for (int s = 0; s < S; ++s) {
                    const int w = column * stride_w + s;
                    if (w0 + w < 0 || w0 + w >= W) continue;
                    const Pack<WIDE> here = z[(r * width + w) * chunks + c];
#pragma unroll
                    for (int j = 0; j < WIDE; ++j) {
                        const A v = load(here.v[j]);
                        // larger, or the first NaN
                        if (!found || (!(v <= best[j]) && best[j] == best[j])) {
                            best[j] = v;
                            tap[j] = r * S + s;
                        }
                    }
                    found = true;
                }
            }
            Pack<WIDE> out;
            Taps taps;
#pragma unroll
            for (int j = 0; j < WIDE; ++j)
                out.v[j] = store(best[j]), taps.v[j] = (unsigned short)tap[j];
            const index_t at = ((image * P + p) * Q + q) * C + c * WIDE;
            *reinterpret_cast<Pack<WIDE>*>(y + at) = out;
            *reinterpret_cast<Taps*>(argmax + at) = taps;
        }
    }
}

// A block takes `tile` pixels, with at most one thread for each WIDE of their channels.
extern "C" __global__ void norm_pool_gradient_wide(
    const T* __restrict__ dy, const unsigned short* __restrict__ argmax, const T* __restrict__ x,
    T* __restrict__ dx, index_t pixels, int H, int W, int C, int R, int S, int P, int Q, int stride_h,
    int stride_w, int top, int left, int tile, int group, A k, A alpha, A beta, int relu) {
    extern __shared__ Chunk wide_values[];  // (tile, C) of T: x, then (tile, C) of A: ratios
    T* values = (T*)wide_values;
    A* ratios = (A*)(values + tile * C);
    const int chunks = C / WIDE, of_group = group / WIDE;
    const int i = threadIdx.x * WIDE, of_tile = threadIdx.x / chunks;
    const int c = (threadIdx.x - of_tile * chunks) * WIDE, chunk = threadIdx.x % of_group;
    for (index_t first = (index_t)blockIdx.x * tile; first < pixels;
         first += (index_t)gridDim.x * tile) {
        const index_t pixel = first + of_tile;
        const bool mine = of_tile < tile && pixel < pixels;
        A dz[WIDE], scale[WIDE], v[NEAR];
        __syncthreads();  // the previous ratios have been read
        if (mine) {
            *reinterpret_cast<Pack<WIDE>*>(values + i) =
                *reinterpret_cast<const Pack<WIDE>*>(x + pixel * C + c);
            const index_t row = pixel / W, image = row / H;
            const int w = (int)(pixel - row * W) + left, h = (int)(row - image * H) + top;
#pragma unroll
            for (int j = 0; j < WIDE; ++j) dz[j] = 0;
            each_window(h, w, R, S, P, Q, stride_h, stride_w, [&](int p, int q, int tap) {
                const index_t at = ((image * P + p) * Q + q) * C + c;
                const Taps taps = *reinterpret_cast<const Taps*>(argmax + at);
                const Pack<WIDE> of = *reinterpret_cast<const Pack<WIDE>*>(dy + at);
#pragma unroll
                for (int j = 0; j < WIDE; ++j)
                    if (taps.v[j] == tap) dz[j] += load(of.v[j]);
            });
        }
        __syncthreads();
        if (mine) {
            near_values(v, values + i, chunk, of_group);
#pragma unroll
            for (int j = 0; j < WIDE; ++j) {
                const A s = k + alpha * sum_of_squares(v, j);
                dz[j] = load(store(dz[j])), scale[j] = power(s, beta);
                ratios[i + j] = dz[j] * v[REACH + j] * scale[j] / s;
            }
        }
        __syncthreads();
        if (mine) {
            A of[NEAR];
            near(of, ratios + i, chunk, of_group);
            Pack<WIDE> out;
#pragma unroll
            for (int j = 0; j < WIDE; ++j) {
                A spread = 0;
#pragma unroll
                for (int step = 0; step <= 2 * REACH; ++step) spread += of[j + step];
                // rounded as the separate kernels do, before the ReLU's gradient
                const A own = v[REACH + j];
                const T d = store(dz[j] * scale[j] - 2 * alpha * beta * own * spread);
                out.v[j] = relu && !(own > 0) ? store(load(d) * (A)0) : d;
            }
            *reinterpret_cast<Pack<WIDE>*>(dx + pixel * C + c) = out;
        }
    }
}
