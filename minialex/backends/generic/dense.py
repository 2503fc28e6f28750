"""The fully connected layer, y = x W + b (paper, section 3.5)."""

from math import prod

from minialex.backends.base import Array, Shape
from minialex.backends.generic.arrays import GenericArrays


class GenericDense(GenericArrays):
    """Dense layers, and the gradient of every layer's bias."""

    def dense(self, x: Array, weight: Array, bias: Array | None, relu: bool = False) -> Array:
        """y = x W + b, then max(0, y) if `relu`: x (N, ...), I numbers per image -> y (N, O)."""
        rows = self.xp.reshape(x, (x.shape[0], prod(x.shape[1:])))  # (N, I)
        y = self.xp.matmul(rows, weight)
        if bias is not None:
            y += bias
        return self.relu(y) if relu else y

    def dense_input_gradient(self, dy: Array, weight: Array, input_shape: Shape) -> Array:
        """dx = dy Wᵀ: dy (N, O), weight (I, O) -> dx of `input_shape`."""
        return self.xp.reshape(self.xp.matmul(dy, weight.T), input_shape)

    def dense_weight_gradient(self, x: Array, dy: Array) -> Array:
        """dW = xᵀ dy: x (N, ...) with I numbers per image, dy (N, O) -> dW (I, O)."""
        rows = self.xp.reshape(x, (x.shape[0], prod(x.shape[1:])))  # (N, I)
        return self.xp.matmul(rows.T, dy)

    def bias_gradient(self, dy: Array) -> Array:
        """db = Σ dy over all but the last axis: dy (..., K) -> db (K,)."""
        return self.xp.sum(dy, axis=tuple(range(dy.ndim - 1)))
