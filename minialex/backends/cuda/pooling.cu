// Overlapping pooling (paper, section 3.4), forward and backward, without atomics.
//
// Letters: N batch, H W input, C channels, R S window, P Q output.
//
// max_pool: a thread computes V channels of one output pixel; reads R·S·V elements, writes V maxima
//   and their argmax, the tap r·S + s. Of equal maxima the first in scan order wins, a NaN wins over
//   all numbers, and padding never wins.
// max_pool_gradient: a thread computes V channels of one input pixel: the sum, in scan order, over the
//   windows that cover it and chose it, so the bits never change.
// average_pool and its gradient: means over the part of the window inside the image, extended by the
//   zeros that count as pixels above, below, before and after it.
//
// Max pooling that follows response normalisation, as in AlexNet, is in norm_pool.cu.
// Tested against reference/pooling.py.

struct Window {
    int H, W, C, R, S, P, Q, stride_h, stride_w, top, left;
};

template <int V>
__device__ void maxima(const T* __restrict__ x, T* __restrict__ y, unsigned short* __restrict__ argmax,
                       index_t outputs, Window o) {
    const int packs = o.C / V;
    EACH(i, outputs * packs) {
        const int c = (int)(i % packs);
        const index_t output = i / packs;
        const int q = (int)(output % o.Q), p = (int)(output / o.Q % o.P);
        const index_t n = output / ((index_t)o.P * o.Q);
        const int h0 = p * o.stride_h - o.top, w0 = q * o.stride_w - o.left;
        A best[V];
        unsigned short tap[V];
        bool found = false;
        for (int j = 0; j < V; ++j) best[j] = (A)float_of(0xff800000u), tap[j] = 0;  // -infinity
        for (int r = 0; r < o.R; ++r) {
            const int h = h0 + r;
            if (h < 0 || h >= o.H) continue;
            for (int s = 0; s < o.S; ++s) {
                const int w = w0 + s;
                if (w < 0 || w >= o.W) continue;
                const index_t at = ((n * o.H + h) * o.W + w) * o.C + c * V;
                const Pack<V> v = *reinterpret_cast<const Pack<V>*>(x + at);
                for (int j = 0; j < V; ++j) {
                    const A here = load(v.v[j]);
                    if (!found || here > best[j] || (here != here && best[j] == best[j])) {
                        best[j] = here;
                        tap[j] = (unsigned short)(r * o.S + s);
                    }
                }
                found = true;
            }
        }
        for (int j = 0; j < V; ++j) {
            y[output * o.C + c * V + j] = store(best[j]);
            argmax[output * o.C + c * V + j] = tap[j];
        }
    }
}

template <int V>
__device__ void to_maxima(const T* __restrict__ dy, const unsigned short* __restrict__ argmax,
                          T* __restrict__ dx, index_t pixels, Window o) {
    const int packs = o.C / V;
    EACH(i, pixels * packs) {
        const int c = (int)(i % packs);
        const index_t pixel = i / packs;
        const int w = (int)(pixel % o.W) + o.left, h = (int)(pixel / o.W % o.H) + o.top;
        const index_t n = pixel / ((index_t)o.H * o.W);
        A sum[V];
        for (int j = 0; j < V; ++j) sum[j] = 0;
        for (int r = h % o.stride_h; r < o.R && r <= h; r += o.stride_h) {
            const int p = (h - r) / o.stride_h;
            if (p >= o.P) continue;
            for (int s = w % o.stride_w; s < o.S && s <= w; s += o.stride_w) {
                const int q = (w - s) / o.stride_w;
                if (q >= o.Q) continue;
                const index_t at = ((n * o.P + p) * o.Q + q) * o.C + c * V;
                for (int j = 0; j < V; ++j)
                    if (argmax[at + j] == r * o.S + s) sum[j] += load(dy[at + j]);
            }
        }
        Pack<V> v;
        for (int j = 0; j < V; ++j) v.v[j] = store(sum[j]);
        *reinterpret_cast<Pack<V>*>(dx + pixel * o.C + c * V) = v;
    }
}

extern "C" __global__ void max_pool(const T* __restrict__ x, T* __restrict__ y,
                                    unsigned short* __restrict__ argmax, index_t outputs, int H,
                                    int W, int C, int R, int S, int P, int Q, int stride_h,
                                    int stride_w, int top, int left) {
    const Window o = {H, W, C, R, S, P, Q, stride_h, stride_w, top, left};
    maxima<1>(x, y, argmax, outputs, o);
}

