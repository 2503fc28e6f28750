"""A fixed factor for each channel: inputs divided by their standard deviation, before all else."""

from dataclasses import dataclass

from minialex.backends.base import Array, Backend
from minialex.layers.base import Layer, Mode, Params, Saved, Shape, require


@dataclass(frozen=True)
class ChannelScale(Layer):
    """y_c = f_c · x_c with constants f, one a channel: x (N, H, W, C) -> y.

    Networks of other programs expect an input of standard deviation 1. The factors could be
    multiplied into the first layer's weights instead, with the same outputs; but then its gradients
    would be 1/f² too large beside the weights, and training at the usual rates would diverge.
    """

    saves_input = False
    saves_output = False

    factors: tuple[float, ...]

    def output_shape(self, input_shape: Shape) -> Shape:
        require(
            len(input_shape) == 3 and input_shape[2] == len(self.factors),
            f"{len(self.factors)} channels are scaled, and the input is {input_shape}",
        )
        return input_shape

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        return self._scaled(b, x), None

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        return self._scaled(b, dy), {}

    def _scaled(self, b: Backend, x: Array) -> Array:
        n, h, w, c = x.shape
        zero = b.xp.zeros_like(x[0, 0, 0, :1])  # made on the device: nothing is copied there
        factors = b.xp.tile(b.xp.concat([zero + f for f in self.factors]), (w,))  # W·C
        rows = b.xp.reshape(x, (n * h, w * c))  # long rows: an inner loop over C alone is slow
        return b.xp.reshape(rows * factors, (n, h, w, c))
