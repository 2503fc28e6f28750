"""Pooling: overlapping maxima (paper, section 3.4), and averages for the CIFAR-10 network."""

from dataclasses import dataclass

from minialex.layers import output_size
from minialex.layers.base import Layer, require


@dataclass(frozen=True)
class _Pool(Layer):
    """A z x z window that moves s pixels at a time over x (N, H, W, C) -> y (N, P, Q, C)."""

    window: int = 3
    stride: int = 2
    pad: int = 0
    rounding: str = "floor"

    def __post_init__(self):
        output_size.check("pooling", self.window, self.stride, self.pad, self.rounding)
        require(
            self.pad < self.window,
            f"pooling: padding {self.pad} hides whole {self.window}x{self.window} windows: "
            "pad less than the window",
        )

    def output_shape(self, input_shape):
        pads = self._pads(input_shape)
        return (*output_size.moved(input_shape, self.window, self.stride, pads), input_shape[2])

    def place(self, batch_shape):
        """What the op takes behind x."""
        pads = self._pads(batch_shape[1:])
        return (self.window, self.window), (self.stride, self.stride), pads

    def _pads(self, input_shape):
        return output_size.resolve(input_shape, self.window, self.stride, self.pad, self.rounding)


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The maximum under each window; of equal maxima the first in scan order gets the gradient.

    z = 3, s = 2 overlaps (the paper's choice), z = 2, s = 2 does not.
    """

    def forward(self, b, params, x, mode):
        y, which = b.max_pool(x, *self.place(x.shape))
        return y, (x.shape, which)

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        input_shape, which = saved
        dx = b.max_pool_gradient(dy, which, input_shape, *self.place(input_shape))
        return dx, {}


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of the pixels under each window, without those outside the image."""

    def forward(self, b, params, x, mode):
        return b.average_pool(x, *self.place(x.shape)), x.shape

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        input_shape = saved
        return b.average_pool_gradient(dy, input_shape, *self.place(input_shape)), {}
