"""Response normalisation and the max pooling after it, in one pass over memory.

For the paper's constants (5 channels, β = 3/4, windows of 3 x 3) normalised rows stay in the cache
until they are pooled; backward, a pixel's gradient is gathered from its windows and goes through
the normalisation at once. The operations and their order are those of `response_norm` and
`max_pool`, and so are the bits.
"""

from typing import Any

import numpy as np
from numba import prange

from minialex.backends.base import Array, Pads, Pair, output_shape
from minialex.backends.numba.claims import claim, new_claims
from minialex.backends.numba.norm_vectors import (
    gather,
    gradient_of_five,
    is_whole,
    largest_of_nine,
    normalise_five,
)
from minialex.backends.numba.pooling import NumbaPooling
from minialex.backends.numba.response_norm import NumbaResponseNorm
from minialex.backends.numba.team import await_all, await_next, begin, claim_item, finish_item
from minialex.utils.jit import compiled, threaded

_N, _BETA, _WINDOW = 5, 0.75, 3
_BAND = 7  # rows of y at once, if there are few images; a band normalises rows of the next one, too
_IMAGES = 4  # per thread: with fewer, they are divided into bands


class NumbaNormPool(NumbaResponseNorm, NumbaPooling):
    """Response normalisation fused with max pooling."""

    def response_norm_pool(self, x: Array, norm: tuple, pool: tuple) -> tuple[Array, Any]:
        (n, k, alpha, beta, groups), (_, stride, pads) = norm, pool
        w, c = x.shape[2:]
        five = (n, beta) == (_N, _BETA) and is_whole.py_func(x, c // groups)
        if not (five and _fits((x.shape[1], w), *pool)):
            return super().response_norm_pool(x, norm, pool)
        x = np.ascontiguousarray(x)
        y = self._new((len(x), *output_shape(x.shape[1:3], *pool), c), x)
        argmax = self._new((0,) * 4 if self._inference else y.shape, np.uint8)
        band = y.shape[1] if len(y) >= _IMAGES * self.threads else min(_BAND, y.shape[1])
        geometry = (stride, (pads[0][0], pads[1][0]), band)
        rooms = self._new((self.threads, _WINDOW, w, c), x)
        constants = (c // groups, *map(x.dtype.type, (k, alpha)))
        if self._inference:
            self._as_team(norm_pool_alone, x, y, argmax, *constants, *geometry, rooms)
        else:
            self._run(norm_pool, x, y, argmax, *constants, *geometry, rooms)
        return y, (x, None, None if self._inference else argmax)

    def response_norm_pool_gradient(
        self, dy: Array, saved: Any, norm: tuple, pool: tuple, relu: bool = False
    ) -> Array:
        x, kept, argmax = saved
        if kept is not None:
            return super().response_norm_pool_gradient(dy, saved, norm, pool, relu)
        (_, k, alpha, beta, groups), (_, stride, pads) = norm, pool
        dx, group = self._new(x.shape, x), x.shape[3] // groups
        k, alpha, beta = map(x.dtype.type, (k, alpha, beta))
        constants = (group, k, alpha, x.dtype.type(2) * alpha * beta)
        geometry = (stride, (pads[0][0], pads[1][0]))
        arrays = (np.ascontiguousarray(dy, x.dtype), argmax, x, dx)
        self._run(norm_pool_gradient, *arrays, *constants, *geometry, relu, self.threads)
        return dx


def _fits(size: Pair, window: Pair, stride: Pair, pads: Pads) -> bool:
    """Whether windows are 3 x 3, at most two on an axis see a pixel, and none sees no pixel."""
    counts = output_shape(size, window, stride, pads)
    return window == (_WINDOW, _WINDOW) and all(
        count > 0 and step > 1 and pad[0] < _WINDOW and (count - 1) * step - pad[0] < extent
        for extent, count, step, pad in zip(size, counts, stride, pads, strict=True)
    )


@threaded
def norm_pool(x, y, argmax, group, k, alpha, stride, pad, band, rooms):
    """y, argmax (N, P, Q, C) from x (N, H, W, C); rooms (threads, 3, W, C)."""
    bands = (y.shape[1] + band - 1) // band
    claimed = new_claims()
    for t in prange(len(rooms)):
        item = claim(claimed)
        while item < len(y) * bands:
            image, first = item // bands, item % bands * band
            _pool_band(x, y, argmax, image, first, band, group, k, alpha, stride, pad, rooms[t])
            item = claim(claimed)


@compiled
def norm_pool_alone(job, x, y, argmax, group, k, alpha, stride, pad, band, rooms):
    """y by a team (see team.py); argmax is empty."""
    begin(job)
    bands = (y.shape[1] + band - 1) // band
    item = claim_item(job.counts[0])
    while item < len(y) * bands:
        image, first = item // bands, item % bands * band
        rows = rooms[job.worker]
        _pool_band(x, y, argmax, image, first, band, group, k, alpha, stride, pad, rows)
        finish_item(job.counts[0])
        item = claim_item(job.counts[0])
    await_all(job.counts[0], len(y) * bands)
    await_next(job)


@compiled
def _pool_band(x, y, argmax, image, first, band, group, k, alpha, stride, pad, rows):
    """Some rows of an image of y, and of argmax unless it is empty."""
    h_size, w_size, c_size = x.shape[1:]
    p_size, q_size = y.shape[1:3]
    numbers, out, taps, normal = x.reshape(-1), y.reshape(-1), argmax.reshape(-1), rows.reshape(-1)
    done = 0
    for p in range(first, min(first + band, p_size)):
        h0 = p * stride[0] - pad[0]
        top, bottom = max(0, h0), min(h_size, h0 + 3) - 1
        for h in range(max(top, done), bottom + 1):
            here, there = (image * h_size + h) * w_size * c_size, h % 3 * w_size * c_size
            for g in range(0, w_size * c_size, group):
                normalise_five(numbers, here + g, normal, there + g, k, alpha, group)
        done = bottom + 1
        down = _clamped(h0, top, bottom)
        for q in range(q_size):
            w0 = q * stride[1] - pad[1]
            right = _clamped(w0, max(0, w0), min(w_size, w0 + 3) - 1)
            to = ((image * p_size + p) * q_size + q) * c_size
            places, which = _places(down, right, w_size, c_size), _taps(down, right, h0, w0)
            largest_of_nine(normal, places, which, out, taps, to, len(argmax), c_size)


@compiled
def _clamped(start, low, high):
    """Three rows or columns of a window; those outside are replaced by the nearest inside.

    So some are seen twice, which changes no maximum and not where it is first.
    """
    a, b, c = start, start + 1, start + 2
    return max(a, low), min(max(b, low), high), min(c, high)


@compiled
def _places(down, right, w_size, c_size):
    """Where the nine pixels of a window begin in three rows; row h is row h mod 3."""
    a, b, c = down[0] % 3 * w_size, down[1] % 3 * w_size, down[2] % 3 * w_size
    return (
        (a + right[0]) * c_size,
        (a + right[1]) * c_size,
        (a + right[2]) * c_size,
        (b + right[0]) * c_size,
        (b + right[1]) * c_size,
        (b + right[2]) * c_size,
        (c + right[0]) * c_size,
        (c + right[1]) * c_size,
        (c + right[2]) * c_size,
    )


@compiled
def _taps(down, right, h0, w0):
    """The numbers of these pixels, 0 … 8 in scan order."""
    a, b, c = 3 * (down[0] - h0), 3 * (down[1] - h0), 3 * (down[2] - h0)
    d, e, f = right[0] - w0, right[1] - w0, right[2] - w0
    return a + d, a + e, a + f, b + d, b + e, b + f, c + d, c + e, c + f


@threaded
def norm_pool_gradient(dy, argmax, x, dx, group, k, alpha, factor, stride, pad, relu, threads):
    """dx (N, H, W, C) from dy and argmax (N, P, Q, C)."""
    n_size, h_size, w_size, c_size = x.shape
    p_size, q_size = dy.shape[1:3]
    slopes, taps, numbers, out = dy.reshape(-1), argmax.reshape(-1), x.reshape(-1), dx.reshape(-1)
    claimed = new_claims()
    for _ in prange(threads):
        slope = np.empty(c_size, x.dtype)
        item = claim(claimed)
        while item < n_size * h_size:
            n, h = item // h_size, item % h_size
            p, down = _windows(h + pad[0], stride[0], p_size)
            rows = ((n * p_size + p[0]) * q_size, (n * p_size + p[1]) * q_size)
            for w in range(w_size):
                q, right = _windows(w + pad[1], stride[1], q_size)
                places = (
                    (rows[0] + q[0]) * c_size,
                    (rows[0] + q[1]) * c_size,
                    (rows[1] + q[0]) * c_size,
                    (rows[1] + q[1]) * c_size,
                )
                gather(slopes, taps, slope, places, _numbers(down, right), c_size)
                start = (item * w_size + w) * c_size
                for g in range(0, c_size, group):
                    at = start + g
                    gradient_of_five(slope, g, numbers, at, out, at, k, alpha, factor, relu, group)
            item = claim(claimed)


@compiled
def _windows(at, stride, count):
    """Two windows that may see a row or column, and which of their three it is; 3 if none."""
    b = at // stride
    a = b - 1
    first = at - a * stride if 0 <= a < count else 3
    second = at - b * stride if b < count else 3
    return (min(max(a, 0), count - 1), min(b, count - 1)), (min(first, 3), min(second, 3))


@compiled
def _numbers(down, right):
    """The number of a pixel in four windows, 9 where it is outside."""
    a = 3 * down[0] + right[0] if down[0] < 3 and right[0] < 3 else 9
    b = 3 * down[0] + right[1] if down[0] < 3 and right[1] < 3 else 9
    c = 3 * down[1] + right[0] if down[1] < 3 and right[0] < 3 else 9
    d = 3 * down[1] + right[1] if down[1] < 3 and right[1] < 3 else 9
    return a, b, c, d
