"""Local response normalisation across channels and within one (paper, section 3.3)."""

from typing import Any

import numpy as np
from numba import prange

from minialex.backends.base import Array
from minialex.backends.numba.execution import NumbaExecution
from minialex.backends.numba.norm_vectors import gradient_of_five, is_whole, normalise_five
from minialex.backends.numba.team import await_all, await_next, begin, claim_item, finish_item
from minialex.utils.jit import compiled, threaded

_PIXELS = 64  # that a thread normalises at once
_ROOMS = 3  # for the squares of a pixel's group, their sums, and the powers of these


class NumbaResponseNorm(NumbaExecution):
    """Response normalisation."""

    def response_norm(
        self, x: Array, n: int, k: float, alpha: float, beta: float, groups: int
    ) -> tuple[Array, Any]:
        x = np.ascontiguousarray(x)
        y, c = self._new(x.shape, x), x.shape[-1]
        constants = (c // groups, n, *map(x.dtype.type, (k, alpha, beta)))
        arrays = (x.reshape(-1, c), y.reshape(-1, c))
        if self._inference:
            room = self._new((self.threads, _ROOMS, c // groups + 2 * (n // 2)), x)
            self._as_team(response_norm_alone, *arrays, *constants, room)
        else:
            self._run(response_norm, *arrays, *constants, self._shares)
        return y, x

    def response_norm_gradient(
        self, dy: Array, saved: Any, n: int, k: float, alpha: float, beta: float, groups: int
    ) -> Array:
        x = saved
        dx, c = self._new(x.shape, x), x.shape[-1]
        constants = (c // groups, n, *map(x.dtype.type, (k, alpha, beta)), self._shares)
        arrays = (np.ascontiguousarray(dy, x.dtype), x, dx)
        self._run(response_norm_gradient, *(a.reshape(-1, c) for a in arrays), *constants)
        return dx

    def spatial_response_norm(
        self, x: Array, n: int, k: float, alpha: float, beta: float
    ) -> tuple[Array, Any]:
        x = np.ascontiguousarray(x)
        y, scale = self._new(x.shape, x), self._new(x.shape, x)
        lines = map(_lines, (x, y, scale))
        constants = map(x.dtype.type, (k, alpha, beta))
        self._run(spatial_norm, *lines, x.shape[3], n, *constants)
        return y, (x, y, scale)

    def spatial_response_norm_gradient(
        self, dy: Array, saved: Any, n: int, k: float, alpha: float, beta: float
    ) -> Array:
        x, y, scale = saved
        dx, dy = self._new(x.shape, x), np.ascontiguousarray(dy)
        ratio = self._new(x.shape, x)
        np.multiply(dy, y, out=ratio)
        np.divide(ratio, scale, out=ratio)
        lines = map(_lines, (dy, x, scale, ratio, dx))
        constants = map(x.dtype.type, (2 * alpha * beta, beta))
        self._run(spatial_norm_gradient, *lines, x.shape[3], n, *constants)
        return dx


def _lines(x: Array) -> Array:
    """(N, H, W, C) as (N, H, W·C)."""
    n, h, w, c = x.shape
    return x.reshape(n, h, w * c)  # -1 is undefined without images


@compiled
def _scales(pixel, squares, scale, half, k, alpha):
    """scale_c = k + α Σ x² over the window of c; `squares` is padded with zeros."""
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
    """scale^-β; the paper's 3/4 by two square roots, vectorised."""
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
    pixels = len(x)
    for t in prange(threads):
        first, end = pixels * t // threads, pixels * (t + 1) // threads
        room = np.empty((_ROOMS, group + 2 * (n // 2)), x.dtype)
        _normalise(x[first:end], y[first:end], group, n, k, alpha, beta, room)


@compiled
def response_norm_alone(job, x, y, group, n, k, alpha, beta, room):
    """The same for a team (see team.py); room (threads, 3, group + 2 ⌊n/2⌋)."""
    begin(job)
    pixels, items = len(x), (len(x) + _PIXELS - 1) // _PIXELS
    item = claim_item(job.counts[0])
    while item < items:
        first, end = item * _PIXELS, min(pixels, (item + 1) * _PIXELS)
        _normalise(x[first:end], y[first:end], group, n, k, alpha, beta, room[job.worker])
        finish_item(job.counts[0])
        item = claim_item(job.counts[0])
    await_all(job.counts[0], items)
    await_next(job)


@compiled
def _normalise(x, y, group, n, k, alpha, beta, room):
    """y (pixels, C) from x; room (3, group + 2 ⌊n/2⌋)."""
    if n == 5 and beta == 0.75 and is_whole(x, group):
        numbers, outputs = x.reshape(-1), y.reshape(-1)
        for start in range(0, x.size, group):
            normalise_five(numbers, start, outputs, start, k, alpha, group)
        return
    half = n // 2
    squares, scale, power = room[0], room[1, :group], room[2, :group]
    squares[:] = 0
    for i in range(len(x)):
        for g in range(0, x.shape[1], group):
            pixel, out = x[i, g : g + group], y[i, g : g + group]
            _scales(pixel, squares, scale, half, k, alpha)
            _powers(scale, power, beta)
            for c in range(group):
                out[c] = pixel[c] * power[c]


@threaded
def response_norm_gradient(dy, x, dx, group, n, k, alpha, beta, threads):
    """dx_c = dy_c s_c^-β - 2αβ x_c Σ dy_j x_j s_j^(-β-1); s is recomputed."""
    pixels, c_size = x.shape
    half, factor = n // 2, x.dtype.type(2) * alpha * beta
    vectors = n == 5 and beta == 0.75 and is_whole(x, group)
    slopes, numbers, outputs = dy.reshape(-1), x.reshape(-1), dx.reshape(-1)
    for t in prange(threads):
        squares = np.zeros(group + 2 * half, x.dtype)
        ratios = np.zeros(group + 2 * half, x.dtype)
        scale, power = np.empty(group, x.dtype), np.empty(group, x.dtype)
        for i in range(pixels * t // threads, pixels * (t + 1) // threads):
            for g in range(0, c_size, group):
                if vectors:
                    at = i * c_size + g
                    gradient_of_five(
                        slopes, at, numbers, at, outputs, at, k, alpha, factor, False, group
                    )
                    continue
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


@compiled
def _column_sums(x, h, half, column):
    """column (W C,): the sum of the rows around h, the nearest first; x (H, W C)."""
    column[:] = x[h]
    for offset in range(1, half + 1):
        for row in (h + offset, h - offset):
            if 0 <= row < x.shape[0]:
                line = x[row]
                for i in range(column.shape[0]):
                    column[i] += line[i]


@compiled
def _row_sums(column, channels, half, total):
    """total (W C,): the same along the row, by shifts of whole pixels."""
    size = column.shape[0]
    total[:] = column
    for offset in range(1, half + 1):
        shift = offset * channels
        if shift < size:
            after, before = column[shift:], column[: size - shift]
            low, high = total[: size - shift], total[shift:]
            for i in range(size - shift):
                low[i] += after[i]
            for i in range(size - shift):
                high[i] += before[i]


@compiled
def _root_powers(scale, power, beta):
    """scale^β, to divide by."""
    if beta == 0.75:
        for c in range(scale.shape[0]):
            root = np.sqrt(scale[c])
            power[c] = root * np.sqrt(root)
    else:
        for c in range(scale.shape[0]):
            power[c] = scale[c] ** beta


@threaded
def spatial_norm(x, y, scale, channels, n, k, alpha, beta):
    """y = x s^-β within each channel of x (N, H, W C); the sums' order is the generic op's."""
    n_size, h_size, size = x.shape
    for item in prange(n_size * h_size):
        i, h = item // h_size, item % h_size
        first = max(h - n // 2, 0)
        around = x[i, first : min(h + n // 2 + 1, h_size)]
        column, power = np.empty(size, x.dtype), np.empty(size, x.dtype)
        _column_sums(around * around, h - first, n // 2, column)
        line, total, out = x[i, h], scale[i, h], y[i, h]
        _row_sums(column, channels, n // 2, total)
        for j in range(size):
            total[j] = alpha * total[j] + k
        _root_powers(total, power, beta)
        for j in range(size):
            out[j] = line[j] / power[j]


@threaded
def spatial_norm_gradient(dy, x, scale, ratio, dx, channels, n, factor, beta):
    """dx = dy s^-β - factor x Σ ratio, where ratio = dy y / s and factor = 2αβ."""
    n_size, h_size, size = x.shape
    for item in prange(n_size * h_size):
        i, h = item // h_size, item % h_size
        column, total = np.empty(size, x.dtype), np.empty(size, x.dtype)
        _column_sums(ratio[i], h, n // 2, column)
        _row_sums(column, channels, n // 2, total)
        _root_powers(scale[i, h], column, beta)
        line, slope, out = x[i, h], dy[i, h], dx[i, h]
        for j in range(size):
            out[j] = slope[j] / column[j] - factor * line[j] * total[j]
