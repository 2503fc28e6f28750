"""ReLU and tanh (paper, section 3.1), and the sigmoid: elementwise.cu."""

from minialex.backends.base import Array
from minialex.backends.cuda.arrays import CudaArrays


class CudaActivations(CudaArrays):
    """Activations."""

    def relu(self, x: Array) -> Array:
        return self._each("relu", x)

    def relu_gradient(self, dy: Array, y: Array) -> Array:
        return self._each("relu_gradient", dy, y)

    def tanh(self, x: Array) -> Array:
        return self._each("tanh_forward", x)

    def tanh_gradient(self, dy: Array, y: Array) -> Array:
        return self._each("tanh_gradient", dy, y)

    def sigmoid(self, x: Array) -> Array:
        return self._each("sigmoid_forward", x)

    def sigmoid_gradient(self, dy: Array, y: Array) -> Array:
        return self._each("sigmoid_gradient", dy, y)
