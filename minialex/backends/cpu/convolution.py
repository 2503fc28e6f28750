"""Convolution as products of blocks of rows that stay in the cache.

Letters: N batch, H W input, C channels in, K channels out, R S kernel, P Q output, G groups;
L = R·S·C/G is the length of a row of columns. A thread fills the rows of one block, multiplies,
adds the bias and applies the ReLU while all of it is in its cache; the columns of a batch never
exist at once.
"""

import numpy as np
from numba import njit, prange


@njit(nogil=True, cache=True, error_model="numpy")
def _fill(x, cols, first, count, c0, cg, size, stride, pad, output):
    """Rows first … first + count - 1 of the columns of one group, into cols[:count]."""
    (r_size, s_size), (p_size, q_size) = size, output
    h_size, w_size = x.shape[1], x.shape[2]
    whole = cg == x.shape[3]
    for i in range(count):
        row = first + i
        n, p, q = row // (p_size * q_size), row // q_size % p_size, row % q_size
        h0, w0 = p * stride[0] - pad[0], q * stride[1] - pad[1]
        at = 0
        for r in range(r_size):
            h = h0 + r
            if h < 0 or h >= h_size:
                for j in range(s_size * cg):
                    cols[i, at + j] = 0
                at += s_size * cg
            elif whole and w0 >= 0 and w0 + s_size <= w_size:
                run = x[n, h].reshape(-1)[w0 * cg : (w0 + s_size) * cg]
                for j in range(s_size * cg):
                    cols[i, at + j] = run[j]
                at += s_size * cg
            else:
                for s in range(s_size):
                    w = w0 + s
                    if w < 0 or w >= w_size:
                        for j in range(cg):
                            cols[i, at + j] = 0
                    else:
                        for j in range(cg):
                            cols[i, at + j] = x[n, h, w, c0 + j]
                    at += cg


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def forward(x, weights, bias, y, size, stride, pad, output, relu, threads, block):
    """y (N·P·Q, K) from x (N, H, W, C) and weights (G, L, K/G)."""
    groups, length, kg = weights.shape
    cg = x.shape[3] // groups
    rows = y.shape[0]
    blocks = (rows + block - 1) // block
    for t in prange(threads):
        cols = np.empty((block, length), x.dtype)
        product = np.empty((block, kg), x.dtype)
        for item in range(t, blocks * groups, threads):
            g, first = item % groups, item // groups * block
            count = min(block, rows - first)
            _fill(x, cols, first, count, g * cg, cg, size, stride, pad, output)
            np.dot(cols[:count], weights[g], product[:count])
            for i in range(count):
                for k in range(kg):
                    v = product[i, k] + bias[g * kg + k]
                    y[first + i, g * kg + k] = 0 if relu and v < 0 else v


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def weight_gradient(x, dy, dw, size, stride, pad, output, threads, block):
    """dw (threads, G, L, K/G), a partial sum each, from x (N, H, W, C) and dy (N·P·Q, K)."""
    groups, length, kg = dw.shape[1:]
    cg = x.shape[3] // groups
    rows = dy.shape[0]
    blocks = (rows + block - 1) // block
    for t in prange(threads):
        cols = np.empty((block, length), x.dtype)
        part = np.empty((block, kg), x.dtype)
        product = np.empty((length, kg), x.dtype)
        for item in range(t, blocks * groups, threads):
            g, first = item % groups, item // groups * block
            count = min(block, rows - first)
            _fill(x, cols, first, count, g * cg, cg, size, stride, pad, output)
            for i in range(count):
                for k in range(kg):
                    part[i, k] = dy[first + i, g * kg + k]
            np.dot(cols[:count].T, part[:count], product)
            sums = dw[t, g]
            for i in range(length):
                for k in range(kg):
                    sums[i, k] += product[i, k]


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def input_gradient(dy, weights, dx, size, stride, pad, output, threads, images):
    """dx (N, H, W, C) from dy (N·P·Q, K) and transposed weights (G, K/G, L), images by images."""
    groups, kg, length = weights.shape
    n_size, h_size, w_size = dx.shape[0], dx.shape[1], dx.shape[2]
    cg = dx.shape[3] // groups
    (r_size, s_size), (p_size, q_size) = size, output
    pixels = p_size * q_size
    blocks = (n_size + images - 1) // images
    for t in prange(threads):
        part = np.empty((images * pixels, kg), dy.dtype)
        cols = np.empty((images * pixels, length), dy.dtype)
        for item in range(t, blocks, threads):
            first = item * images
            count = min(images, n_size - first)
            dx[first : first + count] = 0
            for g in range(groups):
                for i in range(count * pixels):
                    for k in range(kg):
                        part[i, k] = dy[first * pixels + i, g * kg + k]
                np.dot(part[: count * pixels], weights[g], cols[: count * pixels])
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
                            at = (r * s_size + s) * cg
                            for c in range(cg):
                                dx[n, h, w, g * cg + c] += cols[i, at + c]
