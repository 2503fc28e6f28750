"""Batch normalisation: each thread takes a share of the pixels; sums are in float64."""

import numpy as np
from numba import prange

from minialex.backends.base import Array
from minialex.backends.numba.execution import NumbaExecution
from minialex.utils.jit import threaded


class NumbaBatchNorm(NumbaExecution):
    """Batch normalisation."""

    def batch_statistics(self, x: Array) -> tuple[Array, Array]:
        rows = _rows(x)
        partial = self._new((self._shares, rows.shape[1]), "float64")
        self._run(sums, rows, partial)
        mean = partial.sum(axis=0) / len(rows)
        self._run(squared_deviations, rows, mean, partial)
        variance = partial.sum(axis=0) / len(rows)
        return mean.astype(x.dtype), variance.astype(x.dtype)

    def batch_norm(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
    ) -> Array:
        y, factor = self._new(x.shape, x), weight / np.sqrt(variance + x.dtype.type(epsilon))
        self._run(normalise, _rows(x), factor, bias, mean, y.reshape(-1, x.shape[-1]), self._shares)
        return y

    def batch_norm_gradient(
        self,
        dy: Array,
        x: Array,
        weight: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
    ) -> tuple[Array, Array, Array]:
        rows, dy_rows, dx = _rows(x), _rows(dy), self._new(x.shape, x)
        inverse = 1 / np.sqrt(variance + x.dtype.type(epsilon))
        partial = self._new((2, self._shares, rows.shape[1]), "float64")
        self._run(gradient_sums, dy_rows, rows, mean, partial)
        db, dw = partial.sum(axis=1).astype(x.dtype)
        dw *= inverse
        size = x.dtype.type(len(rows))
        per_pixel = (db / size, inverse * dw / size, weight * inverse)
        to = dx.reshape(-1, x.shape[-1])
        self._run(gradient, dy_rows, rows, mean, *per_pixel, to, self._shares)
        return dx, dw, db


def _rows(x: Array) -> np.ndarray:
    """(pixels, C)."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


@threaded
def sums(x, partial):
    """partial (shares, C): the sums over each share of the rows of x (M, C)."""
    shares, size = partial.shape
    for t in prange(shares):
        total = partial[t]
        total[:] = 0
        for i in range(x.shape[0] * t // shares, x.shape[0] * (t + 1) // shares):
            for c in range(size):
                total[c] += x[i, c]


@threaded
def squared_deviations(x, mean, partial):
    """The same of (x - mean)²."""
    shares, size = partial.shape
    for t in prange(shares):
        total = partial[t]
        total[:] = 0
        for i in range(x.shape[0] * t // shares, x.shape[0] * (t + 1) // shares):
            for c in range(size):
                total[c] += (x[i, c] - mean[c]) ** 2


@threaded
def normalise(x, factor, bias, mean, y, shares):
    """y = (x - mean) factor + bias over x (M, C)."""
    for t in prange(shares):
        for i in range(x.shape[0] * t // shares, x.shape[0] * (t + 1) // shares):
            for c in range(x.shape[1]):
                y[i, c] = (x[i, c] - mean[c]) * factor[c] + bias[c]


@threaded
def gradient_sums(dy, x, mean, partial):
    """partial (2, shares, C): the sums of dy and of dy (x - mean), as in `sums`."""
    _, shares, size = partial.shape
    for t in prange(shares):
        sums, products = partial[0, t], partial[1, t]
        sums[:] = 0
        products[:] = 0
        for i in range(x.shape[0] * t // shares, x.shape[0] * (t + 1) // shares):
            for c in range(size):
                sums[c] += dy[i, c]
                products[c] += dy[i, c] * (x[i, c] - mean[c])


@threaded
def gradient(dy, x, mean, mean_dy, product, factor, dx, shares):
    """dx = (dy - mean_dy - (x - mean) product) factor."""
    for t in prange(shares):
        for i in range(x.shape[0] * t // shares, x.shape[0] * (t + 1) // shares):
            for c in range(x.shape[1]):
                centred = dy[i, c] - mean_dy[c] - (x[i, c] - mean[c]) * product[c]
                dx[i, c] = centred * factor[c]
