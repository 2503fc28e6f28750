// Raw squares to network input (paper, section 4.1): cut, subtract the mean, mirror, shift the
// colour, scale; from bytes to numbers in one pass.
//
// A thread takes one number of the output: reads a byte and a mean, writes a number. place holds
// (top, left, mirrored) of each image; the mean is read where the crop lies, or at (mean_top,
// mean_left) if these are not negative; a captured step reads the scale from memory. Of the K
// channels of the output those behind the C of the images are zeros. Tested against
// reference/crops.py.

extern "C" __global__ void crops(const unsigned char* __restrict__ images,
                                 const int* __restrict__ place, const A* __restrict__ mean,
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
        const int top = place[image * 3], left = place[image * 3 + 1];
        const int column = place[image * 3 + 2] ? crop - 1 - w : w;
        const int mh = (mean_top < 0 ? top : mean_top) + h;
        const int mw = (mean_left < 0 ? left : mean_left) + column;
        A v = (A)images[((image * S + top + h) * S + left + column) * C + c];
        v -= mean[(mh * S + mw) * C + c];
        if (shift) v += shift[image * C + c];
        out[i] = store(v * scale);
    }
}
