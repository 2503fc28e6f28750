// Losses over scores (N, K) and their gradients, in one pass each, a block per row.
//
// softmax_cross_entropy: reads a row three times (from cache), writes (p - target) / count and the
//   row's loss. soft_cross_entropy: the same for targets (N, K), which it reads twice.
// hinge: the multiclass hinge loss, like softmax_cross_entropy. softmax: probabilities.
// row_total: one block sums the N row losses in a fixed order.
// A captured step in fp16 reads the loss scale, by which the factor is multiplied, from memory.
// keep_loss: stores a captured step's loss in a ring buffer of `size` rows; sets the flag `halted`
//   if it is not finite.
// next_loss_scale: stores the scale that the next step takes (precision.py, `LossScale`), and
//   whether this one's update is left out.
// Tested against reference/losses.py.

#define THREADS 128

// Reduces one value per thread over the block, in a fixed tree; every thread gets the result.
template <class Op>
__device__ A block_reduce(A value, Op op) {
    __shared__ A values[THREADS];
    __syncthreads();  // the result of the previous reduction has been read
    values[threadIdx.x] = value;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            values[threadIdx.x] = op(values[threadIdx.x], values[threadIdx.x + half]);
    }
    __syncthreads();
    return values[0];
}

struct Max {
    // a NaN wins, so that a bad score shows in the loss
    __device__ A operator()(A a, A b) const { return a != a || a > b ? a : b; }
};
struct Plus {
    __device__ A operator()(A a, A b) const { return a + b; }
};

__device__ A row_maximum(const T* __restrict__ row, int K) {
    A top = load(row[0]);
    for (int k = threadIdx.x; k < K; k += THREADS) top = Max()(top, load(row[k]));
    return block_reduce(top, Max());
}

__device__ A row_sum(const T* __restrict__ row, int K, A top) {
    A sum = 0;
    for (int k = threadIdx.x; k < K; k += THREADS) sum += exp(load(row[k]) - top);
    return block_reduce(sum, Plus());
}

extern "C" __global__ void softmax_cross_entropy(const T* __restrict__ scores,
                                                 const long long* __restrict__ labels,
                                                 T* __restrict__ dscores, A* __restrict__ losses,
                                                 int N, int K, A factor,
                                                 const A* __restrict__ scale_at) {
    if (scale_at) factor *= *scale_at;
    for (int n = blockIdx.x; n < N; n += gridDim.x) {
        const T* row = scores + (index_t)n * K;
        const A top = row_maximum(row, K), sum = row_sum(row, K, top);
        const long long label = labels[n];
        for (int k = threadIdx.x; k < K; k += THREADS) {
            const A p = exp(load(row[k]) - top) / sum;
            dscores[(index_t)n * K + k] = store((p - (k == label ? 1 : 0)) * factor);
        }
        if (threadIdx.x == 0) losses[n] = log(sum) - (load(row[label]) - top);
    }
}

extern "C" __global__ void soft_cross_entropy(const T* __restrict__ scores,
                                              const A* __restrict__ targets,
                                              T* __restrict__ dscores, A* __restrict__ losses,
                                              int N, int K, A factor,
                                              const A* __restrict__ scale_at) {
    if (scale_at) factor *= *scale_at;
    for (int n = blockIdx.x; n < N; n += gridDim.x) {
        const T* row = scores + (index_t)n * K;
        const A* target = targets + (index_t)n * K;
        const A top = row_maximum(row, K), sum = row_sum(row, K, top);
        A weight = 0, along = 0;
        for (int k = threadIdx.x; k < K; k += THREADS) {
            weight += target[k];
            along += target[k] * (load(row[k]) - top);
        }
        weight = block_reduce(weight, Plus());
        along = block_reduce(along, Plus());
        for (int k = threadIdx.x; k < K; k += THREADS) {
            const A p = exp(load(row[k]) - top) / sum;
            dscores[(index_t)n * K + k] = store((p * weight - target[k]) * factor);
        }
        if (threadIdx.x == 0) losses[n] = weight * log(sum) - along;
    }
}

extern "C" __global__ void hinge(const T* __restrict__ scores, const long long* __restrict__ labels,
                                 T* __restrict__ dscores, A* __restrict__ losses, int N, int K,
                                 A margin, A factor, const A* __restrict__ scale_at) {
    if (scale_at) factor *= *scale_at;
    for (int n = blockIdx.x; n < N; n += gridDim.x) {
        const T* row = scores + (index_t)n * K;
        const long long label = labels[n];
        const A own = load(row[label]);
        A sum = 0, violations = 0;
        for (int k = threadIdx.x; k < K; k += THREADS) {
            const A over = load(row[k]) - own + margin;
            const bool counts = k != label && !(over <= 0);
            if (counts) sum += over, violations += 1;
            if (k != label) dscores[(index_t)n * K + k] = store(counts ? factor : (A)0);
        }
        sum = block_reduce(sum, Plus());
        violations = block_reduce(violations, Plus());
        if (threadIdx.x == 0) {
            losses[n] = sum;
            dscores[(index_t)n * K + label] = store(-violations * factor);
        }
    }
}

extern "C" __global__ void softmax(const T* __restrict__ scores, T* __restrict__ p, int N, int K) {
    for (int n = blockIdx.x; n < N; n += gridDim.x) {
        const T* row = scores + (index_t)n * K;
        const A top = row_maximum(row, K), sum = row_sum(row, K, top);
        for (int k = threadIdx.x; k < K; k += THREADS)
            p[(index_t)n * K + k] = store(exp(load(row[k]) - top) / sum);
    }
}

extern "C" __global__ void row_total(const A* __restrict__ losses, A* __restrict__ total, int N,
                                     A factor) {
    A sum = 0;
    for (int n = threadIdx.x; n < N; n += THREADS) sum += losses[n];
    sum = block_reduce(sum, Plus());
    if (threadIdx.x == 0) *total = sum * factor;
}

extern "C" __global__ void keep_loss(const A* __restrict__ loss, const unsigned* __restrict__ step,
                                     A* __restrict__ ring, int size, int columns, int column,
                                     int* __restrict__ halted) {
    if (blockIdx.x || threadIdx.x) return;
    ring[*step % size * columns + column] = *loss;
    if (!(*loss - *loss == 0)) *halted = 1;
}

extern "C" __global__ void next_loss_scale(A* __restrict__ scaling, int* __restrict__ flags,
                                           const int* __restrict__ halted, A patience, A largest,
                                           const unsigned* __restrict__ step,
                                           const A* __restrict__ known, A* __restrict__ ring,
                                           int size, int columns) {
    if (blockIdx.x || threadIdx.x) return;
    A scale = scaling[0], good = scaling[1] + 1;
    scaling[4] = scaling[3] - *known;
    scaling[2] = 1 / scale;
    flags[1] = flags[0] || *halted;
    if (flags[0]) {
        scale = scale > 2 ? scale / 2 : (A)1;
        good = 0;
        scaling[3] += 1;
    } else if (good == patience) {
        scale = 2 * scale < largest ? 2 * scale : largest;
        good = 0;
    }
    A* row = ring + *step % size * columns + columns - 3;
    scaling[0] = row[0] = scale;
    scaling[1] = row[1] = good;
    row[2] = scaling[3];
}
