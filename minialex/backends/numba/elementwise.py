"""What is done number by number: activations, dropout, crops, sums over rows, the update."""

import numpy as np
from numba import prange

from minialex.utils.jit import compiled, threaded


@compiled
def copy(source, start, there, to, count):
    """there[to + j] = source[start + j]; unsigned as in `finish`."""
    start, to = np.uint64(start), np.uint64(to)
    for j in range(np.uint64(count)):
        there[to + j] = source[start + j]


@compiled
def finish(y, start, count, bias, first, relu):
    """Add bias[first : first + count] to y[start : start + count], then the ReLU if there is one.

    Counters are unsigned because a negative index would count from the end, and the check for
    that keeps the loop from being done several numbers at a time.
    """
    zero, start, first = y.dtype.type(0), np.uint64(start), np.uint64(first)
    for k in range(np.uint64(count)):
        v = y[start + k] + bias[first + k]
        y[start + k] = zero if relu and v < zero else v


@threaded
def relu(x, y):
    """y = max(0, x); a NaN stays one."""
    zero = x.dtype.type(0)
    for i in prange(x.size):
        y[i] = zero if x[i] < zero else x[i]


@threaded
def relu_gradient(dy, y, dx):
    """dx = dy where y > 0, else dy times 0."""
    zero = dy.dtype.type(0)
    for i in prange(dy.size):
        dx[i] = dy[i] if y[i] > zero else dy[i] * zero


@threaded
def row_sums(x, partial):
    """partial (threads, K): each thread's share of the rows of x (M, K), in order."""
    threads, k_size = partial.shape
    rows = x.shape[0]
    for t in prange(threads):
        total = partial[t]
        for k in range(k_size):
            total[k] = 0
        for i in range(rows * t // threads, rows * (t + 1) // threads):
            for k in range(k_size):
                total[k] += x[i, k]


@threaded
def sgd(w, v, g, rate, momentum, decay):
    """v <- momentum v - decay rate w - rate g; w <- w + v, in one pass."""
    for i in prange(w.size):
        v[i] = momentum * v[i] - decay * rate * w[i] - rate * g[i]
        w[i] += v[i]


@threaded
def crops(images, top, left, flip, mean, mean_top, mean_left, shift, scale, out):
    """Raw squares to network input: cut, subtract the mean, mirror, shift the colour, scale.

    A row of pixels is one run of numbers, so that vectors are filled; mirrored ones are turned.
    """
    n_size, crop, _, c_size = out.shape
    run = crop * c_size
    for n in prange(n_size):
        shifts, line = np.empty(run, out.dtype), np.empty(run, out.dtype)
        for j in range(run):
            shifts[j] = shift[n, j % c_size]
        x, y = left[n], left[n] if mean_left < 0 else mean_left
        for h in range(crop):
            row = images[n, top[n] + h].reshape(-1)[x * c_size : x * c_size + run]
            average = mean[(top[n] if mean_top < 0 else mean_top) + h].reshape(-1)
            average = average[y * c_size : y * c_size + run]
            there = out[n, h].reshape(-1)
            into = line if flip[n] else there
            for j in range(run):
                into[j] = (out.dtype.type(row[j]) - average[j] + shifts[j]) * scale
            if flip[n]:
                for w in range(crop):
                    for c in range(c_size):
                        there[w * c_size + c] = line[(crop - 1 - w) * c_size + c]


@compiled
def _philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds, as in minialex/rng.py."""
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3)
    k0, k1 = np.uint64(k0), np.uint64(k1)
    half = np.uint64(32)
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1 = ((p1 >> half) ^ c1 ^ k0) & low, p1 & low
        c2, c3 = ((p0 >> half) ^ c3 ^ k1) & low, p0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3


@threaded
def dropout_mask(mask, c_size, first_image, first_channel, channels, step, purpose, k0, k1, keep):
    """mask (N, U): a unit stays if its word is below `keep`; as the generic op draws it."""
    n_size, units = mask.shape
    for n in prange(n_size):
        drawn = np.int64(-1)
        w0 = w1 = w2 = w3 = np.uint64(0)
        for u in range(units):
            unit = np.int64(u // c_size) * channels + first_channel + u % c_size
            if unit // 4 != drawn:
                drawn = unit // 4
                w0, w1, w2, w3 = _philox(drawn, first_image + n, step, purpose, k0, k1)
            lane = unit % 4
            word = w0 if lane == 0 else w1 if lane == 1 else w2 if lane == 2 else w3
            mask[n, u] = word < keep
