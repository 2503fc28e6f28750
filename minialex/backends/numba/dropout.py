"""Dropout's mask from Philox4x32-10 counters (paper, section 4.2)."""

from math import prod

import numpy as np
from numba import prange

from minialex import rng
from minialex.backends.base import Array, Shape
from minialex.backends.generic.dropout import threshold
from minialex.backends.numba.execution import NumbaExecution
from minialex.utils.jit import compiled, threaded


class NumbaDropout(NumbaExecution):
    """Dropout."""

    def dropout_mask(
        self,
        shape: Shape,
        keep: float,
        seed: int,
        stream: int,
        step: int,
        first_image: int = 0,
        first_channel: int = 0,
        channels: int | None = None,
    ) -> Array:
        c = shape[-1]
        mask = self._new((shape[0], prod(shape[1:])), bool)
        counters = (c, first_image, first_channel, channels or c, step)
        key = (int(rng.Stream.DROPOUT) + stream, seed & 0xFFFFFFFF, seed >> 32)
        self._run(dropout_mask, mask, *counters, *key, np.uint64(threshold(keep)))
        return mask.reshape(shape)


@compiled
def _philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds, as in minialex/rng.py."""
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3)
    k0, k1 = np.uint64(k0), np.uint64(k1)
    half = np.uint64(32)
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1 = ((p1 >> half) ^ c1 ^ k0) & low, p1 & low
        c2, c3 = ((p0 >> half) ^ c3 ^ k1) & low, p0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3


@threaded
def dropout_mask(mask, c_size, first_image, first_channel, channels, step, purpose, k0, k1, keep):
    """mask (N, U): a unit is kept if its word is below `keep`; the words are the generic op's."""
    n_size, units = mask.shape
    for n in prange(n_size):
        drawn = np.int64(-1)
        w0 = w1 = w2 = w3 = np.uint64(0)
        for u in range(units):
            unit = np.int64(u // c_size) * channels + first_channel + u % c_size
            if unit // 4 != drawn:
                drawn = unit // 4
                w0, w1, w2, w3 = _philox(drawn, first_image + n, step, purpose, k0, k1)
            lane = unit % 4
            word = w0 if lane == 0 else w1 if lane == 1 else w2 if lane == 2 else w3
            mask[n, u] = word < keep
