"""Maximum and average pooling, and their gradients (paper, section 3.4)."""

import math
from typing import Any

import numpy as np

from minialex.backends.base import NO_PADS, Array, Pads, Pair, Shape, output_shape
from minialex.backends.generic.windows import GenericWindows, taps


class GenericPooling(GenericWindows):
    """Pooling."""

    def max_pool(self, x: Array, window: Pair, stride: Pair, pads: Pads) -> tuple[Array, Array]:
        """Maxima of windows (paper, section 3.4): x (N, H, W, C) -> y, argmax (N, P, Q, C).

        `argmax` is the tap r·S + s of the first maximum in scan order; a NaN wins, padding never.
        """
        output = output_shape(x.shape[1:3], window, stride, pads)
        padded = self._pad(x, pads, -math.inf)
        y = argmax = None
        for r, s, rows, columns in taps(window, stride, output):
            tap = padded[:, rows, columns, :]
            if y is None or argmax is None:
                y = self.xp.asarray(tap, copy=True)
                argmax = self.xp.zeros(y.shape, dtype=self.xp.int32, device=self.device)
                continue
            wins = (tap > y) | (self.xp.isnan(tap) & ~self.xp.isnan(y))
            y = self.xp.where(wins, tap, y)
            here = self.xp.full_like(argmax, r * window[1] + s)
            argmax = self.xp.where(wins, here, argmax)
        return y, argmax

    def max_pool_gradient(
        self, dy: Array, argmax: Array, input_shape: Shape, window: Pair, stride: Pair, pads: Pads
    ) -> Array:
        """Each dy goes to its window's first maximum: dy (N, P, Q, C) -> dx (N, H, W, C)."""
        n, h, w, c = input_shape
        (top, bottom), (left, right) = pads
        padded = self._zeros((n, h + top + bottom, w + left + right, c), dy)
        none = self.xp.zeros_like(dy)
        for r, s, rows, columns in taps(window, stride, dy.shape[1:3]):
            padded[:, rows, columns, :] += self.xp.where(argmax == r * window[1] + s, dy, none)
        return padded[:, top : top + h, left : left + w, :]

    def average_pool(
        self, x: Array, window: Pair, stride: Pair, pads: Pads, counted: Pads = NO_PADS
    ) -> Array:
        """Means over the part of each window inside the image: x (N, H, W, C) -> (N, P, Q, C).

        The image includes the pads `counted`, which are zeros.
        """
        output = output_shape(x.shape[1:3], window, stride, pads)
        padded = self._pad(x, pads, 0.0)
        y = self._zeros((x.shape[0], *output, x.shape[3]), x)
        for _, _, rows, columns in taps(window, stride, output):
            y += padded[:, rows, columns, :]
        return y / self._areas(x, x.shape[1:3], window, stride, pads, counted)

    def average_pool_gradient(
        self,
        dy: Array,
        input_shape: Shape,
        window: Pair,
        stride: Pair,
        pads: Pads,
        counted: Pads = NO_PADS,
    ) -> Array:
        """Each dy spread evenly over its window: dy (N, P, Q, C) -> dx (N, H, W, C)."""
        n, h, w, c = input_shape
        (top, bottom), (left, right) = pads
        share = dy / self._areas(dy, (h, w), window, stride, pads, counted)
        padded = self._zeros((n, h + top + bottom, w + left + right, c), dy)
        for _, _, rows, columns in taps(window, stride, dy.shape[1:3]):
            padded[:, rows, columns, :] += share
        return padded[:, top : top + h, left : left + w, :]

    def _areas(
        self, like: Any, size: Pair, window: Pair, stride: Pair, pads: Pads, counted: Pads
    ) -> Array:
        """The number of image pixels in each window: (1, P, Q, 1)."""
        inside = [
            [
                min(i * step + reach, before + extent + behind) - max(i * step, before - ahead)
                for i in range(count)
            ]
            for extent, reach, step, (before, _), (ahead, behind), count in zip(
                *(size, window, stride, pads, counted),
                output_shape(size, window, stride, pads),
                strict=True,
            )
        ]
        areas = np.maximum(np.outer(inside[0], inside[1]), 1)[None, :, :, None]
        return self.xp.asarray(areas, dtype=like.dtype, device=self.device)
