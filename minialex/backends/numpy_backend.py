"""The CPU by NumPy: short and readable, the yardstick for every other backend.

Requires nothing but NumPy. What differs from the generic backend: im2col is one copy of a strided
view instead of R·S copies, and SGD works in place, in blocks that stay in the cache.
"""

import numpy as np
from array_api_compat import numpy as xp

from minialex.backends.base import Backend
from minialex.backends.cpu.threads import choose

_BLOCK = 1 << 16  # numbers; weight, velocity and gradient blocks share a 1 MiB second-level cache


class NumpyBackend(Backend):
    """NumPy arrays on the CPU; its devices are all the same memory."""

    def __init__(self, device=None):
        super().__init__("numpy", xp)

    def with_threads(self, threads):
        if threads is not None:
            from threadpoolctl import ThreadpoolController

            ThreadpoolController().limit(limits=choose(threads))
        return self

    def im2col(self, x, window, stride, output):
        (n, _, _, c), (dn, dh, dw, dc) = x.shape, x.strides
        shape = (n, *output, *window, c)  # (N, P, Q, R, S, C)
        strides = (dn, dh * stride[0], dw * stride[1], dh, dw, dc)
        windows = np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)
        return windows.reshape(-1, window[0] * window[1] * c)

    def sgd_update(self, weight, velocity, gradient, rate, momentum, decay):
        if not (weight.flags.c_contiguous and velocity.flags.c_contiguous):
            # flat they would be copies, and an update in place would be lost
            return super().sgd_update(weight, velocity, gradient, rate, momentum, decay)
        w, v, g = (a.reshape(-1) for a in (weight, velocity, gradient))
        for start in range(0, w.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            v[block] *= momentum
            v[block] -= (decay * rate) * w[block] + rate * g[block]
            w[block] += v[block]
        return weight, velocity
