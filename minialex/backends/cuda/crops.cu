// Resized images to network input in one pass (paper, section 4.1): crop, subtract the mean, mirror,
// shift the colour, scale; from uint8 to T.
//
// A thread computes one element of the output: reads a byte and a mean, writes one element. offsets
// holds (top, left, mirrored) of each image. The mean is cropped at the same offsets, or at (mean_top,
// mean_left) unless these are negative. A captured step passes the scale in memory (scale_at). The
// output has K channels, of which those beyond the images' C are zeros.
// Tested against reference/crops.py.

extern "C" __global__ void crops(const unsigned char* __restrict__ images,
                                 const int* __restrict__ offsets, const A* __restrict__ mean,
                                 const A* __restrict__ shift, T* __restrict__ out, index_t n, int S,
                                 int C, int K, int crop, int mean_top, int mean_left, A scale,
                                 const A* __restrict__ scale_at) {
    if (scale_at) scale = *scale_at;
    EACH(i, n * crop * crop * K) {
        const int c = (int)(i % K), w = (int)(i / K % crop), h = (int)(i / K / crop % crop);
        if (c >= C) {
            out[i] = store((A)0);
            continue;
        }
        const index_t image = i / ((index_t)K * crop * crop);
        const int top = offsets[image * 3], left = offsets[image * 3 + 1];
        const int column = offsets[image * 3 + 2] ? crop - 1 - w : w;
        const int mh = (mean_top < 0 ? top : mean_top) + h;
        const int mw = (mean_left < 0 ? left : mean_left) + column;
        A v = (A)images[((image * S + top + h) * S + left + column) * C + c];
        v -= mean[(mh * S + mw) * C + c];
        if (shift) v += shift[image * C + c];
        out[i] = store(v * scale);
    }
}
