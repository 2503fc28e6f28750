"""The fully connected layer (paper, section 3.5)."""

from dataclasses import dataclass
from math import prod

from minialex.backends.base import Array, Backend
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
class Dense(Layer):
    """y = x W + b: x (N, I) -> y (N, units); x (N, H, W, C) is read as I = H·W·C numbers.

    weight is (I, units). `weight_std` and `bias` as for `Conv2D`.
    """

    saves_output = False

    units: int
    weight_std: WeightStd = 0.01
    bias: float = 0.0

    def __post_init__(self) -> None:
        require(self.units >= 1, f"a dense layer must have at least one unit, not {self.units}")

    def output_shape(self, input_shape: Shape) -> Shape:
        return (self.units,)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {"weight": (prod(input_shape), self.units), "bias": (self.units,)}

    def init(self, b: Backend, draw: InitialDraw, input_shape: Shape, dtype: str) -> Params:
        shapes = self.parameter_shapes(input_shape)
        return initial_params(b, draw, shapes, self.weight_std, self.bias, dtype)

    def connections(self, input_shape: Shape) -> int:
        return prod(input_shape) * self.units

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        return b.dense(x, params["weight"], params["bias"]), x

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        x = saved
        dw = b.dense_weight_gradient(x, dy)
        db = None if params["bias"] is None else b.bias_gradient(dy)
        dx = b.dense_input_gradient(dy, params["weight"], x.shape) if input_gradient else None
        return dx, {"weight": dw, "bias": db}
