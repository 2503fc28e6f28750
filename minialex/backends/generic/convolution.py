"""Convolution with groups, and its gradients, as products with im2col (paper, section 3.5)."""

import math
from collections.abc import Iterator

from minialex.backends.base import Array, Pads, Pair, Shape, output_shape
from minialex.backends.generic.windows import GenericWindows, taps
from minialex.errors import InputError

# im2col copies each input number R·S times; blocks of images keep the copy within 64 MiB.
_COLUMN_NUMBERS = 1 << 24


class GenericConvolution(GenericWindows):
    """Convolution."""

    def convolution(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        pads: Pads,
        groups: int,
        relu: bool = False,
    ) -> Array:
        """y = im2col(x) W + b within each group (paper, section 3.5), then max(0, y) if `relu`.

        x (N, H, W, C), weight (R, S, C/G, K), bias (K,) or None -> y (N, P, Q, K).
        """
        n, h, w, _ = x.shape
        r, s, cg, k = weight.shape
        kg = k // groups
        p, q = output_shape((h, w), (r, s), stride, pads)
        y = self._empty((n, p, q, k), x)
        for images in self._blocks(n, p * q * r * s * cg):
            padded = self._pad(x[images, ...], pads, 0.0)
            for g in range(groups):
                cols = self._im2col(padded[..., g * cg : (g + 1) * cg], (r, s), stride, (p, q))
                w_g = self.xp.reshape(weight[..., g * kg : (g + 1) * kg], (r * s * cg, kg))
                y_g = self.xp.matmul(cols, w_g)  # (N·P·Q, K/G)
                y[images, :, :, g * kg : (g + 1) * kg] = self.xp.reshape(y_g, (-1, p, q, kg))
        if bias is not None:
            y += bias
        return self.relu(y) if relu else y

    def convolution_input_gradient(
        self, dy: Array, weight: Array, input_shape: Shape, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        """dx = col2im(dy Wᵀ): dy (N, P, Q, K) -> dx of `input_shape` (N, H, W, C)."""
        n, h, w, c = input_shape
        r, s, cg, k = weight.shape
        p, q = dy.shape[1:3]
        kg = k // groups
        dx = self._empty((n, h, w, c), dy)
        for images in self._blocks(n, p * q * r * s * cg):
            for g in range(groups):
                dy_g = self.xp.reshape(dy[images, :, :, g * kg : (g + 1) * kg], (-1, kg))
                w_g = self.xp.reshape(weight[..., g * kg : (g + 1) * kg], (r * s * cg, kg))
                cols = self.xp.matmul(dy_g, w_g.T)  # (N·P·Q, R·S·C/G)
                cols = self.xp.reshape(cols, (-1, p, q, r, s, cg))
                dx[images, :, :, g * cg : (g + 1) * cg] = self._col2im(cols, (h, w), stride, pads)
        return dx

    def convolution_input_gradient_relu(
        self, dy: Array, weight: Array, x: Array, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        """The same, also through the ReLU whose output x is the convolution's input."""
        dx = self.convolution_input_gradient(dy, weight, x.shape, stride, pads, groups)
        return self.relu_gradient(dx, x)

    def convolution_weight_gradient(
        self, x: Array, dy: Array, kernel: Pair, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        """dW = im2col(x)ᵀ dy: x (N, H, W, C), dy (N, P, Q, K) -> dW (R, S, C/G, K)."""
        n, c, k = x.shape[0], x.shape[3], dy.shape[3]
        (r, s), (p, q) = kernel, dy.shape[1:3]
        cg, kg = c // groups, k // groups
        dw = self._zeros((r, s, cg, k), x)
        for images in self._blocks(n, p * q * r * s * cg):
            padded = self._pad(x[images, ...], pads, 0.0)
            for g in range(groups):
                cols = self._im2col(padded[..., g * cg : (g + 1) * cg], (r, s), stride, (p, q))
                dy_g = self.xp.reshape(dy[images, :, :, g * kg : (g + 1) * kg], (-1, kg))
                dw_g = self.xp.matmul(cols.T, dy_g)  # (R·S·C/G, K/G)
                dw[..., g * kg : (g + 1) * kg] += self.xp.reshape(dw_g, (r, s, cg, kg))
        return dw

    def convolution_parameter_gradients(
        self,
        x: Array,
        dy: Array,
        weight_shape: Shape,
        stride: Pair,
        pads: Pads,
        groups: int,
        bias: bool = True,
    ) -> tuple[Array, Array | None]:
        """dW of `weight_shape` (R, S, C/G, K), and db (K,), or None without `bias`."""
        dw = self.convolution_weight_gradient(
            x, dy, (weight_shape[0], weight_shape[1]), stride, pads, groups
        )
        return dw, self.bias_gradient(dy) if bias else None

    @property
    def convolution_by(self) -> str:
        """Always "im2col"."""
        return "im2col"

    @convolution_by.setter
    def convolution_by(self, way: str) -> None:
        if way != "im2col":
            raise InputError(f'backend "{self.name}" has only im2col for convolutions, not {way}')

    @property
    def has_warpgroup_products(self) -> bool:
        """Always False: only GPUs have it."""
        return False

    def _im2col(self, x: Array, window: Pair, stride: Pair, output: Pair) -> Array:
        """Each output pixel's window as a row: x (N, H, W, C) -> (N·P·Q, R·S·C)."""
        n, c = x.shape[0], x.shape[3]
        cols = self._empty((n, *output, *window, c), x)  # (N, P, Q, R, S, C)
        for r, s, rows, columns in taps(window, stride, output):
            cols[:, :, :, r, s, :] = x[:, rows, columns, :]
        return self.xp.reshape(cols, (-1, window[0] * window[1] * c))

    def _col2im(self, cols: Array, size: Pair, stride: Pair, pads: Pads) -> Array:
        """The adjoint of padding and im2col: (N, P, Q, R, S, C) -> (N, H, W, C), summed."""
        n, p, q, r, s, c = cols.shape
        (top, bottom), (left, right) = pads
        h, w = size
        padded = self._zeros((n, h + top + bottom, w + left + right, c), cols)
        for i, j, rows, columns in taps((r, s), stride, (p, q)):
            padded[:, rows, columns, :] += cols[:, :, :, i, j, :]
        return padded[:, top : top + h, left : left + w, :]

    def convolution_workspace(
        self, x_shape: Shape, weight_shape: Shape, stride: Pair, pads: Pads, groups: int
    ) -> int:
        """The columns of a block of images."""
        n, h, w, _ = x_shape
        r, s, cg, _ = weight_shape
        columns = r * s * cg * math.prod(output_shape((h, w), (r, s), stride, pads))
        size = 2 if self.precision.half else 4
        return min(columns * size * n, max(_COLUMN_NUMBERS * 4, columns * size))

    @staticmethod
    def _blocks(n: int, numbers: int) -> Iterator[slice]:
        """Slices of the batch that stay within the column budget at `numbers` values per image."""
        step = max(1, _COLUMN_NUMBERS // max(1, numbers))
        for start in range(0, n, step):
            yield slice(start, min(n, start + step))
