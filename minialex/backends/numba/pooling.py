"""Maximum and average pooling, one pass over memory each (paper, section 3.4)."""

from math import prod

import numpy as np
from numba import prange

from minialex.backends.base import NO_PADS, Array, Pads, Pair, Shape, output_shape
from minialex.backends.numba.execution import NumbaExecution
from minialex.utils.jit import compiled, threaded


class NumbaPooling(NumbaExecution):
    """Pooling."""

    def max_pool(self, x: Array, window: Pair, stride: Pair, pads: Pads) -> tuple[Array, Array]:
        x = np.ascontiguousarray(x)
        output = output_shape(x.shape[1:3], window, stride, pads)
        y = self._new((len(x), *output, x.shape[3]), x)
        kind = np.uint8 if prod(window) <= 256 else np.int32
        argmax = self._new(y.shape, kind)
        self._run(max_pool, x, y, argmax, window, stride, (pads[0][0], pads[1][0]))
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
    for item in prange(n_size * p_size):
        n, p = item // p_size, item % p_size
        for q in range(q_size):
            best, tap = y[n, p, q], argmax[n, p, q]
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
