"""The paper's update (section 5), in one pass."""

from numba import prange

from minialex.backends.base import Array
from minialex.backends.numba.execution import NumbaExecution
from minialex.utils.jit import threaded


class NumbaSGD(NumbaExecution):
    """Updates."""

    def sgd_update(
        self,
        weight: Array,
        velocity: Array,
        gradient: Array,
        rate: float,
        momentum: float,
        decay: float,
    ) -> tuple[Array, Array]:
        if rate == 0:
            return weight, velocity
        arrays = (weight, velocity, gradient)
        if not all(a.flags.c_contiguous for a in arrays):
            return super().sgd_update(*arrays, rate, momentum, decay)
        constants = map(weight.dtype.type, (rate, momentum, decay))
        self._run(sgd, *(a.reshape(-1) for a in arrays), *constants)
        return weight, velocity


@threaded
def sgd(w, v, g, rate, momentum, decay):
    """v <- momentum v - decay rate w - rate g; w <- w + v, in one pass."""
    for i in prange(w.size):
        v[i] = momentum * v[i] - decay * rate * w[i] - rate * g[i]
        w[i] += v[i]
