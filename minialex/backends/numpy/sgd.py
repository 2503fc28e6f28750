"""The paper's update in place, in blocks that stay in the cache."""

from minialex.backends.base import Array
from minialex.backends.generic.backend import GenericBackend

_BLOCK = 1 << 16  # numbers; the blocks of weight, velocity and gradient share a 1 MiB L2 cache


class NumpySGD(GenericBackend):
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
        if not (weight.flags.c_contiguous and velocity.flags.c_contiguous):
            # flattening would copy them, and the in-place update would be lost
            return super().sgd_update(weight, velocity, gradient, rate, momentum, decay)
        if rate == 0:
            return weight, velocity
        w, v, g = (a.reshape(-1) for a in (weight, velocity, gradient))
        for start in range(0, w.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            v[block] *= momentum
            v[block] -= (decay * rate) * w[block] + rate * g[block]
            w[block] += v[block]
        return weight, velocity
