"""Convolution as products of blocks of rows that stay in the cache.

Letters: N batch, H W input, C channels in, K channels out, R S kernel, P Q output, G groups;
L = R·S·C/G is the length of a row of columns. A thread fills the rows of one block, multiplies,
adds the bias and applies the ReLU while all of it is in its cache; the columns of a batch never
exist at once.
"""

import numpy as np
from numba import prange

from minialex.backends.numba.blas import multiply, multiply_by_turned, multiply_turned
from minialex.backends.numba.elementwise import copy, finish
from minialex.utils.jit import compiled, threaded


@compiled
def _fill(x, cols, first, count, c0, cg, size, stride, pad, output):
    """Rows first … first + count - 1 of the columns of one group, into cols[:count]."""
    (r_size, s_size), (p_size, q_size) = size, output
    h_size, w_size, c_size = x.shape[1:]
    numbers, filled, run = x.reshape(-1), cols.reshape(-1), s_size * cg
    for i in range(count):
        row = first + i
        n, p, q = row // (p_size * q_size), row // q_size % p_size, row % q_size
        h0, w0 = p * stride[0] - pad[0], q * stride[1] - pad[1]
        within = w0 >= 0 and w0 + s_size <= w_size
        for r in range(r_size):
            h, to = h0 + r, (i * r_size + r) * run
            start = ((n * h_size + h) * w_size + w0) * c_size + c0
            if h < 0 or h >= h_size:
                filled[to : to + run] = 0
            elif within and cg == c_size:
                copy(numbers, start, filled, to, run)
            else:
                for s in range(s_size):
                    if 0 <= w0 + s < w_size:
                        copy(numbers, start + s * c_size, filled, to + s * cg, cg)
                    else:
                        filled[to + s * cg : to + (s + 1) * cg] = 0


@compiled
def _add(source, start, there, to, count):
    """there[to + j] += source[start + j], as `numbers.copy` does."""
    start, to = np.uint64(start), np.uint64(to)
    for j in range(np.uint64(count)):
        there[to + j] += source[start + j]


@threaded
def forward(x, weights, bias, y, size, stride, pad, output, groups, relu, threads, block):
    """y (N·P·Q, K) from x (N, H, W, C) and weights (L, K)."""
    length, k_size = weights.shape
    cg, kg, numbers = x.shape[3] // groups, k_size // groups, y.reshape(-1)
    rows = y.shape[0]
    blocks = (rows + block - 1) // block
    for t in prange(threads):
        cols = np.empty((block, length), x.dtype)
        for item in range(t, blocks * groups, threads):
            g, first = item % groups, item // groups * block
            count = min(block, rows - first)
            _fill(x, cols, first, count, g * cg, cg, size, stride, pad, output)
            maps = y[first : first + count, g * kg : (g + 1) * kg]
            multiply(cols[:count], weights[:, g * kg : (g + 1) * kg], maps)
            for i in range(first, first + count):
                finish(numbers, i * k_size + g * kg, kg, bias, g * kg, relu)


@threaded
def weight_gradient(x, dy, dw, size, stride, pad, output, groups, threads, block):
    """dw (threads, L, K), a partial sum each, from x (N, H, W, C) and dy (N·P·Q, K)."""
    length, kg = dw.shape[1], dw.shape[2] // groups
    cg = x.shape[3] // groups
    rows = dy.shape[0]
    blocks = (rows + block - 1) // block
    for t in prange(threads):
        cols = np.empty((block, length), x.dtype)
        dw[t] = 0
        for item in range(t, blocks * groups, threads):
            g, first = item % groups, item // groups * block
            count = min(block, rows - first)
            _fill(x, cols, first, count, g * cg, cg, size, stride, pad, output)
            maps = dy[first : first + count, g * kg : (g + 1) * kg]
            multiply_turned(cols[:count], maps, dw[t, :, g * kg : (g + 1) * kg], True)


@threaded
def input_gradient(dy, weights, dx, size, stride, pad, output, groups, threads, images):
    """dx (N, H, W, C) from dy (N·P·Q, K) and weights (L, K), images by images."""
    length, kg = weights.shape[0], weights.shape[1] // groups
    n_size, h_size, w_size, c_size = dx.shape
    cg, sums = c_size // groups, dx.reshape(-1)
    (r_size, s_size), (p_size, q_size) = size, output
    pixels = p_size * q_size
    blocks = (n_size + images - 1) // images
    for t in prange(threads):
        cols = np.empty((images * pixels, length), dy.dtype)
        made = cols.reshape(-1)
        for item in range(t, blocks, threads):
            first = item * images
            count = min(images, n_size - first)
            dx[first : first + count] = 0
            for g in range(groups):
                maps = dy[first * pixels : (first + count) * pixels, g * kg : (g + 1) * kg]
                own = weights[:, g * kg : (g + 1) * kg]
                multiply_by_turned(maps, own, cols[: count * pixels])
                for i in range(count * pixels):
                    n, p, q = first + i // pixels, i // q_size % p_size, i % q_size
                    h0, w0 = p * stride[0] - pad[0], q * stride[1] - pad[1]
                    for r in range(r_size):
                        h = h0 + r
                        if h < 0 or h >= h_size:
                            continue
                        for s in range(s_size):
                            w = w0 + s
                            if w < 0 or w >= w_size:
                                continue
                            to = ((n * h_size + h) * w_size + w) * c_size + g * cg
                            _add(made, i * length + (r * s_size + s) * cg, sums, to, cg)
