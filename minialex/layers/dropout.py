"""Dropout (paper, section 4.2)."""

from dataclasses import dataclass
from math import prod

from minialex.layers.base import Layer, require


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
            return (x if self.inverted else x * self.keep), None
        if self.keep == 1:
            return x, None
        flat = (x.shape[0], prod(x.shape[1:]))
        mask = b.dropout_mask(flat, self.keep, mode.seed, mode.layer, mode.step, mode.first_image)
        factor = b.xp.astype(b.xp.reshape(mask, x.shape), x.dtype)
        if self.inverted:
            factor = factor / self.keep
        return x * factor, factor

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        if saved is None:
            return (dy if self.inverted else dy * self.keep), {}
        factor = saved
        return dy * factor, {}
