"""Maximum and average pooling (paper, section 3.4): pooling.cu."""

from itertools import chain
from math import prod
from typing import Any

import numpy as np

from minialex.backends.base import NO_PADS, Array, Pads, Pair, Shape, output_shape
from minialex.backends.cuda.execution import CudaExecution
from minialex.errors import InputError


class CudaPooling(CudaExecution):
    """Pooling."""

    def max_pool(self, x: Array, window: Pair, stride: Pair, pads: Pads) -> tuple[Array, Array]:
        x = self._packed(x)
        n, h, w, c = x.shape
        if prod(window) > 1 << 16:
            raise InputError(
                f"max pooling: a window of {window} has too many taps for this backend"
            )
        output = output_shape((h, w), window, stride, pads)
        y = self._new((n, *output, c), x)
        argmax = self._new(y.shape, "uint16")
        geometry = (h, w, c, *window, *output, *stride, pads[0][0], pads[1][0])
        self._pool("max_pool", (x, y, argmax), n * prod(output), c, geometry)
        return y, argmax

    def max_pool_gradient(
        self, dy: Array, argmax: Array, input_shape: Shape, window: Pair, stride: Pair, pads: Pads
    ) -> Array:
        dy = self._packed(dy)
        n, h, w, c = input_shape
        dx = self._new(input_shape, dy)
        geometry = (h, w, c, *window, *dy.shape[1:3], *stride, pads[0][0], pads[1][0])
        self._pool("max_pool_gradient", (dy, argmax, dx), n * h * w, c, geometry)
        return dx

    def _pool(self, kernel: str, arrays: Any, pixels: int, c: int, geometry: tuple) -> None:
        wide = self._wide(c, arrays=[a for a in arrays if a.dtype != np.uint16])
        width = 16 // arrays[0].itemsize if wide else 1
        name = kernel + "_wide" * wide
        self._run("pooling", name, (*arrays, pixels, *geometry), pixels * c // width)

    def average_pool(
        self, x: Array, window: Pair, stride: Pair, pads: Pads, counted: Pads = NO_PADS
    ) -> Array:
        x = self._packed(x)
        n, h, w, c = x.shape
        output = output_shape((h, w), window, stride, pads)
        y = self._new((n, *output, c), x)
        geometry = (h, w, c, *window, *output, *stride, pads[0][0], pads[1][0], *chain(*counted))
        self._run("pooling", "average_pool", (x, y, n * prod(output), *geometry), y.size)
        return y

    def average_pool_gradient(
        self,
        dy: Array,
        input_shape: Shape,
        window: Pair,
        stride: Pair,
        pads: Pads,
        counted: Pads = NO_PADS,
    ) -> Array:
        dy = self._packed(dy)
        n, h, w, c = input_shape
        dx = self._new(input_shape, dy)
        corner = (pads[0][0], pads[1][0])
        geometry = (h, w, c, *window, *dy.shape[1:3], *stride, *corner, *chain(*counted))
        self._run("pooling", "average_pool_gradient", (dy, dx, n * h * w, *geometry), dx.size)
        return dx
