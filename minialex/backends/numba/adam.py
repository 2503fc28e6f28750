"""Adam's update, in one pass."""

import numpy as np
from numba import prange

from minialex.backends.base import Array
from minialex.backends.generic.adam import adam_factors
from minialex.backends.numba.execution import NumbaExecution
from minialex.utils.jit import threaded


class NumbaAdam(NumbaExecution):
    """Updates."""

    def adam_update(
        self,
        weight: Array,
        mean: Array,
        square: Array,
        gradient: Array,
        rate: float,
        decay: float,
        step: int,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> tuple[Array, Array, Array]:
        arrays = (weight, mean, square, gradient)
        if not all(a.flags.c_contiguous for a in arrays):
            return super().adam_update(*arrays, rate, decay, step, beta1, beta2, epsilon)
        factors = adam_factors(rate, step, beta1, beta2)
        numbers = (*factors, decay, beta1, 1 - beta1, beta2, 1 - beta2, epsilon)
        self._run(adam, *(a.reshape(-1) for a in arrays), *map(weight.dtype.type, numbers))
        return weight, mean, square


@threaded
def adam(w, m, s, g, size, correction, decay, beta1, rest1, beta2, rest2, epsilon):
    """`rest1` and `rest2` are 1 - β1 and 1 - β2."""
    for i in prange(w.size):
        slope = g[i] + decay * w[i]
        m[i] = beta1 * m[i] + rest1 * slope
        s[i] = beta2 * s[i] + rest2 * slope * slope
        w[i] -= size * m[i] / (np.sqrt(s[i]) * correction + epsilon)
