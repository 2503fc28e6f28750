"""The CPU by NumPy: short and readable, the yardstick for every other backend.

Requires nothing but NumPy. What differs from the generic backend: im2col is one copy of a strided
view instead of R·S copies, SGD works in place, in blocks that stay in the cache, and crops run over
whole rows of pixels, twice as fast as over pixels.
"""

import numpy as np
from array_api_compat import numpy as xp

from minialex.backends.generic.backend import GenericBackend
from minialex.utils.threads import choose

_BLOCK = 1 << 16  # numbers; weight, velocity and gradient blocks share a 1 MiB second-level cache


class NumpyBackend(GenericBackend):
    """NumPy arrays on the CPU; its devices are all the same memory."""

    def __init__(self, device=None):
        super().__init__("numpy", xp)

    def with_threads(self, threads):
        if threads is not None:
            from threadpoolctl import ThreadpoolController

            ThreadpoolController().limit(limits=choose(threads))
        return self

    def _im2col(self, x, window, stride, output):
        (n, _, _, c), (dn, dh, dw, dc) = x.shape, x.strides
        shape = (n, *output, *window, c)  # (N, P, Q, R, S, C)
        strides = (dn, dh * stride[0], dw * stride[1], dh, dw, dc)
        windows = np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)
        return windows.reshape(-1, window[0] * window[1] * c)

    def crops(self, images, top, left, flip, crop, mean, mean_top, mean_left, shift, scale, dtype):
        images = np.ascontiguousarray(images)
        n, height, width, c = images.shape
        rows = images.reshape(n, height, width * c)
        pixels = images.view(f"V{c}")[..., 0]  # (N, H, W), moved as a whole where mirrored
        mirrored = np.empty((crop, crop), pixels.dtype)
        mean = np.asarray(mean, dtype)
        straight = mean.reshape(height, width * c)
        backward = np.ascontiguousarray(mean[:, ::-1]).reshape(height, width * c)
        out = np.empty((len(top), crop, crop * c), dtype)
        for i, (t, l) in enumerate(zip(top, left, strict=True)):
            mt, ml = (t, l) if mean_top is None else (mean_top, mean_left)
            if flip[i]:
                mirrored[...] = pixels[i, t : t + crop, l : l + crop][:, ::-1]
                window = mirrored.view(images.dtype).reshape(crop, crop * c)
                values, ml = backward, width - crop - ml
            else:
                window, values = rows[i, t : t + crop, l * c : (l + crop) * c], straight
            np.subtract(window, values[mt : mt + crop, ml * c : (ml + crop) * c], out=out[i])
            if shift is not None:
                out[i] += np.tile(np.asarray(shift[i], dtype), crop)
            if scale != 1.0:
                out[i] *= scale
        return out.reshape(-1, crop, crop, c)  # (N, crop, crop, C)

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
