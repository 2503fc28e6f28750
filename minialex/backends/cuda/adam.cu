// Adam's update (Kingma & Ba, 2015) of one parameter array:
//
//   g' = g + decay w,   m <- beta1 m + rest1 g',   s <- beta2 s + rest2 g'^2,
//   w <- w - size m / (sqrt(s) correction + epsilon)
//
// rest1 and rest2 are 1 - beta1 and 1 - beta2; size and correction hold the rate and what removes
// the bias of m and s towards zero. A thread updates one element: reads w, m, s, g, writes w, m, s:
// 28 bytes per float. All are of type A whatever the layers compute in. A captured step reads size
// and correction from `changing`, and the gradients' factor as sgd.cu does. In fp16 `changing` has a
// row for each number of steps that may have been skipped since the host last knew, which `row` is.
// The step also writes the weights in type T, which the layers read, and changes nothing if it is
// `stopped`, or at size 0.
// Tested against reference/adam.py.

extern "C" __global__ void adam(A* w, A* m, A* s, const A* g, T* copy, index_t n, A size,
                                A correction, A decay, A beta1, A rest1, A beta2, A rest2,
                                A epsilon, const A* __restrict__ changing, int own, int common,
                                const int* __restrict__ stopped, A factor,
                                const A* __restrict__ factor_at, const A* __restrict__ row) {
    if (stopped && *stopped) return;
    if (factor_at) factor = *factor_at;
    if (changing) {
        if (row) changing += (int)*row * (common + 1);
        size = changing[own];
        correction = changing[common];
    }
    if (size == 0) return;
    EACH(i, n) {
        const A slope = g[i] * factor + decay * w[i];
        const A mean = beta1 * m[i] + rest1 * slope, square = beta2 * s[i] + rest2 * slope * slope;
        const A weight = w[i] - size * mean / (sqrt(square) * correction + epsilon);
        m[i] = mean;
        s[i] = square;
        w[i] = weight;
        if (copy) copy[i] = store(weight);
    }
}
