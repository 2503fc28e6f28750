// The paper's update (section 5) for up to 32 parameter arrays in one launch:
//
//   v <- momentum v - decay rate w - rate g,   w <- w + v,   and nothing at a rate of 0
//
// A thread updates one element of each array: reads w, v, g, writes w, v: 20 bytes per float.
// Master weights, velocities and gradients are of type A whatever the layers compute in. A captured
// step reads the rates from memory, and in fp16 the factor that undoes the loss scale; it also
// writes the weights in type T, which the layers read, and changes nothing if it is `stopped`. Op
// by op the factor is 1, so that the compiler rounds both alike.
// Tested against reference/sgd.py.

#define ARRAYS 32

struct Update {
    A* weight;
    A* velocity;
    const A* gradient;
    T* copy;  // or null
    long long size;
    A rate, decay;
};
struct Updates {
    Update of[ARRAYS];
};

extern "C" __global__ void sgd(Updates updates, int count, A momentum,
                               const A* __restrict__ rates, const int* __restrict__ stopped,
                               A factor, const A* __restrict__ factor_at) {
    if (stopped && *stopped) return;
    if (factor_at) factor = *factor_at;
    for (int j = 0; j < count; ++j) {
        const Update u = updates.of[j];
        const A rate = rates ? rates[j] : u.rate;
        if (rate == 0) continue;
        for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < u.size;
             i += (long long)gridDim.x * blockDim.x) {
            const A w = u.weight[i];
            const A v = momentum * u.velocity[i] - u.decay * rate * w -
                        rate * (u.gradient[i] * factor);
            u.velocity[i] = v;
            u.weight[i] = w + v;
            if (u.copy) u.copy[i] = store(w + v);
        }
    }
}
