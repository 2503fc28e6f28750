// Space to depth, for a first convolution with a stride: squares of side x side pixels of x, as channels
// of one pixel, turn R x S kernels with a stride of `side` into kernels of R / side x S / side (rounded
// up) with stride 1, whose channels can be copied 16 bytes at a time:
//
//   x (N, H, W, C) -> (N, down, across, side side C)      W (R, S, C, K) -> (R', S', side side C, K)
//
// What is beyond x or beyond W is zero. The gradient of the blocks' weights is that of W at the same
// places. A thread of blocks_of_images copies one pixel, of the others one number.
// Tested against Backend.convolution and its gradients.

extern "C" __global__ void blocks_of_images(const T* __restrict__ x, T* __restrict__ out, index_t n,
                                            int H, int W, int C, int side, int down, int across,
                                            int top, int left) {
    const int height = down * side, width = across * side;
    EACH(i, n * height * width) {
        const index_t row = i / width, image = row / height;
        const int w = (int)(i - row * width), h = (int)(row - image * height);
        const int p = h / side, q = w / side, y = h - top, z = w - left;
        const bool inside = y >= 0 && y < H && z >= 0 && z < W;
        const index_t square = (image * down + p) * across + q;
        T* to = out + (square * side * side + (h - p * side) * side + w - q * side) * C;
        const T* from = x + ((image * H + y) * W + z) * C;
        for (int c = 0; c < C; ++c) to[c] = inside ? from[c] : store((A)0);
    }
}

// Where weight (r, s, c) is among the blocks' weights, which have S' = across columns.
__device__ __forceinline__ index_t place(int r, int s, int c, int C, int side, int across) {
    const index_t square = (index_t)(r / side) * across + s / side;
    return (square * side * side + r % side * side + s % side) * C + c;
}

extern "C" __global__ void blocks_of_weights(const T* __restrict__ weight, T* __restrict__ out, int R,
                                             int S, int C, int K, int side, int down, int across) {
    EACH(i, (index_t)down * side * across * side * C * K) {
        const int k = (int)(i % K), c = (int)(i / K % C);
        const int s = (int)(i / K / C % (across * side)), r = (int)(i / K / C / (across * side));
        const bool inside = r < R && s < S;
        out[place(r, s, c, C, side, across) * K + k] =
            inside ? weight[(((index_t)r * S + s) * C + c) * K + k] : store((A)0);
    }
}

extern "C" __global__ void weights_of_blocks(const A* __restrict__ blocks, A* __restrict__ dw, int R,
                                             int S, int C, int K, int side, int across) {
    EACH(i, (index_t)R * S * C * K) {
        const int k = (int)(i % K), c = (int)(i / K % C);
        const int s = (int)(i / K / C % S), r = (int)(i / K / C / S);
        dw[i] = blocks[place(r, s, c, C, side, across) * K + k];
    }
}
