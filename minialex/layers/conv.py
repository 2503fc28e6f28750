"""Convolution, with groups: the paper's towers are two groups (sections 3.2 and 3.5)."""

from dataclasses import dataclass

from minialex.layers import output_size
from minialex.layers.base import Layer, WeightStd, initial_params, require


@dataclass(frozen=True)
class Conv2D(Layer):
    """y = x * W + b with square kernels over x (N, H, W, C) -> y (N, P, Q, K).

    With G groups, map k sees only the C/G channels of its own group; weight is (R, S, C/G, K).
    `rounding="ceil"` is the original code's edge rule (see `windows`). `weight_std` is the standard
    deviation of the initial weights, None for √(2 / inputs), "glorot" for
    √(2 / (inputs + outputs)); `bias` the initial bias.
    """

    channels: int
    kernel: int
    stride: int = 1
    pad: int = 0
    groups: int = 1
    rounding: str = "floor"
    weight_std: WeightStd = 0.01
    bias: float = 0.0

    def __post_init__(self):
        output_size.check("convolution", self.kernel, self.stride, self.pad, self.rounding)
        require(
            self.groups >= 1 and self.channels % self.groups == 0,
            f"{self.channels} maps cannot be shared out to {self.groups} groups: "
            "the number of maps must be a multiple of the number of groups",
        )

    def output_shape(self, input_shape):
        return (
            *output_size.moved(input_shape, self.kernel, self.stride, self._pads(input_shape)),
            self.channels,
        )

    def parameter_shapes(self, input_shape):
        require(
            input_shape[2] % self.groups == 0,
            f"{input_shape[2]} input channels cannot be shared out to {self.groups} groups",
        )
        per_group = input_shape[2] // self.groups
        return {
            "weight": (self.kernel, self.kernel, per_group, self.channels),
            "bias": (self.channels,),
        }

    def init(self, b, draw, input_shape, dtype):
        shapes = self.parameter_shapes(input_shape)
        return initial_params(b, draw, shapes, self.weight_std, self.bias, dtype)

    def connections(self, input_shape):
        p, q, k = self.output_shape(input_shape)
        r, s, cg, _ = self.parameter_shapes(input_shape)["weight"]
        return p * q * k * r * s * cg

    def forward(self, b, params, x, mode, relu=False):
        place = ((self.stride, self.stride), self._pads(x.shape[1:]), self.groups)
        y = b.convolution(x, params["weight"], params["bias"], *place, relu=relu)
        return y, x

    def backward(self, b, params, saved, dy, *, input_gradient=True, relu=False):
        """With `relu`, x is a ReLU's output, and dx is the gradient of its input."""
        x = saved
        place = ((self.stride, self.stride), self._pads(x.shape[1:]), self.groups)
        weight, biased = params["weight"], params["bias"] is not None
        dw, db = b.convolution_parameter_gradients(x, dy, weight.shape, *place, bias=biased)
        dx = None
        if input_gradient and relu:
            dx = b.convolution_input_gradient_relu(dy, weight, x, *place)
        elif input_gradient:
            dx = b.convolution_input_gradient(dy, weight, x.shape, *place)
        return dx, {"weight": dw, "bias": db}

    def _pads(self, input_shape):
        return output_size.resolve(input_shape, self.kernel, self.stride, self.pad, self.rounding)
