"""Scaling of channels, as in the input of PyTorch's networks."""

from collections.abc import Sequence

import numpy as np
from numba import prange

from minialex.backends.base import Array
from minialex.backends.numba.execution import NumbaExecution
from minialex.utils.jit import threaded


class NumbaArrays(NumbaExecution):
    """Scaling of channels."""

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
