// Bias and ReLU in place after a matrix product, and the gradient of the bias.
//
// bias_relu: a thread computes one element; reads and writes y once.
// column_sums: block (i, j) sums 32 columns of one chunk of rows: each thread every eighth row, then
//   the eight sums in order through shared memory. column_totals adds the partial sums of all chunks
//   the same way. The chunks depend on the shape alone, so the bits never change. Reads x once.
// Tested against reference/dense.py.

#define COLUMNS 32
#define LINES 8

extern "C" __global__ void bias_relu(T* __restrict__ y, const A* __restrict__ bias, index_t n, int K,
                                     int relu) {
    EACH(i, n) {
        A v = load(y[i]);
        if (bias) v += bias[i % K];
        y[i] = store(relu && v < 0 ? (A)0 : v);
    }
}

// The sum of `value(row)` over this block's rows for each of its columns; valid where threadIdx.y == 0.
template <class Value>
__device__ A sum_down(index_t low, index_t high, bool column, Value value) {
    __shared__ A lines[LINES][COLUMNS];
    A sum = 0;
    if (column)
        for (index_t row = low + threadIdx.y; row < high; row += LINES) sum += value(row);
    lines[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    A total = 0;
    for (int line = 0; line < LINES; ++line) total += lines[line][threadIdx.x];
    return total;
}

extern "C" __global__ void column_sums(const T* __restrict__ x, A* __restrict__ partial, index_t rows,
                                       int K, int chunk) {
    const int k = blockIdx.x * COLUMNS + threadIdx.x;
    const index_t low = (index_t)blockIdx.y * chunk;
    const index_t high = low + chunk < rows ? low + chunk : rows;
    const A total = sum_down(low, high, k < K, [=](index_t row) { return load(x[row * K + k]); });
    if (threadIdx.y == 0 && k < K) partial[(index_t)blockIdx.y * K + k] = total;
}

extern "C" __global__ void column_totals(const A* __restrict__ partial, A* __restrict__ sums,
                                         int chunks, int K) {
    const int k = blockIdx.x * COLUMNS + threadIdx.x;
    const A total =
        sum_down(0, chunks, k < K, [=](index_t row) { return partial[row * K + k]; });
    if (threadIdx.y == 0 && k < K) sums[k] = total;
}
