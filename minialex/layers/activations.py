"""The non-linearities: ReLU, tanh for the paper's comparison (section 3.1), and the sigmoid."""

from dataclasses import dataclass

from minialex.backends.base import Array, Backend
from minialex.layers.base import Layer, Mode, Params, Saved, Shape


@dataclass(frozen=True)
class ReLU(Layer):
    """y = max(0, x), any shape; the gradient at 0 is 0."""

    saves_input = False

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        y = b.relu(x)
        return y, y

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        y = saved
        return b.relu_gradient(dy, y), {}


@dataclass(frozen=True)
class Tanh(Layer):
    """y = tanh(x), any shape."""

    saves_input = False

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        y = b.tanh(x)
        return y, y

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        y = saved
        return b.tanh_gradient(dy, y), {}


@dataclass(frozen=True)
class Sigmoid(Layer):
    """y = 1 / (1 + exp(-x)), any shape; Caffe and cuda-convnet ("logistic") have it."""

    saves_input = False

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        y = b.sigmoid(x)
        return y, y

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        y = saved
        return b.sigmoid_gradient(dy, y), {}


ACTIVATIONS = (ReLU, Tanh, Sigmoid)
