"""Pooling: overlapping maxima (paper, section 3.4), and averages for the CIFAR-10 network."""

from dataclasses import dataclass

from minialex.backends.base import Array, Backend, Pads, Pair
from minialex.layers import output_size
from minialex.layers.base import Layer, Mode, Params, Saved, Shape, require


@dataclass(frozen=True)
class _Pool(Layer):
    """A z x z window with stride s over x (N, H, W, C) -> y (N, P, Q, C)."""

    saves_input = False
    saves_output = False

    window: int = 3
    stride: int = 2
    pad: int = 0
    rounding: str = "floor"

    def __post_init__(self) -> None:
        output_size.check("pooling", self.window, self.stride, self.pad, self.rounding)
        require(
            self.pad < self.window,
            f"pooling: padding {self.pad} hides whole {self.window}x{self.window} windows: "
            "pad less than the window",
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        _, _, pads = self.geometry(input_shape)
        return (*output_size.windows(input_shape, self.window, self.stride, pads), input_shape[2])

    def geometry(self, input_shape: Shape) -> tuple[Pair, Pair, Pads]:
        """(window, stride, pads), as the backend's pooling takes them."""
        pads = output_size.pads(input_shape, self.window, self.stride, self.pad, self.rounding)
        return (self.window, self.window), (self.stride, self.stride), pads


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The maximum of each window; among equal maxima, the first in scan order gets the gradient.

    z = 3, s = 2 overlaps (the paper's choice), z = 2, s = 2 does not.
    """

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        y, argmax = b.max_pool(x, *self.geometry(x.shape[1:]))
        return y, (x.shape, argmax)

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        x_shape, argmax = saved
        dx = b.max_pool_gradient(dy, argmax, x_shape, *self.geometry(x_shape[1:]))
        return dx, {}


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of the pixels in each window, excluding those outside the image.

    With `count_pads`, padding zeros count as pixels, as in Caffe and PyTorch; the overhang of the
    ceil rule at the right and bottom edge never counts.
    """

    count_pads: bool = False

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        return b.average_pool(x, *self.geometry(x.shape[1:]), self.counted), x.shape

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        x_shape = saved
        return b.average_pool_gradient(dy, x_shape, *self.geometry(x_shape[1:]), self.counted), {}

    @property
    def counted(self) -> Pads:
        """The padding that counts in the means."""
        pad = self.pad if self.count_pads else 0
        return (pad, pad), (pad, pad)
