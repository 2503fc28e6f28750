// Elementwise operations, and copies between layouts.
//
// A thread computes 16 bytes of elements at a time where sizes and addresses allow it (the _wide
// kernels), else one element. Each array is read or written once. Tested against the generic backend.

struct Relu {
    __device__ A operator()(A x, A) const { return x < 0 ? (A)0 : x; }  // a NaN stays a NaN
};
struct ReluGradient {
    __device__ A operator()(A dy, A y) const { return y > 0 ? dy : dy * (A)0; }
};
struct Tanh {
    __device__ A operator()(A x, A) const { return tanh(x); }
};
struct TanhGradient {
    __device__ A operator()(A dy, A y) const { return dy * (1 - y * y); }
};
struct Sigmoid {  // through tanh, which does not overflow
    __device__ A operator()(A x, A) const { return (A)0.5 * tanh((A)0.5 * x) + (A)0.5; }
};
struct SigmoidGradient {
    __device__ A operator()(A dy, A y) const { return dy * (y * (1 - y)); }
};
struct Add {
    __device__ A operator()(A x, A y) const { return x + y; }
};

template <int V, class Op>
__device__ void map_pairs(const T* a, const T* b, T* out, index_t n, Op op) {
    EACH(i, n / V) {
        const Pack<V> x = reinterpret_cast<const Pack<V>*>(a)[i];
        const Pack<V> y = reinterpret_cast<const Pack<V>*>(b)[i];
        Pack<V> z;
        for (int j = 0; j < V; ++j) z.v[j] = store(op(load(x.v[j]), load(y.v[j])));
        reinterpret_cast<Pack<V>*>(out)[i] = z;
    }
}

template <int V, class Op>
__device__ void map_each(const T* a, T* out, index_t n, Op op) {
    EACH(i, n / V) {
        const Pack<V> x = reinterpret_cast<const Pack<V>*>(a)[i];
        Pack<V> z;
        for (int j = 0; j < V; ++j) z.v[j] = store(op(load(x.v[j]), (A)0));
        reinterpret_cast<Pack<V>*>(out)[i] = z;
    }
}

// No __restrict__ here: `out` may be an input.
extern "C" __global__ void relu(const T* x, T* y, index_t n) { map_each<1>(x, y, n, Relu()); }
extern "C" __global__ void relu_wide(const T* x, T* y, index_t n) {
    map_each<WIDE>(x, y, n, Relu());
}
extern "C" __global__ void relu_gradient(const T* dy, const T* y, T* dx, index_t n) {
    map_pairs<1>(dy, y, dx, n, ReluGradient());
}
extern "C" __global__ void relu_gradient_wide(const T* dy, const T* y, T* dx, index_t n) {
    map_pairs<WIDE>(dy, y, dx, n, ReluGradient());
}
extern "C" __global__ void tanh_forward(const T* x, T* y, index_t n) {
    map_each<1>(x, y, n, Tanh());
}
extern "C" __global__ void tanh_forward_wide(const T* x, T* y, index_t n) {
    map_each<WIDE>(x, y, n, Tanh());
}
extern "C" __global__ void tanh_gradient(const T* dy, const T* y, T* dx, index_t n) {
    map_pairs<1>(dy, y, dx, n, TanhGradient());
}
extern "C" __global__ void tanh_gradient_wide(const T* dy, const T* y, T* dx, index_t n) {
    map_pairs<WIDE>(dy, y, dx, n, TanhGradient());
}
extern "C" __global__ void sigmoid_forward(const T* x, T* y, index_t n) {
    map_each<1>(x, y, n, Sigmoid());
}
extern "C" __global__ void sigmoid_forward_wide(const T* x, T* y, index_t n) {
    map_each<WIDE>(x, y, n, Sigmoid());
}
extern "C" __global__ void sigmoid_gradient(const T* dy, const T* y, T* dx, index_t n) {
    map_pairs<1>(dy, y, dx, n, SigmoidGradient());
}
extern "C" __global__ void sigmoid_gradient_wide(const T* dy, const T* y, T* dx, index_t n) {
    map_pairs<WIDE>(dy, y, dx, n, SigmoidGradient());
}
extern "C" __global__ void add(const T* x, const T* y, T* z, index_t n) {
    map_pairs<1>(x, y, z, n, Add());
}
extern "C" __global__ void add_wide(const T* x, const T* y, T* z, index_t n) {
    map_pairs<WIDE>(x, y, z, n, Add());
}

struct Times {
    A factor;
    __device__ A operator()(A x, A) const { return x * factor; }
};
extern "C" __global__ void scale(const T* x, T* y, index_t n, A factor) {
    map_each<1>(x, y, n, Times{factor});
}
extern "C" __global__ void scale_wide(const T* x, T* y, index_t n, A factor) {
    map_each<WIDE>(x, y, n, Times{factor});
}

// Conversions between T and float: weights to half precision, results back.
extern "C" __global__ void from_float(const float* __restrict__ x, T* __restrict__ y, index_t n) {
    EACH(i, n) y[i] = store((A)x[i]);
}
extern "C" __global__ void to_float(const T* __restrict__ x, float* __restrict__ y, index_t n) {
    EACH(i, n) y[i] = (float)load(x[i]);
}

// Copy between arrays of the same shape (d0 … d4) with any strides, in elements.
extern "C" __global__ void copy_strided(const T* __restrict__ x, T* __restrict__ y, index_t n, int d1,
                                        int d2, int d3, int d4, long long a0, long long a1,
                                        long long a2, long long a3, long long a4, long long b0,
                                        long long b1, long long b2, long long b3, long long b4) {
    EACH(i, n) {
        index_t rest = i;
        const int i4 = (int)(rest % d4);
        rest /= d4;
        const int i3 = (int)(rest % d3);
        rest /= d3;
        const int i2 = (int)(rest % d2);
        rest /= d2;
        const int i1 = (int)(rest % d1);
        const long long i0 = rest / d1;
        y[i0 * b0 + i1 * b1 + i2 * b2 + i3 * b3 + i4 * b4] =
            x[i0 * a0 + i1 * a1 + i2 * a2 + i3 * a3 + i4 * a4];
    }
}

// Pixels of C channels, padded with zeros to `wanted` channels; reads x and writes y once.
extern "C" __global__ void add_channels(const T* __restrict__ x, T* __restrict__ y, index_t n, int C,
                                        int wanted) {
    EACH(i, n) {
        const int c = (int)(i % wanted);
        y[i] = c < C ? x[i / wanted * C + c] : store((A)0);
    }
}
