"""Convolution, with groups: the paper's towers are two groups (sections 3.2 and 3.5)."""

from dataclasses import dataclass

from minialex.backends.base import Array, Backend, Pads, Pair
from minialex.layers import output_size
from minialex.layers.base import (
    Layer,
    Mode,
    Params,
    Saved,
    Shape,
    WeightStd,
    initial_params,
    require,
)
from minialex.rng import InitialDraw


@dataclass(frozen=True)
class Conv2D(Layer):
    """y = x * W + b with square kernels over x (N, H, W, C) -> y (N, P, Q, K).

    With G groups, output channel k sees only the C/G input channels of its own group; weight is
    (R, S, C/G, K). `rounding="ceil"` is the original code's edge rule (see `output_size`).
    `weight_std` is the standard deviation of the initial weights, None for √(2 / inputs), "glorot"
    for √(2 / (inputs + outputs)); `bias` the initial bias.
    """

    saves_output = False

    channels: int
    kernel: int
    stride: int = 1
    pad: int = 0
    groups: int = 1
    rounding: str = "floor"
    weight_std: WeightStd = 0.01
    bias: float = 0.0

    def __post_init__(self) -> None:
        output_size.check("convolution", self.kernel, self.stride, self.pad, self.rounding)
        require(
            self.groups >= 1 and self.channels % self.groups == 0,
            f"{self.channels} channels cannot be divided into {self.groups} groups: "
            "the number of channels must be a multiple of the number of groups",
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        _, pads, _ = self.geometry(input_shape)
        p, q = output_size.windows(input_shape, self.kernel, self.stride, pads)
        return p, q, self.channels

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        require(
            input_shape[2] % self.groups == 0,
            f"{input_shape[2]} input channels cannot be divided into {self.groups} groups",
        )
        per_group = input_shape[2] // self.groups
        return {
            "weight": (self.kernel, self.kernel, per_group, self.channels),
            "bias": (self.channels,),
        }

    def init(self, b: Backend, draw: InitialDraw, input_shape: Shape, dtype: str) -> Params:
        shapes = self.parameter_shapes(input_shape)
        return initial_params(b, draw, shapes, self.weight_std, self.bias, dtype)

    def connections(self, input_shape: Shape) -> int:
        p, q, k = self.output_shape(input_shape)
        r, s, cg, _ = self.parameter_shapes(input_shape)["weight"]
        return p * q * k * r * s * cg

    def geometry(self, input_shape: Shape) -> tuple[Pair, Pads, int]:
        """(stride, pads, groups), as the backend's convolutions take them."""
        pads = output_size.pads(input_shape, self.kernel, self.stride, self.pad, self.rounding)
        return (self.stride, self.stride), pads, self.groups

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        geometry = self.geometry(x.shape[1:])
        return b.convolution(x, params["weight"], params["bias"], *geometry), x

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        x, geometry = saved, self.geometry(saved.shape[1:])
        weight, biased = params["weight"], params["bias"] is not None
        dw, db = b.convolution_parameter_gradients(x, dy, weight.shape, *geometry, bias=biased)
        dx = None
        if input_gradient:
            dx = b.convolution_input_gradient(dy, weight, x.shape, *geometry)
        return dx, {"weight": dw, "bias": db}
