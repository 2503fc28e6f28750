// Batch normalisation of x (rows, C), by channel:
//
//   z = (x - mean) / sqrt(variance + epsilon),  y = weight z + bias
//   dx = weight / sqrt(variance + epsilon) (dy - dbias / rows - z dweight / rows)
//
// squared_deviations, weight_products: a thread sums one channel over one chunk of rows;
//   neighbouring threads have neighbouring channels. bias.cu adds the chunks, which depend on the
//   shape alone, and computes the mean and dbias. Reads x (and dy) once.
// batch_norm, batch_norm_gradient: a thread computes one element; reads x (and dy), writes y or dx.
// running_average: a thread updates one number of the running statistics: reads two, writes one. A
//   captured step changes nothing if it is `stopped`.
// Tested against reference/batch_norm.py.

extern "C" __global__ void squared_deviations(const T* __restrict__ x, const A* __restrict__ mean,
                                              A* __restrict__ partial, index_t rows, int C,
                                              int chunk) {
    const index_t chunks = (rows + chunk - 1) / chunk;
    EACH(i, chunks * C) {
        const int c = (int)(i % C);
        const index_t low = i / C * chunk, high = low + chunk < rows ? low + chunk : rows;
        A sum = 0;
        for (index_t row = low; row < high; ++row) {
            const A v = load(x[row * C + c]) - mean[c];
            sum += v * v;
        }
        partial[i] = sum;
    }
}

extern "C" __global__ void weight_products(const T* __restrict__ dy, const T* __restrict__ x,
                                           const A* __restrict__ mean,
                                           const A* __restrict__ variance, A* __restrict__ partial,
                                           index_t rows, int C, int chunk, A epsilon) {
    const index_t chunks = (rows + chunk - 1) / chunk;
    EACH(i, chunks * C) {
        const int c = (int)(i % C);
        const index_t low = i / C * chunk, high = low + chunk < rows ? low + chunk : rows;
        A sum = 0;
        for (index_t row = low; row < high; ++row)
            sum += load(dy[row * C + c]) * (load(x[row * C + c]) - mean[c]);
        partial[i] = sum / sqrt(variance[c] + epsilon);
    }
}

extern "C" __global__ void batch_norm(const T* __restrict__ x, const A* __restrict__ weight,
                                      const A* __restrict__ bias, const A* __restrict__ mean,
                                      const A* __restrict__ variance, T* __restrict__ y, index_t n,
                                      int C, A epsilon) {
    EACH(i, n) {
        const int c = (int)(i % C);
        const A z = (load(x[i]) - mean[c]) / sqrt(variance[c] + epsilon);
        y[i] = store(weight[c] * z + bias[c]);
    }
}

extern "C" __global__ void batch_norm_gradient(const T* __restrict__ dy, const T* __restrict__ x,
                                               const A* __restrict__ weight,
                                               const A* __restrict__ mean,
                                               const A* __restrict__ variance,
                                               const A* __restrict__ dweight,
                                               const A* __restrict__ dbias, T* __restrict__ dx,
                                               index_t n, int C, index_t rows, A epsilon) {
    EACH(i, n) {
        const int c = (int)(i % C);
        const A inverse = 1 / sqrt(variance[c] + epsilon);
        const A z = (load(x[i]) - mean[c]) * inverse;
        const A centred = load(dy[i]) - dbias[c] / rows - z * dweight[c] / rows;
        dx[i] = store(weight[c] * inverse * centred);
    }
}

extern "C" __global__ void running_average(A* average, const A* __restrict__ latest, index_t n,
                                           A keep, A share, const int* __restrict__ stopped) {
    if (stopped && *stopped) return;
    EACH(i, n) average[i] = keep * average[i] + share * latest[i];
}
