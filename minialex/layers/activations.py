"""The non-linearities: ReLU, and tanh for the paper's comparison (section 3.1)."""

from dataclasses import dataclass

from minialex.layers.base import Layer


@dataclass(frozen=True)
class ReLU(Layer):
    """y = max(0, x), any shape; the gradient at 0 is 0."""

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, b, params, x, mode):
        y = b.relu(x)
        return y, y

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        y = saved
        return b.relu_gradient(dy, y), {}


@dataclass(frozen=True)
class Tanh(Layer):
    """y = tanh(x), any shape."""

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, b, params, x, mode):
        y = b.tanh(x)
        return y, y

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        y = saved
        return b.tanh_gradient(dy, y), {}
