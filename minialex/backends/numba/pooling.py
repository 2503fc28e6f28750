"""Maximum and average pooling, one pass over memory each (paper, section 3.4)."""

from math import prod

import numpy as np
from numba import prange

from minialex.backends.base import NO_PADS, Array, Pads, Pair, Shape, output_shape
from minialex.backends.numba.elementwise import copy
from minialex.backends.numba.execution import NumbaExecution
from minialex.backends.numba.team import await_all, await_next, begin, claim_item, finish_item
from minialex.utils.jit import compiled, threaded


class NumbaPooling(NumbaExecution):
    """Pooling."""

    def max_pool(self, x: Array, window: Pair, stride: Pair, pads: Pads) -> tuple[Array, Array]:
        x = np.ascontiguousarray(x)
        output = output_shape(x.shape[1:3], window, stride, pads)
        y = self._new((len(x), *output, x.shape[3]), x)
        corner = (pads[0][0], pads[1][0])
        if self._inference:
            self._as_team(maxima, x, y, window, stride, corner)
            return y, None
        kind = np.uint8 if prod(window) <= 256 else np.int32
        argmax = self._new(y.shape, kind)
        self._run(max_pool, x, y, argmax, window, stride, corner)
        return y, argmax

    def max_pool_gradient(
        self, dy: Array, argmax: Array, input_shape: Shape, window: Pair, stride: Pair, pads: Pads
    ) -> Array:
        dx = self._new(input_shape, dy)
        dy, argmax = np.ascontiguousarray(dy), np.ascontiguousarray(argmax)
        self._run(max_pool_gradient, dy, argmax, dx, window, stride, (pads[0][0], pads[1][0]))
        return dx

    def average_pool(
        self, x: Array, window: Pair, stride: Pair, pads: Pads, counted: Pads = NO_PADS
    ) -> Array:
        x = np.ascontiguousarray(x)
        y = self._new((len(x), *output_shape(x.shape[1:3], window, stride, pads), x.shape[3]), x)
        corner = (pads[0][0], pads[1][0])
        areas = self._areas(x, x.shape[1:3], window, stride, pads, counted)[0, :, :, 0]
        self._run(average_pool, x, y, areas, window, stride, corner)
        return y

    def average_pool_gradient(
        self,
        dy: Array,
        input_shape: Shape,
        window: Pair,
        stride: Pair,
        pads: Pads,
        counted: Pads = NO_PADS,
    ) -> Array:
        dx, corner = self._new(input_shape, dy), (pads[0][0], pads[1][0])
        size = (input_shape[1], input_shape[2])
        areas = self._areas(dy, size, window, stride, pads, counted)[0, :, :, 0]
        share = np.divide(dy, areas[:, :, None], out=self._new(dy.shape, dy))
        self._run(average_pool_gradient, share, dx, window, stride, corner)
        return dx


@threaded
def max_pool(x, y, argmax, window, stride, pad):
    """y, argmax (N, P, Q, C): the first maximum wins, NaN wins over all, padding never wins."""
    n_size, p_size, q_size, c_size = y.shape
    h_size, w_size = x.shape[1], x.shape[2]
    numbers, out, taps = x.reshape(-1), y.reshape(-1), argmax.reshape(-1)
    for item in prange(n_size * p_size):
        n, p = item // p_size, item % p_size
        best, tap = np.empty(c_size, x.dtype), np.empty(c_size, np.int32)
        for q in range(q_size):
            found = False
            for r in range(window[0]):
                h = p * stride[0] - pad[0] + r
                if h < 0 or h >= h_size:
                    continue
                for s in range(window[1]):
                    w = q * stride[1] - pad[1] + s
                    if w < 0 or w >= w_size:
                        continue
                    at = ((n * h_size + h) * w_size + w) * c_size
                    number = np.int32(r * window[1] + s)
                    if found:
                        _improve(numbers, at, best, tap, number)
                    else:
                        _begin(numbers, at, best, tap, number)
                        found = True
            if not found:
                best[:] = -np.inf
                tap[:] = 0
            to = (item * q_size + q) * c_size
            copy(best, 0, out, to, c_size)
            copy(tap, 0, taps, to, c_size)


