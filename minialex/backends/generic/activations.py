"""ReLU and tanh (paper, section 3.1), and the sigmoid."""

from minialex.backends.base import Array
from minialex.backends.generic.arrays import GenericArrays


class GenericActivations(GenericArrays):
    """Activations."""

    def relu(self, x: Array) -> Array:
        """max(0, x) (paper, section 3.1)."""
        return self.xp.maximum(x, self.xp.zeros((), dtype=x.dtype, device=self.device))

    def relu_gradient(self, dy: Array, y: Array) -> Array:
        """dx = dy where y > 0, else 0."""
        return dy * self.xp.astype(y > 0, dy.dtype)

    def tanh(self, x: Array) -> Array:
        """tanh(x)."""
        return self.xp.tanh(x)

    def tanh_gradient(self, dy: Array, y: Array) -> Array:
        """dx = dy (1 - y²)."""
        return dy * (1.0 - y * y)

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)), through tanh, which does not overflow."""
        return 0.5 * self.xp.tanh(0.5 * x) + 0.5

    def sigmoid_gradient(self, dy: Array, y: Array) -> Array:
        """dx = dy y (1 - y)."""
        return dy * (y * (1.0 - y))
