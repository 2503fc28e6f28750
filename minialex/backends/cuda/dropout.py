"""Dropout, whose mask is a function of counters (paper, section 4.2): dropout.cu."""

from math import prod
from typing import Any

from minialex import rng
from minialex.backends.base import Array, Shape
from minialex.backends.cuda.execution import CudaExecution
from minialex.backends.generic.dropout import threshold


class CudaDropout(CudaExecution):
    """Dropout, alone and with the dense layer before it."""

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
        mask = self._new(shape, "bool")
        draw = (keep, seed, stream, step, first_image, first_channel, channels)
        self._draw("dropout_mask", (mask,), draw)
        return mask

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
        saved = (keep, seed, stream, step, first_image, first_channel, channels), factor
        return self.dropout_gradient(x, saved), saved

    def dropout_gradient(self, dy: Array, saved: Any) -> Array:
        dy, (draw, factor) = self._packed(dy), saved
        dx = self._new(dy.shape, dy)
        self._draw("dropout", (dy, dx), draw, (factor,))
        return dx

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
        y = self.dense(x, weight, None)
        draw = (keep, seed, stream, step, first_image, first_channel, channels)
        self._draw("bias_relu_dropout", (y,), draw, (factor, bias))
        return y

    def relu_dropout_gradient(self, dy: Array, y: Array, factor: float) -> Array:
        dy, y = self._packed(dy), self._packed(y)
        dx = self._new(dy.shape, dy)
        self._run("dropout", "relu_dropout_gradient", (dy, y, dx, dy.size, factor), dy.size)
        return dx

    def _draw(self, kernel: str, arrays: Any, draw: tuple, more: tuple = ()) -> None:
        keep, seed, stream, step, first_image, first_channel, channels = draw
        n, *rows, c = arrays[0].shape
        units = prod(rows) * c
        now = (0, self._own(step)) if isinstance(step, dict) else (step, None)
        counters = (n, units, c, first_channel, channels or c, first_image, *now)
        key = (rng.Stream.DROPOUT + stream, seed & 0xFFFFFFFF, seed >> 32)
        arguments = (*arrays, *counters, *key, threshold(keep), *more)
        self._run("dropout", kernel, arguments, n * -(-units // 4))
