"""Scaling of channels, as in the input of PyTorch's networks, and sums of gradients."""

from collections.abc import Sequence

import numpy as np
from numba import prange

from minialex.backends.base import Array
from minialex.backends.numba.execution import NumbaExecution
from minialex.utils.jit import threaded

_LARGE = 1 << 16  # numbers; for fewer, NumPy is as fast


class NumbaArrays(NumbaExecution):
    """Scaling of channels; sums of arrays."""

    def add(self, x: Array, y: Array) -> Array:
        if x.size < _LARGE or x.shape != y.shape or x.dtype != y.dtype:
            return super().add(x, y)
        total = self._new(x.shape, x)
        x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
        self._run(sums, x.reshape(-1), y.reshape(-1), total.reshape(-1))
        return total

    def scale_channels(self, x: Array, factors: Sequence[float]) -> Array:
        x = np.ascontiguousarray(x)
        n, h, w, c = x.shape
        row, rows = np.tile(np.asarray(factors, x.dtype), w), (n * h, w * c)
        y = self._new(x.shape, x)
        self._run(scale_rows, x.reshape(rows), row, y.reshape(rows))
        return y


@threaded
def scale_rows(x, row, y):
    """y (rows, W C) = x times row (W C,)."""
    for i in prange(len(x)):
        for j in range(len(row)):
            y[i, j] = x[i, j] * row[j]


@threaded
def sums(x, y, total):
    """total = x + y, all flat."""
    for i in prange(len(x)):
        total[i] = x[i] + y[i]
