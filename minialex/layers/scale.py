"""A fixed factor per channel, used to divide the input by its standard deviation."""

from dataclasses import dataclass

from minialex.backends.base import Array, Backend
from minialex.layers.base import Layer, Mode, Params, Saved, Shape, require


@dataclass(frozen=True)
class ChannelScale(Layer):
    """y_c = f_c · x_c with constant factors f, one per channel: x (N, H, W, C) -> y.

    Networks from other frameworks expect input with standard deviation 1. The factors could be
    folded into the first layer's weights with the same outputs, but then its gradients would be
    1/f² too large relative to the weights, and training at the usual rates would diverge.
    """

    saves_input = False
    saves_output = False

    factors: tuple[float, ...]

    def output_shape(self, input_shape: Shape) -> Shape:
        require(
            len(input_shape) == 3 and input_shape[2] == len(self.factors),
            f"{len(self.factors)} channels are scaled, but the input is {input_shape}",
        )
        return input_shape

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        return b.scale_channels(x, self.factors), None

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        return b.scale_channels(dy, self.factors), {}
