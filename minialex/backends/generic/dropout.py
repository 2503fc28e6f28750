"""Dropout, whose mask is a function of counters (paper, section 4.2)."""

import math
from typing import Any

import numpy as np

from minialex import rng
from minialex.backends.base import Array
from minialex.backends.generic.arrays import GenericArrays


class GenericDropout(GenericArrays):
    """Dropout, alone and with the dense layer before it."""

    def dropout_mask(
        self,
        shape: tuple[int, ...],
        keep: float,
        seed: int,
        stream: int,
        step: int,
        first_image: int = 0,
        first_channel: int = 0,
        channels: int | None = None,
    ) -> Array:
        """Boolean (N, ..., C): a unit is kept if its random word is below keep · 2³².

        The C channels start at `first_channel` of a layer with `channels` channels (None: all)
        and draw the same numbers as in the whole layer.
        """
        n, *rows, c = shape
        whole = channels or c
        units = math.prod(rows) * whole
        images = np.arange(first_image, first_image + n)
        word = rng.words(seed, rng.Stream.DROPOUT + stream, step, images, units)
        word = word.reshape(n, *rows, whole)[..., first_channel : first_channel + c]
        return self.asarray(word < np.uint64(threshold(keep)))

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
        """x times `factor` where the unit is kept, else 0 (see `dropout_mask`).

        Returns y and what `dropout_gradient` needs.
        """
        counters = (seed, stream, step, first_image, first_channel, channels)
        mask = self.dropout_mask(x.shape, keep, *counters)
        factors = self.xp.astype(mask, x.dtype) * factor
        return x * factors, factors

    def dropout_gradient(self, dy: Array, saved: Any) -> Array:
        """dx = dy times the same factors."""
        return dy * saved

    def dense_relu_dropout(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        keep: float,
        factor: float,
        seed: int,
        stream: int,
        step: int,
        first_image: int = 0,
        first_channel: int = 0,
        channels: int | None = None,
    ) -> Array:
        """y = dropout(max(0, x W + b)), with the arguments of `dropout`."""
        y = self.dense(x, weight, bias, relu=True)
        counters = (seed, stream, step, first_image, first_channel, channels)
        return self.dropout(y, keep, factor, *counters)[0]

    def relu_dropout_gradient(self, dy: Array, y: Array, factor: float) -> Array:
        """dx through a ReLU and the dropout after it; y > 0 where a unit passed both."""
        return dy * (self.xp.astype(y > 0, dy.dtype) * factor)


def threshold(keep: float) -> int:
    """A random word below this keeps its unit."""
    return math.ceil(keep * 2.0**32)
