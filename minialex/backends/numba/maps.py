"""Pooling and response normalisation, one pass over memory each."""

import numpy as np
from numba import prange

from minialex.utils.jit import compiled, threaded

# ------------------------------------------------------------------------------------ pooling


@threaded
def max_pool(x, y, which, window, stride, pad):
    """y, which (N, P, Q, C): the first maximum wins, a NaN over all, padding never."""
    n_size, p_size, q_size, c_size = y.shape
    h_size, w_size = x.shape[1], x.shape[2]
    for item in prange(n_size * p_size):
        n, p = item // p_size, item % p_size
        for q in range(q_size):
            best, tap = y[n, p, q], which[n, p, q]
            for c in range(c_size):
                best[c] = -np.inf
                tap[c] = 0
            found = False
            for r in range(window[0]):
                h = p * stride[0] - pad[0] + r
                if h < 0 or h >= h_size:
                    continue
                for s in range(window[1]):
                    w = q * stride[1] - pad[1] + s
                    if w < 0 or w >= w_size:
                        continue
                    here, number = x[n, h, w], r * window[1] + s
                    if not found:
                        for c in range(c_size):
                            best[c] = here[c]
                            tap[c] = number
                        found = True
                        continue
                    for c in range(c_size):
                        v, b = here[c], best[c]
                        wins = v > b or (v != v and b == b)
                        best[c] = v if wins else b
                        tap[c] = number if wins else tap[c]


@threaded
def max_pool_gradient(dy, which, dx, window, stride, pad):
    """Each dy to its window's maximum; an image at a time, so that sums have one order."""
    n_size, p_size, q_size, c_size = dy.shape
    h_size, w_size = dx.shape[1], dx.shape[2]
    zero = dy.dtype.type(0)
    for n in prange(n_size):
        dx[n] = zero
        for p in range(p_size):
            for q in range(q_size):
                slope, tap = dy[n, p, q], which[n, p, q]
                for r in range(window[0]):
                    h = p * stride[0] - pad[0] + r
                    if h < 0 or h >= h_size:
                        continue
                    for s in range(window[1]):
                        w = q * stride[1] - pad[1] + s
                        if w < 0 or w >= w_size:
                            continue
                        there, number = dx[n, h, w], r * window[1] + s
                        for c in range(c_size):
                            there[c] += slope[c] if tap[c] == number else zero


# ------------------------------------------------------------------------------------ normalisation


@compiled
def _scales(pixel, squares, scale, half, k, alpha):
    """scale_c = k + α Σ x² over the window of c; `squares` has rims of zeros."""
    size = pixel.shape[0]
    inner = squares[half : half + size]
    for c in range(size):
        inner[c] = pixel[c] * pixel[c]
    for c in range(size):
        scale[c] = squares[c]
    for j in range(1, 2 * half + 1):
        shifted = squares[j : j + size]
        for c in range(size):
            scale[c] += shifted[c]
    for c in range(size):
        scale[c] = k + alpha * scale[c]


@compiled
def _powers(scale, power, beta):
    """scale^-β; the paper's 3/4 by two square roots, several at a time."""
    one = scale.dtype.type(1)
    if beta == 0.75:
        for c in range(scale.shape[0]):
            root = np.sqrt(scale[c])
            power[c] = one / (root * np.sqrt(root))
    else:
        for c in range(scale.shape[0]):
            power[c] = scale[c] ** -beta


@threaded
def response_norm(x, y, group, n, k, alpha, beta, threads):
    """y_c = x_c s_c^-β over x (pixels, C)."""
    pixels, c_size = x.shape
    half = n // 2
    for t in prange(threads):
        squares = np.zeros(group + 2 * half, x.dtype)
        scale, power = np.empty(group, x.dtype), np.empty(group, x.dtype)
        for i in range(pixels * t // threads, pixels * (t + 1) // threads):
            for g in range(0, c_size, group):
                pixel, out = x[i, g : g + group], y[i, g : g + group]
                _scales(pixel, squares, scale, half, k, alpha)
                _powers(scale, power, beta)
                for c in range(group):
                    out[c] = pixel[c] * power[c]


@threaded
def response_norm_gradient(dy, x, dx, group, n, k, alpha, beta, threads):
    """dx_c = dy_c s_c^-β - 2αβ x_c Σ dy_j x_j s_j^(-β-1); s is computed again."""
    pixels, c_size = x.shape
    half, factor = n // 2, x.dtype.type(2) * alpha * beta
    for t in prange(threads):
        squares = np.zeros(group + 2 * half, x.dtype)
        ratios = np.zeros(group + 2 * half, x.dtype)
        scale, power = np.empty(group, x.dtype), np.empty(group, x.dtype)
        for i in range(pixels * t // threads, pixels * (t + 1) // threads):
            for g in range(0, c_size, group):
                pixel, slope, out = x[i, g : g + group], dy[i, g : g + group], dx[i, g : g + group]
                _scales(pixel, squares, scale, half, k, alpha)
                _powers(scale, power, beta)
                inner = ratios[half : half + group]
                for c in range(group):
                    out[c] = slope[c] * power[c]
                    inner[c] = out[c] * pixel[c] / scale[c]
                for c in range(group):
                    scale[c] = ratios[c]
                for j in range(1, 2 * half + 1):
                    shifted = ratios[j : j + group]
                    for c in range(group):
                        scale[c] += shifted[c]
                for c in range(group):
                    out[c] -= factor * pixel[c] * scale[c]
