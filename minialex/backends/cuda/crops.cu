// Resized images to network input in one pass (paper, section 4.1): crop, subtract the mean, mirror,
// shift the colour, scale; from uint8 to T.
//
// A thread computes one pixel of the output: reads a byte and a mean for each channel, writes one
// element. offsets holds (top, left, mirrored) of each image. The mean is cropped at the same offsets,
// or at (mean_top, mean_left) unless these are negative. A captured step passes the scale in memory
// (scale_at). The output has K channels, of which those beyond the images' C are zeros; four are
// written at once. The output has squares of side x side pixels as channels, `count` in a row; those
// beyond the crop are zeros. With a thread for each element, its index would take more instructions than all
// else.
// Tested against reference/crops.py.

#define CHANNELS 4  // written at once

extern "C" __global__ void crops(const unsigned char* __restrict__ images,
                                 const int* __restrict__ offsets, const A* __restrict__ mean,
                                 const A* __restrict__ shift, T* __restrict__ out, index_t n, int S,
                                 int C, int K, int crop, int side, int count, int mean_top,
                                 int mean_left, A scale, const A* __restrict__ scale_at) {
    if (scale_at) scale = *scale_at;
    const int extent = side * count;
    EACH(i, n * extent * extent) {
        const index_t row = i / extent, image = row / extent;
        const int w = (int)(i - row * extent), h = (int)(row - image * extent);
        const bool inside = h < crop && w < crop;
        index_t pixel = i;  // where it is in the output
        if (side > 1) {
            const int down = h / side, across = w / side;
            pixel = ((image * count + down) * count + across) * side * side;
            pixel += (h - down * side) * side + w - across * side;
        }
        const int top = offsets[image * 3], left = offsets[image * 3 + 1];
        const int column = offsets[image * 3 + 2] ? crop - 1 - w : w;
        const int mh = (mean_top < 0 ? top : mean_top) + h;
        const int mw = (mean_left < 0 ? left : mean_left) + column;
        const unsigned char* from = images + ((image * S + top + h) * S + left + column) * C;
        const A* less = mean + ((index_t)mh * S + mw) * C;
        for (int first = 0; first < K; first += CHANNELS) {
            Pack<CHANNELS> four;
#pragma unroll
            for (int j = 0; j < CHANNELS; ++j) {
                const int c = first + j;
                A v = 0;
                if (c < C && inside) {
                    v = (A)from[c] - less[c];
                    if (shift) v += shift[image * C + c];
                    v *= scale;
                }
                four.v[j] = store(v);
            }
            T* to = out + pixel * K + first;
            if (K % CHANNELS == 0) {
                *reinterpret_cast<Pack<CHANNELS>*>(to) = four;
            } else {
#pragma unroll
                for (int j = 0; j < CHANNELS; ++j)
                    if (first + j < K) to[j] = four.v[j];
            }
        }
    }
}
