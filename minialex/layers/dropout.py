"""Dropout (paper, section 4.2)."""

from dataclasses import dataclass
from typing import Any

from minialex.backends.base import Array, Backend
from minialex.layers.base import Layer, Mode, Params, Saved, Shape, require


@dataclass(frozen=True)
class Dropout(Layer):
    """Zeroes units with probability 1 - keep in training, and multiplies by `keep` at test time.

    `inverted=True` is the form used by Caffe and PyTorch: divide by `keep` in training, do nothing
    at test time. The mask depends only on seed, step, layer, image and unit (see `minialex.rng`).
    """

    saves_input = False
    saves_output = False

    keep: float = 0.5
    inverted: bool = False

    def __post_init__(self) -> None:
        require(
            0 < self.keep <= 1,
            f"dropout must keep a fraction in (0, 1] of the units, not {self.keep}",
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        if not mode.training:
            return (x if self.inverted else b.scale(x, self.keep)), None
        if self.keep == 1:
            return x, None
        return b.dropout(x, *self.draw(mode))

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        if saved is None:
            return (dy if self.inverted else b.scale(dy, self.keep)), {}
        return b.dropout_gradient(dy, saved), {}

    @property
    def factor(self) -> float:
        """The factor that multiplies kept units in training."""
        return 1 / self.keep if self.inverted else 1.0

    def draw(self, mode: Mode) -> tuple[Any, ...]:
        """The arguments of the backend's `dropout` after x: keep, factor, random counters."""
        part = (mode.first_image, mode.first_channel, mode.channels)
        return self.keep, self.factor, mode.seed, mode.layer, mode.step, *part
