"""Dense layers as cuBLAS products, and biases: bias.cu."""

from math import prod

from minialex.backends.base import Array, Shape
from minialex.backends.cuda import kernels
from minialex.backends.cuda.execution import CudaExecution

_CHUNK = 1024  # rows that one block sums by column
_CHUNKS = 65535  # most blocks in a grid's second axis


class CudaDense(CudaExecution):
    """Dense layers, and the bias of every layer."""

    def dense(self, x: Array, weight: Array, bias: Array | None, relu: bool = False) -> Array:
        x, weight = self._packed(x), self._packed(weight)
        n, (i, o) = x.shape[0], weight.shape
        y = self._new((n, o), x)
        self.stream.product(x, weight, y, (n, i, o), (i, o, o))
        return self._biased(y, bias, relu)

    def dense_input_gradient(self, dy: Array, weight: Array, input_shape: Shape) -> Array:
        dy, weight = self._packed(dy), self._packed(weight)
        n, (i, o) = dy.shape[0], weight.shape
        dx = self._new(input_shape, dy)
        self.stream.product(dy, weight, dx, (n, o, i), (o, o, i), transposed=(False, True))
        return dx

    def dense_weight_gradient(self, x: Array, dy: Array) -> Array:
        x, dy = self._packed(x), self._packed(dy)
        (n, o), i = dy.shape, prod(x.shape[1:])
        of_sums = kernels.accumulator(x.dtype.name)
        if not n:
            return self.stream.zeros((i, o), of_sums)
        dw = self._new((i, o), of_sums)
        self.stream.product(x, dy, dw, (i, n, o), (i, o, o), transposed=(True, False))
        return dw

    def _biased(self, y: Array, bias: Array | None, relu: bool) -> Array:
        if bias is not None or relu:
            self._run("bias", "bias_relu", (y, bias, y.size, y.shape[-1], relu), y.size)
        return y

    def bias_gradient(self, dy: Array) -> Array:
        dy = self._packed(dy)
        k, rows = dy.shape[-1], dy.size // dy.shape[-1]
        if not rows:
            return self.stream.zeros((k,), kernels.accumulator(dy.dtype.name))
        chunk = max(_CHUNK, -(-rows // _CHUNKS))
        chunks = -(-rows // chunk)
        partial = self._new((chunks, k), kernels.accumulator(dy.dtype.name))
        across, block = -(-k // 32), (32, 8)
        arguments = (dy, partial, rows, k, chunk)
        self._run("bias", "column_sums", arguments, grid=(across, chunks), block=block)
        if chunks == 1:
            return partial.reshape(k)
        db = self._new((k,), partial)
        self._run("bias", "column_totals", (partial, db, chunks, k), grid=(across,), block=block)
        return db
