// Reductions of a whole array: whether every element is finite, and the sum of squares.
//
// find_bad: any thread that meets a NaN or an infinity sets the flag; all write the same value.
// merge_flag: sets the flag if that of another device is set.
// squares: block j sums its share of the array, in doubles and in a fixed order; the shares depend
//   on the size alone, so the bits do not depend on the launch. square_total adds the blocks' sums.
// The array is read once. Tested against the generic backend.

#define THREADS 256

extern "C" __global__ void find_bad(const T* __restrict__ x, int* __restrict__ bad, index_t n) {
    EACH(i, n) {
        const A v = load(x[i]);
        if (!(v - v == 0)) *bad = 1;
    }
}

extern "C" __global__ void merge_flag(const int* __restrict__ flag, int* __restrict__ bad) {
    if (blockIdx.x == 0 && threadIdx.x == 0 && *flag) *bad = 1;
}

__device__ double block_sum(double value) {
    __shared__ double values[THREADS];
    values[threadIdx.x] = value;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) values[threadIdx.x] += values[threadIdx.x + half];
    }
    __syncthreads();
    return values[0];
}

extern "C" __global__ void squares(const T* __restrict__ x, double* __restrict__ sums, index_t n,
                                   index_t share) {
    const index_t low = (index_t)blockIdx.x * share;
    const index_t high = n - low < share ? n : low + share;
    double sum = 0;
    for (index_t i = low + threadIdx.x; i < high; i += THREADS) {
        const double v = (double)load(x[i]);
        sum += v * v;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void square_total(const double* __restrict__ sums, double* __restrict__ total,
                                        int blocks) {
    double sum = 0;
    for (int i = threadIdx.x; i < blocks; i += THREADS) sum += sums[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *total = sum;
}
