// Convolution as matrix products: windows to rows (im2col), and the adjoint (col2im).
//
// Letters: N batch, H W input, C channels, R S kernel, P Q output. Of the C channels in memory the
// `width` channels from `first` on take part: one group. A row of cols is (r, s, c), contiguous.
//
// im2col: a block fills rows, a thread V neighbouring channels at a time. Reads each element of x up
//   to R·S times (from cache), writes R·S·width elements per output pixel.
// col2im: a thread gathers V elements of dx from the windows that cover them, in scan order: no
//   atomics, and the bits never change. Reads R·S·width elements per output pixel once.
// Tested, with the products between them, against reference/convolution.py.

template <int V>
__device__ void fill_rows(const T* __restrict__ x, T* __restrict__ cols, index_t rows, int H, int W,
                          int C, int first, int width, int R, int S, int P, int Q, int stride_h,
                          int stride_w, int top, int left) {
    const int packs = width / V, length = R * S * packs;
    for (index_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const int q = (int)(row % Q), p = (int)(row / Q % P);
        const index_t n = row / ((index_t)P * Q);
        for (int j = threadIdx.x; j < length; j += blockDim.x) {
            const int c = j % packs, tap = j / packs;
            const int h = p * stride_h - top + tap / S, w = q * stride_w - left + tap % S;
            Pack<V> v;
            if (h >= 0 && h < H && w >= 0 && w < W) {
                const index_t at = ((n * H + h) * W + w) * C + first + c * V;
                v = *reinterpret_cast<const Pack<V>*>(x + at);
            } else {
                for (int i = 0; i < V; ++i) v.v[i] = store((A)0);
            }
            *reinterpret_cast<Pack<V>*>(cols + (row * length + j) * V) = v;
        }
    }
}

extern "C" __global__ void im2col(const T* __restrict__ x, T* __restrict__ cols, index_t rows, int H,
                                  int W, int C, int first, int width, int R, int S, int P, int Q,
                                  int stride_h, int stride_w, int top, int left) {
    fill_rows<1>(x, cols, rows, H, W, C, first, width, R, S, P, Q, stride_h, stride_w, top, left);
}

extern "C" __global__ void im2col_wide(const T* __restrict__ x, T* __restrict__ cols, index_t rows,
                                       int H, int W, int C, int first, int width, int R, int S, int P,
                                       int Q, int stride_h, int stride_w, int top, int left) {
    fill_rows<WIDE>(x, cols, rows, H, W, C, first, width, R, S, P, Q, stride_h, stride_w, top, left);
}

template <int V>
__device__ void gather_windows(const T* __restrict__ cols, T* __restrict__ dx, index_t pixels, int H,
                               int W, int C, int first, int width, int R, int S, int P, int Q,
                               int stride_h, int stride_w, int top, int left) {
    const int packs = width / V;
    EACH(i, pixels * packs) {
        const int c = (int)(i % packs);
        const index_t pixel = i / packs;
        const int w = (int)(pixel % W) + left, h = (int)(pixel / W % H) + top;
        const index_t n = pixel / ((index_t)H * W);
        A sum[V];
        for (int j = 0; j < V; ++j) sum[j] = 0;
        for (int r = h % stride_h; r < R && r <= h; r += stride_h) {
            const int p = (h - r) / stride_h;
            if (p >= P) continue;
            for (int s = w % stride_w; s < S && s <= w; s += stride_w) {
                const int q = (w - s) / stride_w;
                if (q >= Q) continue;
                const index_t row = (n * P + p) * Q + q;
                const index_t at = ((row * R + r) * S + s) * width + c * V;
                const Pack<V> v = *reinterpret_cast<const Pack<V>*>(cols + at);
                for (int j = 0; j < V; ++j) sum[j] += load(v.v[j]);
            }
        }
        Pack<V> v;
        for (int j = 0; j < V; ++j) v.v[j] = store(sum[j]);
        *reinterpret_cast<Pack<V>*>(dx + pixel * C + first + c * V) = v;
    }
}

extern "C" __global__ void col2im(const T* __restrict__ cols, T* __restrict__ dx, index_t pixels,
                                  int H, int W, int C, int first, int width, int R, int S, int P,
                                  int Q, int stride_h, int stride_w, int top, int left) {
    gather_windows<1>(cols, dx, pixels, H, W, C, first, width, R, S, P, Q, stride_h, stride_w, top,
                      left);
}

extern "C" __global__ void col2im_wide(const T* __restrict__ cols, T* __restrict__ dx,
                                       index_t pixels, int H, int W, int C, int first, int width,
                                       int R, int S, int P, int Q, int stride_h, int stride_w,
                                       int top, int left) {
    gather_windows<WIDE>(cols, dx, pixels, H, W, C, first, width, R, S, P, Q, stride_h, stride_w,
                         top, left);
}
