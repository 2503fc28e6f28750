"""Dropout's mask from Philox4x32-10 counters (paper, section 4.2)."""

from math import prod
from typing import Any

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

    def dropout(
        self,
        x: Array,
        keep: float,
        factor: float,
        seed: int,
        stream: int,
        step: int,
        first_image: int = 0,
        first_channel: int = 0,
        channels: int | None = None,
    ) -> tuple[Array, Any]:
        counters = (seed, stream, step, first_image, first_channel, channels)
        saved = self.dropout_mask(x.shape, keep, *counters), factor
        return self.dropout_gradient(x, saved), saved

    def dropout_gradient(self, dy: Array, saved: Any) -> Array:
        kept, factor = saved
        dx = self._new(dy.shape, dy)
        rows = (len(dy), -1)
        arrays = (np.ascontiguousarray(dy).reshape(rows), kept.reshape(rows))
        self._run(masked, *arrays, dy.dtype.type(factor), dx.reshape(rows))
        return dx


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


@compiled
def _draw(row, first, image, step, purpose, k0, k1, keep):
    """row[i]: whether the word of unit first + i is below `keep`; `first` is a multiple of 4.

    The loop over counters has no branches, so that LLVM vectorises it.
    """
    whole = row.size // 4
    for i in range(whole):
        w0, w1, w2, w3 = _philox(first // 4 + i, image, step, purpose, k0, k1)
        row[4 * i] = w0 < keep
        row[4 * i + 1] = w1 < keep
        row[4 * i + 2] = w2 < keep
        row[4 * i + 3] = w3 < keep
    last = _philox(first // 4 + whole, image, step, purpose, k0, k1)
    for i in range(4 * whole, row.size):
        row[i] = last[i - 4 * whole] < keep


@threaded
def dropout_mask(mask, c_size, first_image, first_channel, channels, step, purpose, k0, k1, keep):
    """mask (N, U): a unit is kept if its word is below `keep`; the words are the generic op's."""
    n_size, units = mask.shape
    run = units if channels == c_size else c_size  # of units with successive numbers
    for n in prange(n_size):
        image = first_image + n
        for start in range(0, units, run):
            row = mask[n, start : start + run]
            first = start // c_size * channels + first_channel
            skipped = first % 4  # words of the first counter
            head = min(-first % 4, run)
            words = _philox(first // 4, image, step, purpose, k0, k1)
            for i in range(head):
                row[i] = words[skipped + i] < keep
            _draw(row[head:], first + head, image, step, purpose, k0, k1, keep)


@threaded
def masked(x, kept, factor, y):
    """y = x times `factor` where `kept`, else 0; all (N, U)."""
    zero = x.dtype.type(0)
    for n in prange(len(x)):
        for u in range(x.shape[1]):
            y[n, u] = x[n, u] * (factor if kept[n, u] else zero)
