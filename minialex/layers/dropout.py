"""Dropout (paper, section 4.2)."""

from dataclasses import dataclass

from minialex.layers.base import Layer, Mode, require


@dataclass(frozen=True)
class Dropout(Layer):
    """Each unit is zero with probability 1 - keep in training, and times `keep` at test time.

    `inverted=True` is the form of Caffe and PyTorch: divided by `keep` in training, nothing at test
    time. The mask is a function of seed, step, layer, image and unit (see `minialex.rng`).
    """

    keep: float = 0.5
    inverted: bool = False

    def __post_init__(self):
        require(
            0 < self.keep <= 1, f"dropout keeps a share in (0, 1] of the units, not {self.keep}"
        )

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, b, params, x, mode):
        if not mode.training:
            return (x if self.inverted else b.scale(x, self.keep)), None
        if self.keep == 1:
            return x, None
        return b.dropout(x, *self.draw(mode))

    @property
    def factor(self) -> float:
        """What a unit that stays is multiplied by in training."""
        return 1 / self.keep if self.inverted else 1.0

    def draw(self, mode: Mode) -> tuple:
        """keep, factor, and where in the stream of random numbers the units stand."""
        place = (mode.first_image, mode.first_channel, mode.channels)
        return self.keep, self.factor, mode.seed, mode.layer, mode.step, *place

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        if saved is None:
            return (dy if self.inverted else b.scale(dy, self.keep)), {}
        return b.dropout_gradient(dy, saved), {}
