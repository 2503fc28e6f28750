"""3 x 3 convolution with 16 multiplications for four outputs instead of 36 (Winograd, F(2x2, 3x3)).

A tile of 4 x 4 inputs gives 2 x 2 outputs (Lavin & Gray, 2015):

    Y = Aᵀ [ (G g Gᵀ) * (Bᵀ d B) ] A     Bᵀ = 1  0 -1  0    G = 1    0    0    Aᵀ = 1  1  1  0
                                              0  1  1  0        1/2  1/2  1/2       0  1 -1 -1
                                              0 -1  1  0        1/2 -1/2  1/2
                                              0  1  0 -1        0    0    1

The products of all tiles and channels are 16 matrix products. What is left is additions, done for
all channels of a pixel at a time. Letters: N batch, H W input, C channels in, K channels out, P Q
output, G groups; a tile is numbered within its block of images.
"""

import numpy as np
from numba import prange

from minialex.backends.cpu.blas import multiply
from minialex.backends.cpu.numbers import finish
from minialex.jit import compiled, threaded


@threaded
def weights(w, u, turned, groups):
    """u (16, C/G, K) = G g Gᵀ from w (3, 3, C/G, K); with `turned` those of the input gradient.

    These are the kernels turned by 180 degrees from K to C: w (3, 3, C/G, K), u (16, K/G, C).
    """
    half = w.dtype.type(0.5)
    cg, k_size = w.shape[2:]
    kg = k_size // groups
    for row in prange(u.shape[1]):
        g, t = np.empty((3, 3), w.dtype), np.empty((4, 3), w.dtype)
        for column in range(u.shape[2]):
            for r in range(3):
                for s in range(3):
                    if turned:
                        g[r, s] = w[2 - r, 2 - s, column % cg, column // cg * kg + row]
                    else:
                        g[r, s] = w[r, s, row, column]
            for s in range(3):
                t[0, s] = g[0, s]
                t[1, s] = half * (g[0, s] + g[1, s] + g[2, s])
                t[2, s] = half * (g[0, s] - g[1, s] + g[2, s])
                t[3, s] = g[2, s]
            for a in range(4):
                u[4 * a, row, column] = t[a, 0]
                u[4 * a + 1, row, column] = half * (t[a, 0] + t[a, 1] + t[a, 2])
                u[4 * a + 2, row, column] = half * (t[a, 0] - t[a, 1] + t[a, 2])
                u[4 * a + 3, row, column] = t[a, 2]


@threaded
def forward(x, u, bias, y, pad, groups, relu, threads, images):
    """y (N, P, Q, K) from x (N, H, W, C) and u (16, C/G, K), `images` at a time."""
    n_size, p_size, q_size, k_size = y.shape
    cg, kg = x.shape[3] // groups, k_size // groups
    rows, columns = (p_size + 1) // 2, (q_size + 1) // 2  # of tiles
    tiles, blocks = rows * columns, (n_size + images - 1) // images
    for t in prange(threads):
        padded = np.zeros((2 * rows + 2, 2 * columns + 2, cg), x.dtype)
        v = np.empty((16, images * tiles, cg), x.dtype)
        m = np.empty((16, images * tiles, kg), x.dtype)
        room = np.empty(16 * max(cg, kg), x.dtype)
        for item in range(t, blocks * groups, threads):
            g, first = item % groups, item // groups * images
            count = min(images, n_size - first)
            for i in range(count):
                _pad(x, first + i, g * cg, cg, pad, padded)
                for tile in range(tiles):
                    _input(padded, tile // columns, tile % columns, v, i * tiles + tile, room)
            for a in range(16):
                multiply(
                    v[a, : count * tiles],
                    u[a, :, g * kg : (g + 1) * kg],
                    m[a, : count * tiles],
                )
            for i in range(count):
                for tile in range(tiles):
                    p, q = 2 * (tile // columns), 2 * (tile % columns)
                    _output(m, i * tiles + tile, y, first + i, p, q, g * kg, bias, relu, room)


@compiled
def _pad(x, n, c0, cg, pad, padded):
    """The channels of one group of image n, zeros around them."""
    _, h_size, w_size, c_size = x.shape
    numbers, there = x.reshape(-1), padded.reshape(-1)
    width = padded.shape[1]
    for h in range(h_size):
        if 0 <= h + pad[0] < padded.shape[0]:
            for w in range(w_size):
                if 0 <= w + pad[1] < width:
                    start = ((n * h_size + h) * w_size + w) * c_size + c0
                    to = ((h + pad[0]) * width + w + pad[1]) * cg
                    _sum(numbers, start, 0, numbers, start, there, to, cg)


@compiled
def _input(padded, row, column, v, tile, room):
    """Bᵀ d B of the tile at 2 row, 2 column, for all channels."""
    width, cg = padded.shape[1], padded.shape[2]
    d, out, plane = padded.reshape(-1), v.reshape(-1), v.shape[1] * cg
    corner, line = (2 * row * width + 2 * column) * cg, width * cg
    for j in range(4):  # Bᵀ d, a column at a time
        at, to = corner + j * cg, 4 * j * cg
        _sum(d, at, -1, d, at + 2 * line, room, to, cg)
        _sum(d, at + line, 1, d, at + 2 * line, room, to + cg, cg)
        _sum(d, at + 2 * line, -1, d, at + line, room, to + 2 * cg, cg)
        _sum(d, at + line, -1, d, at + 3 * line, room, to + 3 * cg, cg)
    for i in range(4):  # times B, a row at a time
        at, to = i * cg, 4 * i * plane + tile * cg
        _sum(room, at, -1, room, at + 8 * cg, out, to, cg)
        _sum(room, at + 4 * cg, 1, room, at + 8 * cg, out, to + plane, cg)
        _sum(room, at + 8 * cg, -1, room, at + 4 * cg, out, to + 2 * plane, cg)
        _sum(room, at + 4 * cg, -1, room, at + 12 * cg, out, to + 3 * plane, cg)


@compiled
def _output(m, tile, y, n, p, q, k0, bias, relu, room):
    """Aᵀ m A to the outputs from (p, q) on, those that there are; then the bias and the ReLU."""
    _, p_size, q_size, k_size = y.shape
    kg = m.shape[2]
    numbers, out, plane = m.reshape(-1), y.reshape(-1), m.shape[1] * kg
    for j in range(4):
        at, to = j * plane + tile * kg, 2 * j * kg
        _sum3(numbers, at, 1, at + 4 * plane, at + 8 * plane, room, to, kg)
        _sum3(numbers, at + 4 * plane, -1, at + 8 * plane, at + 12 * plane, room, to + kg, kg)
    for i in range(min(2, p_size - p)):
        for j in range(min(2, q_size - q)):
            at, to = (2 * j + i) * kg, ((n * p_size + p + i) * q_size + q + j) * k_size + k0
            if j == 0:
                _sum3(room, at, 1, at + 2 * kg, at + 4 * kg, out, to, kg)
            else:
                _sum3(room, at, -1, at + 2 * kg, at + 4 * kg, out, to, kg)
            finish(out, to, kg, bias, k0, relu)


@compiled
def _sum(a, i, sign, b, j, out, o, count):
    """out[o:] = a[i:] + sign b[j:]; unsigned counters, see `numbers.finish`."""
    i, j, o = np.uint64(i), np.uint64(j), np.uint64(o)
    if sign > 0:
        for c in range(np.uint64(count)):
            out[o + c] = a[i + c] + b[j + c]
    elif sign < 0:
        for c in range(np.uint64(count)):
            out[o + c] = a[i + c] - b[j + c]
    else:
        for c in range(np.uint64(count)):
            out[o + c] = a[i + c]


@compiled
def _sum3(a, i, sign, j, k, out, o, count):
    """out[o:] = a[i:] + sign a[j:] + sign a[k:]."""
    i, j, k, o = np.uint64(i), np.uint64(j), np.uint64(k), np.uint64(o)
    if sign > 0:
        for c in range(np.uint64(count)):
            out[o + c] = a[i + c] + a[j + c] + a[k + c]
    else:
        for c in range(np.uint64(count)):
            out[o + c] = a[i + c] - a[j + c] - a[k + c]
