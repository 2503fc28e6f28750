"""im2col by one copy of a strided view instead of R·S copies."""

import numpy as np

from minialex.backends.base import Array, Pair
from minialex.backends.generic.backend import GenericBackend


class NumpyConvolution(GenericBackend):
    """Convolution."""

    def _im2col(self, x: Array, window: Pair, stride: Pair, output: Pair) -> Array:
        (n, _, _, c), (dn, dh, dw, dc) = x.shape, x.strides
        shape = (n, *output, *window, c)  # (N, P, Q, R, S, C)
        strides = (dn, dh * stride[0], dw * stride[1], dh, dw, dc)
        windows = np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)
        return windows.reshape(-1, window[0] * window[1] * c)
