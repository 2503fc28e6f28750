// Dropout (paper, section 4.2) from Philox4x32-10 counters: the same bits as minialex/rng.py.
//
// counter = (block, image, step, purpose), key = seed; word u % 4 of block u / 4 decides about unit u,
// which is kept if the word is below `threshold`. The mask is never stored: backward draws it again.
// An array may hold channels first … first + C - 1 of `channels`, a device's part of a layer: element
// (row, c) of an image is then unit row * channels + first + c.
//
// The step is an argument, or for a captured step a number in memory (step_at).
//
// dropout: a thread computes four elements, with one draw where they share a block (as they do in an
//   undivided layer). Reads x and writes y once. dropout_mask writes the mask as bytes.
// bias_relu_dropout: the ops after a dense layer's product, in one pass and in place; rounds where the
//   three passes would.
// relu_dropout_gradient: draws nothing, as the output is above 0 exactly where a unit passed both.
// Tested against reference/dropout.py.

struct Words {
    unsigned w[4];
};

__device__ __forceinline__ unsigned high_product(unsigned a, unsigned b) {
    return (unsigned)(((unsigned long long)a * b) >> 32);
}

__device__ Words philox(unsigned block, unsigned image, unsigned step, unsigned purpose, unsigned k0,
                        unsigned k1) {
    unsigned c0 = block, c1 = image, c2 = step, c3 = purpose;
    for (int round = 0; round < 10; ++round) {
        const unsigned high0 = high_product(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        const unsigned high1 = high_product(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

struct Draw {
    int units;        // elements of one image in the array
    int C, first, channels;
    unsigned image, step, purpose, k0, k1;
    unsigned long long threshold;
};

// Calls use(i, stays) for every element i of the array.
template <class Use>
__device__ void each_draw(index_t n, Draw d, Use use) {
    const int quads = (d.units + 3) / 4;
    EACH(i, n * quads) {
        const index_t image = i / quads;
        const int u0 = (int)(i % quads) * 4;
        Words words;
        long long drawn = -1;
        for (int u = u0; u < u0 + 4 && u < d.units; ++u) {
            const long long unit = (long long)(u / d.C) * d.channels + d.first + u % d.C;
            if (unit / 4 != drawn) {
                drawn = unit / 4;
                words = philox((unsigned)drawn, d.image + (unsigned)image, d.step, d.purpose, d.k0,
                               d.k1);
            }
            use(image * d.units + u, words.w[unit % 4] < d.threshold);
        }
    }
}

extern "C" __global__ void dropout(const T* x, T* y, index_t n, int units, int C, int first,
                                   int channels, unsigned image, unsigned step,
                                   const unsigned* step_at, unsigned purpose, unsigned k0, unsigned k1,
                                   unsigned long long threshold, A factor) {
    if (step_at) step = *step_at;
    const Draw d = {units, C, first, channels, image, step, purpose, k0, k1, threshold};
    each_draw(n, d, [=](index_t i, bool stays) {
        y[i] = store(load(x[i]) * (stays ? factor : (A)0));
    });
}

extern "C" __global__ void bias_relu_dropout(T* y, index_t n, int units, int C, int first,
                                             int channels, unsigned image, unsigned step,
                                             const unsigned* step_at, unsigned purpose, unsigned k0,
                                             unsigned k1, unsigned long long threshold, A factor,
                                             const A* __restrict__ bias) {
    if (step_at) step = *step_at;
    const Draw d = {units, C, first, channels, image, step, purpose, k0, k1, threshold};
    each_draw(n, d, [=](index_t i, bool stays) {
        A v = load(y[i]);
        if (bias) v += bias[i % C];
        v = load(store(v < 0 ? (A)0 : v));
        y[i] = store(v * (stays ? factor : (A)0));
    });
}

extern "C" __global__ void relu_dropout_gradient(const T* __restrict__ dy, const T* __restrict__ y,
                                                 T* __restrict__ dx, index_t n, A factor) {
    EACH(i, n) {
        const A v = load(dy[i]) * factor;
        dx[i] = store(load(y[i]) > 0 ? v : v * 0);  // a NaN stays a NaN
    }
}

extern "C" __global__ void dropout_mask(bool* __restrict__ mask, index_t n, int units, int C,
                                        int first, int channels, unsigned image, unsigned step,
                                        const unsigned* step_at, unsigned purpose, unsigned k0,
                                        unsigned k1, unsigned long long threshold) {
    if (step_at) step = *step_at;
    const Draw d = {units, C, first, channels, image, step, purpose, k0, k1, threshold};
    each_draw(n, d, [=](index_t i, bool stays) { mask[i] = stays; });
}
