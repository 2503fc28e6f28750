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
            for (int r = h % stride_h; r < R && r <= h; r += stride_h) {
                const int p = (h - r) / stride_h;
                if (p >= P) continue;
                for (int s = w % stride_w; s < S && s <= w; s += stride_w) {
                    const int q = (w - s) / stride_w;
                    if (q >= Q) continue;
                    const index_t at = ((image * P + p) * Q + q) * C + c;
                    if (argmax[at] == r * S + s) sum += load(dy[at]);
                }
            }
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