@compiled
def maxima(job, x, y, window, stride, pad):
    """y alone, by the same rules."""
    begin(job)
    n_size, p_size = y.shape[:2]
    item = claim_item(job.counts[0])
    while item < n_size * p_size:
        _pool_row(x, item // p_size, item % p_size, y, window, stride, pad)
        finish_item(job.counts[0])
        item = claim_item(job.counts[0])
    await_all(job.counts[0], n_size * p_size)
    await_next(job)


@compiled
def _pool_row(x, n, p, y, window, stride, pad):
    """Row p of image n of y (N, P, Q, C)."""
    h_size, w_size = x.shape[1], x.shape[2]
    _, p_size, q_size, c_size = y.shape
    numbers, out = x.reshape(-1), y.reshape(-1)
    h0, h1 = max(0, p * stride[0] - pad[0]), min(h_size, p * stride[0] - pad[0] + window[0])
    for q in range(q_size):
        w0, w1 = max(0, q * stride[1] - pad[1]), min(w_size, q * stride[1] - pad[1] + window[1])
        to = ((n * p_size + p) * q_size + q) * c_size
        if h0 >= h1 or w0 >= w1:
            out[to : to + c_size] = -np.inf
            continue
        copy(numbers, ((n * h_size + h0) * w_size + w0) * c_size, out, to, c_size)
        for h in range(h0, h1):
            for w in range(w0, w1):
                _raise(numbers, ((n * h_size + h) * w_size + w) * c_size, out, to, c_size)


@compiled
def _raise(x, start, y, to, count):
    """y[to:] = the larger of it and x[start:]; a NaN wins."""
    start, to = np.uint64(start), np.uint64(to)
    for c in range(np.uint64(count)):
        v, b = x[start + c], y[to + c]
        y[to + c] = v if (v > b) | (v != v) else b


@compiled
def _begin(x, start, best, tap, number):
    """best, tap (C,) from x[start:]."""
    start = np.uint64(start)
    for c in range(np.uint64(len(best))):
        best[c] = x[start + c]
        tap[c] = number


@compiled
def _improve(x, start, best, tap, number):
    """best, tap (C,): the larger of best and x[start:], and where it is from.

    `tap` is int32: floats are not compared several at a time to choose bytes.
    """
    start = np.uint64(start)
    for c in range(np.uint64(len(best))):
        v, b, before = x[start + c], best[c], tap[c]
        wins = (v > b) | ((v != v) & (b == b))
        best[c] = v if wins else b
        tap[c] = number if wins else before


@threaded
def max_pool_gradient(dy, argmax, dx, window, stride, pad):
    """Each dy goes to its window's maximum; one image at a time, for a fixed order of sums."""
    for n in prange(len(dy)):
        _image_gradient(dy[n], argmax[n], dx[n], window, stride, pad)


@compiled
def _image_gradient(dy, argmax, dx, window, stride, pad):
    """dx (H, W, C) of one image from dy, argmax (P, Q, C)."""
    p_size, q_size, c_size = dy.shape
    h_size, w_size = dx.shape[:2]
    zero = dy.dtype.type(0)
    dx[:] = zero
    for p in range(p_size):
        for q in range(q_size):
            slope, tap = dy[p, q], argmax[p, q]
            for r in range(window[0]):
                h = p * stride[0] - pad[0] + r
                if h < 0 or h >= h_size:
                    continue
                for s in range(window[1]):
                    w = q * stride[1] - pad[1] + s
                    if w < 0 or w >= w_size:
                        continue
                    there, number = dx[h, w], r * window[1] + s
                    for c in range(c_size):
                        there[c] += slope[c] if tap[c] == number else zero


@threaded
def average_pool(x, y, areas, window, stride, pad):
    """y (N, P, Q, C): sums in scan order over areas (P, Q)."""
    n_size, p_size, q_size, c_size = y.shape
    h_size, w_size = x.shape[1], x.shape[2]
    zero = x.dtype.type(0)
    for item in prange(n_size * p_size):
        n, p = item // p_size, item % p_size
        for q in range(q_size):
            mean = y[n, p, q]
            mean[:] = zero
            for r in range(window[0]):
                h = p * stride[0] - pad[0] + r
                if h < 0 or h >= h_size:
                    continue
                for s in range(window[1]):
                    w = q * stride[1] - pad[1] + s
                    if w < 0 or w >= w_size:
                        continue
                    here = x[n, h, w]
                    for c in range(c_size):
                        mean[c] += here[c]
            for c in range(c_size):
                mean[c] /= areas[p, q]


@threaded
def average_pool_gradient(share, dx, window, stride, pad):
    """Each pixel of dx (N, H, W, C) sums its share of each window, in scan order of the taps."""
    n_size, h_size, w_size, c_size = dx.shape
    p_size, q_size = share.shape[1:3]
    zero = dx.dtype.type(0)
    for item in prange(n_size * h_size):
        n, h = item // h_size, item % h_size + pad[0]
        for w in range(pad[1], w_size + pad[1]):
            total = dx[n, h - pad[0], w - pad[1]]
            total[:] = zero
            for r in range(h % stride[0], min(window[0], h + 1), stride[0]):
                p = (h - r) // stride[0]
                if p >= p_size:
                    continue
                for s in range(w % stride[1], min(window[1], w + 1), stride[1]):
                    q = (w - s) // stride[1]
                    if q >= q_size:
                        continue
                    here = share[n, p, q]
                    for c in range(c_size):
                        total[c] += here[c]
