"""Padding and window positions, shared by convolution and pooling."""

from collections.abc import Iterator

from minialex.backends.base import Array, Pads, Pair
from minialex.backends.generic.arrays import GenericArrays


class GenericWindows(GenericArrays):
    """Padding."""

    def _pad(self, x: Array, pads: Pads, value: float) -> Array:
        """x (N, H, W, C) with `value` around it."""
        (top, bottom), (left, right) = pads
        if top == bottom == left == right == 0:
            return x
        n, h, w, c = x.shape
        shape = (n, h + top + bottom, w + left + right, c)
        padded = self.xp.full(shape, value, dtype=x.dtype, device=self.device)
        padded[:, top : top + h, left : left + w, :] = x
        return padded


def taps(window: Pair, stride: Pair, output: Pair) -> Iterator[tuple[int, int, slice, slice]]:
    """Each kernel position (r, s), in scan order, with the input rows and columns it covers."""
    for r in range(window[0]):
        for s in range(window[1]):
            rows = slice(r, r + stride[0] * (output[0] - 1) + 1, stride[0])
            columns = slice(s, s + stride[1] * (output[1] - 1) + 1, stride[1])
            yield r, s, rows, columns
