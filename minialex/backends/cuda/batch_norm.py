"""Batch normalisation: batch_norm.cu."""

from typing import Any

from minialex.backends.base import Array
from minialex.backends.cuda import kernels
from minialex.backends.cuda.dense import CudaDense

_CHUNK = 256  # rows that one thread sums


class CudaBatchNorm(CudaDense):
    """Batch normalisation; statistics and sums are float32 (or float64)."""

    def batch_statistics(self, x: Array) -> tuple[Array, Array]:
        x = self._packed(x)
        size = x.size // x.shape[-1]
        mean = self.scale(self.bias_gradient(x), 1 / size)
        squares = self._sums("squared_deviations", (x, mean), x)
        return mean, self.scale(squares, 1 / size)

    def batch_norm(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
    ) -> Array:
        x = self._packed(x)
        y = self._new(x.shape, x)
        channels = tuple(map(self._packed, (weight, bias, mean, variance)))
        arguments = (x, *channels, y, x.size, x.shape[-1], epsilon)
        self._run("batch_norm", "batch_norm", arguments, x.size)
        return y

    def batch_norm_gradient(
        self,
        dy: Array,
        x: Array,
        weight: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
    ) -> tuple[Array, Array, Array]:
        dy, x = self._packed(dy), self._packed(x)
        weight, mean, variance = map(self._packed, (weight, mean, variance))
        dw = self._sums("weight_products", (dy, x, mean, variance), x, epsilon)
        db, dx = self.bias_gradient(dy), self._new(x.shape, x)
        c = x.shape[-1]
        arguments = (dy, x, weight, mean, variance, dw, db, dx, x.size, c, x.size // c, epsilon)
        self._run("batch_norm", "batch_norm_gradient", arguments, x.size)
        return dx, dw, db

    def running_average(self, average: Array, new: Array, keep: float, share: float) -> Array:
        average = self._packed(average)
        self.captured_average(average, new, keep, share, None)
        return average

    def captured_average(
        self, average: Array, new: Array, keep: float, share: float, stopped: Any
    ) -> None:
        """`running_average` for a captured step: nothing changes if `stopped` is not zero."""
        arguments = (average, self._packed(new), average.size, keep, share, stopped)
        self._run("batch_norm", "running_average", arguments, average.size)

    def _sums(self, kernel: str, arrays: tuple, x: Array, *more: float) -> Array:
        """Sums by channel, of chunks of rows and then of the chunks."""
        c, rows = x.shape[-1], x.size // x.shape[-1]
        chunks = -(-rows // _CHUNK)
        partial = self._new((chunks, c), kernels.accumulator(x.dtype.name))
        arguments = (*arrays, partial, rows, c, _CHUNK, *more)
        self._run("batch_norm", kernel, arguments, chunks * c)
        return self.bias_gradient(partial)
