// Local response normalisation across channels (paper, section 3.3), forward and backward, one pass
// over memory each; and the spatial variant, within each channel.
//
//   s_c = k + alpha * sum of x_j^2,  y_c = x_c s_c^-beta,  j over the n channels around c in its group
//   dx_c = dy_c s_c^-beta - 2 alpha beta x_c * sum of dy_j x_j s_j^(-beta - 1) over the same window
//
// A block keeps the squares (backward: and the ratios dy x s^(-beta-1)) of `tile` whole pixels in
// shared memory, so that the window slides over channels there: forward reads x and writes y,
// backward reads x and dy and writes dx; s is recomputed rather than stored.
// The kernels ending in _plain do the same from global memory, for more channels than shared memory
// holds; they are the naive version that the others are tested against, as all are against
// reference/response_norm.py.

// s^-beta; the paper's 3/4 by two square roots.
__device__ __forceinline__ A power(A s, A beta) {
    if (beta == (A)0.75) {
        const A root = sqrt(s);
        return 1 / (root * sqrt(root));
    }
    return pow(s, -beta);
}

struct Span {
    int low, high;
};

// The channels around c that lie in its group of `group` channels.
__device__ __forceinline__ Span around(int c, int group, int n) {
    const int start = c - c % group, half = n / 2;
    Span span;
    span.low = c - half > start ? c - half : start;
    span.high = c + half < start + group - 1 ? c + half : start + group - 1;
    return span;
}

extern "C" __global__ void response_norm(const T* __restrict__ x, T* __restrict__ y, index_t pixels,
                                         int C, int group, int tile, int n, A k, A alpha, A beta) {
    extern __shared__ A squares[];  // (tile, C)
    for (index_t first = (index_t)blockIdx.x * tile; first < pixels;
         first += (index_t)gridDim.x * tile) {
        const int count = (int)(pixels - first < tile ? pixels - first : tile) * C;
        __syncthreads();  // the previous pixels have been read
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            const A v = load(x[first * C + i]);
            squares[i] = v * v;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            const Span span = around(i % C, group, n);
            A sum = 0;
            for (int j = i - i % C + span.low; j <= i - i % C + span.high; ++j) sum += squares[j];
            y[first * C + i] = store(load(x[first * C + i]) * power(k + alpha * sum, beta));
        }
    }
}

extern "C" __global__ void response_norm_gradient(const T* __restrict__ dy, const T* __restrict__ x,
                                                  T* __restrict__ dx, index_t pixels, int C,
                                                  int group, int tile, int n, A k, A alpha, A beta) {
    extern __shared__ A squares[];  // (2, tile, C): squares, then ratios
    A* ratios = squares + tile * C;
    for (index_t first = (index_t)blockIdx.x * tile; first < pixels;
         first += (index_t)gridDim.x * tile) {
        const int count = (int)(pixels - first < tile ? pixels - first : tile) * C;
        __syncthreads();
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            const A v = load(x[first * C + i]);
            squares[i] = v * v;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            const Span span = around(i % C, group, n);
            A sum = 0;
            for (int j = i - i % C + span.low; j <= i - i % C + span.high; ++j) sum += squares[j];
            const A s = k + alpha * sum;
            ratios[i] = load(dy[first * C + i]) * load(x[first * C + i]) * power(s, beta) / s;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            const Span span = around(i % C, group, n);
            A sum = 0, spread = 0;
            for (int j = i - i % C + span.low; j <= i - i % C + span.high; ++j) {
                sum += squares[j];
                spread += ratios[j];
            }
            const A direct = load(dy[first * C + i]) * power(k + alpha * sum, beta);
            dx[first * C + i] = store(direct - 2 * alpha * beta * load(x[first * C + i]) * spread);
        }
    }
}

__device__ A scale_at(const T* __restrict__ pixel, int c, int group, int n, A k, A alpha) {
    const Span span = around(c, group, n);
    A sum = 0;
    for (int j = span.low; j <= span.high; ++j) sum += load(pixel[j]) * load(pixel[j]);
    return k + alpha * sum;
}

extern "C" __global__ void response_norm_plain(const T* __restrict__ x, T* __restrict__ y,
                                               index_t pixels, int C, int group, int tile, int n,
                                               A k, A alpha, A beta) {
    EACH(i, pixels * C) {
        const int c = (int)(i % C);
        y[i] = store(load(x[i]) * power(scale_at(x + (i - c), c, group, n, k, alpha), beta));
    }
}

extern "C" __global__ void response_norm_gradient_plain(const T* __restrict__ dy,
                                                        const T* __restrict__ x,
                                                        T* __restrict__ dx, index_t pixels, int C,
                                                        int group, int tile, int n, A k, A alpha,
                                                        A beta) {
    EACH(i, pixels * C) {
        const int c = (int)(i % C);
        const T* pixel = x + (i - c);
        const Span span = around(c, group, n);
        A spread = 0;
        for (int j = span.low; j <= span.high; ++j) {
            const A s = scale_at(pixel, j, group, n, k, alpha);
            spread += load(dy[i - c + j]) * load(pixel[j]) * power(s, beta) / s;
        }
        const A direct = load(dy[i]) * power(scale_at(pixel, c, group, n, k, alpha), beta);
        dx[i] = store(direct - 2 * alpha * beta * load(x[i]) * spread);
    }
}

// Within each channel: the window is n x n pixels clipped to the image. Forward keeps s for backward,
// which then reads dy, x and s around each pixel (from cache) and writes dx.

extern "C" __global__ void spatial_norm(const T* __restrict__ x, T* __restrict__ y,
                                        A* __restrict__ scale, index_t pixels, int H, int W, int C,
                                        int n, A k, A alpha, A beta) {
    EACH(i, pixels * C) {
        const int w = (int)(i / C % W), h = (int)(i / C / W % H), half = n / 2;
        A sum = 0;
        for (int r = -half; r <= half; ++r) {
            if (h + r < 0 || h + r >= H) continue;
            for (int s = -half; s <= half; ++s) {
                if (w + s < 0 || w + s >= W) continue;
                const A v = load(x[i + ((index_t)r * W + s) * C]);
                sum += v * v;
            }
        }
        const A s = k + alpha * sum;
        scale[i] = s;
        y[i] = store(load(x[i]) * power(s, beta));
    }
}

extern "C" __global__ void spatial_norm_gradient(const T* __restrict__ dy, const T* __restrict__ x,
                                                 const A* __restrict__ scale, T* __restrict__ dx,
                                                 index_t pixels, int H, int W, int C, int n, A alpha,
                                                 A beta) {
    EACH(i, pixels * C) {
        const int w = (int)(i / C % W), h = (int)(i / C / W % H), half = n / 2;
        A spread = 0;
        for (int r = -half; r <= half; ++r) {
            if (h + r < 0 || h + r >= H) continue;
            for (int s = -half; s <= half; ++s) {
                if (w + s < 0 || w + s >= W) continue;
                const index_t j = i + ((index_t)r * W + s) * C;
                spread += load(dy[j]) * load(x[j]) * power(scale[j], beta) / scale[j];
            }
        }
        const A direct = load(dy[i]) * power(scale[i], beta);
        dx[i] = store(direct - 2 * alpha * beta * load(x[i]) * spread);
    }
}
