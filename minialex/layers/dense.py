"""The fully connected layer (paper, section 3.5)."""

from dataclasses import dataclass
from math import prod

from minialex.layers.base import Layer, WeightStd, initial_params, require


@dataclass(frozen=True)
class Dense(Layer):
    """y = x W + b: x (N, I) -> y (N, units); maps (N, H, W, C) are read as I = H·W·C numbers.

    weight is (I, units). `weight_std` and `bias` as for `Conv2D`.
    """

    units: int
    weight_std: WeightStd = 0.01
    bias: float = 0.0

    def __post_init__(self):
        require(self.units >= 1, f"a dense layer has at least one unit, not {self.units}")

    def output_shape(self, input_shape):
        return (self.units,)

    def parameter_shapes(self, input_shape):
        return {"weight": (prod(input_shape), self.units), "bias": (self.units,)}

    def init(self, b, draw, input_shape, dtype):
        shapes = self.parameter_shapes(input_shape)
        return initial_params(b, draw, shapes, self.weight_std, self.bias, dtype)

    def connections(self, input_shape):
        return prod(input_shape) * self.units

    def forward(self, b, params, x, mode, relu=False):
        y = b.dense(x, params["weight"], params["bias"], relu)
        return y, x

    def forward_dropped(self, b, params, x, keep, factor, *place):
        """The same with the ReLU and the dropout after it: see `Backend.dense_relu_dropout`."""
        of = (params["weight"], params["bias"], keep, factor, *place)
        return b.dense_relu_dropout(x, *of), x

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        x = saved
        dw = b.dense_weight_gradient(x, dy)
        db = None if params["bias"] is None else b.bias_gradient(dy)
        dx = b.dense_input_gradient(dy, params["weight"], x.shape) if input_gradient else None
        return dx, {"weight": dw, "bias": db}