extern "C" __global__ void max_pool_wide(const T* __restrict__ x, T* __restrict__ y,
                                         unsigned short* __restrict__ argmax, index_t outputs, int H,
                                         int W, int C, int R, int S, int P, int Q, int stride_h,
                                         int stride_w, int top, int left) {
    const Window o = {H, W, C, R, S, P, Q, stride_h, stride_w, top, left};
    maxima<WIDE>(x, y, argmax, outputs, o);
}

extern "C" __global__ void max_pool_gradient(const T* __restrict__ dy,
                                             const unsigned short* __restrict__ argmax,
                                             T* __restrict__ dx, index_t pixels, int H, int W, int C,
                                             int R, int S, int P, int Q, int stride_h, int stride_w,
                                             int top, int left) {
    const Window o = {H, W, C, R, S, P, Q, stride_h, stride_w, top, left};
    to_maxima<1>(dy, argmax, dx, pixels, o);
}

extern "C" __global__ void max_pool_gradient_wide(const T* __restrict__ dy,
                                                  const unsigned short* __restrict__ argmax,
                                                  T* __restrict__ dx, index_t pixels, int H, int W,
                                                  int C, int R, int S, int P, int Q, int stride_h,
                                                  int stride_w, int top, int left) {
    const Window o = {H, W, C, R, S, P, Q, stride_h, stride_w, top, left};
    to_maxima<WIDE>(dy, argmax, dx, pixels, o);
}

// The zeros that a mean counts as pixels: rows above and below, columns before and after.
struct Counted {
    int above, below, before, after;
};

// The number of pixels from `first` to `end` - 1 of a line that the window at `start` covers; may be
// 0.
__device__ __forceinline__ int inside(int start, int reach, int first, int end) {
    const int low = start < first ? first : start;
    const int high = start + reach < end ? start + reach : end;
    return high > low ? high - low : 0;
}

__device__ __forceinline__ A area(const Window& o, const Counted& zeros, int p, int q) {
    const int covered =
        inside(p * o.stride_h - o.top, o.R, -zeros.above, o.H + zeros.below) *
        inside(q * o.stride_w - o.left, o.S, -zeros.before, o.W + zeros.after);
    return (A)(covered > 0 ? covered : 1);
}

extern "C" __global__ void average_pool(const T* __restrict__ x, T* __restrict__ y, index_t outputs,
                                        int H, int W, int C, int R, int S, int P, int Q,
                                        int stride_h, int stride_w, int top, int left, int above,
                                        int below, int before, int after) {
    const Window o = {H, W, C, R, S, P, Q, stride_h, stride_w, top, left};
    const Counted zeros = {above, below, before, after};
    EACH(i, outputs * C) {
        const int c = (int)(i % C);
        const index_t output = i / C;
        const int q = (int)(output % Q), p = (int)(output / Q % P);
        const index_t n = output / ((index_t)P * Q);
        A sum = 0;
        for (int r = 0; r < R; ++r) {
            const int h = p * stride_h - top + r;
            if (h < 0 || h >= H) continue;
            for (int s = 0; s < S; ++s) {
                const int w = q * stride_w - left + s;
                if (w >= 0 && w < W) sum += load(x[((n * H + h) * W + w) * C + c]);
            }
        }
        y[i] = store(sum / area(o, zeros, p, q));
    }
}

extern "C" __global__ void average_pool_gradient(const T* __restrict__ dy, T* __restrict__ dx,
                                                 index_t pixels, int H, int W, int C, int R, int S,
                                                 int P, int Q, int stride_h, int stride_w, int top,
                                                 int left, int above, int below, int before,
                                                 int after) {
    const Window o = {H, W, C, R, S, P, Q, stride_h, stride_w, top, left};
    const Counted zeros = {above, below, before, after};
    EACH(i, pixels * C) {
        const int c = (int)(i % C);
        const index_t pixel = i / C;
        const int w = (int)(pixel % W) + left, h = (int)(pixel / W % H) + top;
        const index_t n = pixel / ((index_t)H * W);
        A sum = 0;
        for (int r = h % stride_h; r < R && r <= h; r += stride_h) {
            const int p = (h - r) / stride_h;
            if (p >= P) continue;
            for (int s = w % stride_w; s < S && s <= w; s += stride_w) {
                const int q = (w - s) / stride_w;
                if (q < Q) sum += load(dy[((n * P + p) * Q + q) * C + c]) / area(o, zeros, p, q);
            }
        }
        dx[i] = store(sum);
    }
}
