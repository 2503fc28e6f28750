"""ReLU (paper, section 3.1)."""

import numpy as np
from numba import prange

from minialex.backends.base import Array
from minialex.backends.numba.execution import NumbaExecution
from minialex.utils.jit import threaded


class NumbaActivations(NumbaExecution):
    """Activations."""

    def relu(self, x: Array) -> Array:
        x = np.asarray(x, order="C")  # ascontiguousarray adds an axis to a number
        y = self._new(x.shape, x)
        self._run(relu, x.reshape(-1), y.reshape(-1))
        return y

    def relu_gradient(self, dy: Array, y: Array) -> Array:
        dy, y = (np.asarray(a, order="C") for a in (dy, y))
        dx = self._new(dy.shape, dy)
        self._run(relu_gradient, dy.reshape(-1), y.reshape(-1), dx.reshape(-1))
        return dx


@threaded
def relu(x, y):
    """y = max(0, x); a NaN stays a NaN."""
    zero = x.dtype.type(0)
    for i in prange(x.size):
        y[i] = zero if x[i] < zero else x[i]


@threaded
def relu_gradient(dy, y, dx):
    """dx = dy where y > 0, else dy times 0."""
    zero = dy.dtype.type(0)
    for i in prange(dy.size):
        dx[i] = dy[i] if y[i] > zero else dy[i] * zero
