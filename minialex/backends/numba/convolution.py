"""Convolution as products of blocks of rows that stay in the cache, by tiles, or directly.

Letters: N batch, H W input, C channels in, K channels out, R S kernel, P Q output, G groups;
L = R·S·C/G is the length of a row of columns. A thread fills the rows of one block, multiplies,
adds the bias and applies the ReLU while everything is in its cache; the columns of a whole batch
never exist at once.
"""

from math import prod

import numpy as np
from numba import prange

from minialex.backends.base import Array, Pads, Pair, Shape, output_shape
from minialex.backends.numba import (
    direct_convolution,
    vectors,
    winograd,
    winograd_gradient,
    winograd_panels,
)
from minialex.backends.numba.blas import multiply, multiply_by_transposed, multiply_transposed
from minialex.backends.numba.claims import claim, new_claims
from minialex.backends.numba.elementwise import add, copy, finish
from minialex.backends.numba.execution import NumbaExecution
from minialex.utils.jit import compiled, threaded

_ROWS = 512  # im2col rows that a thread multiplies at once: a block that fits in the cache
_TOGETHER = 72  # tiles that a thread multiplies at once: they fit in its cache
_FEW = 64  # with fewer tiles, transforming the weights costs more than tiles save
_SAVED = 25  # multiplications per number: with fewer, moving numbers to tiles costs more
_SAVED_OF_DIRECT = 40  # the same beside direct convolution, which is faster than columns
_ROWS_OF_ONE = 128  # with one image, whose columns are not in any cache yet, if the weights are
_SMALL = 1 << 18  # bytes of weights that stay in the cache from block to block
_SAVED_OF_ONE = 100  # with one image the transform of the weights weighs more


class NumbaConvolution(NumbaExecution):
    """Convolution by blocks of columns, by Winograd tiles, or directly."""

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
        x = np.ascontiguousarray(x)
        r, s, _, k = weight.shape
        n, h, w, _ = x.shape
        output = output_shape((h, w), (r, s), stride, pads)
        y = self._new((n, *output, k), x)
        if bias is None:
            bias = np.zeros(k, x.dtype)
        corner, rows = (pads[0][0], pads[1][0]), n * prod(output)
        if self._few(x, weight, bias, output, stride, groups):
            self._panels(x, weight, bias, y, stride[0], corner, groups, relu)
            return y
        usable = vectors.usable(x, weight, bias)
        directly = usable and direct_convolution.worthwhile(n, weight.shape, output, groups)
        least = _SAVED_OF_DIRECT if directly else _SAVED_OF_ONE if n == 1 else _SAVED
        if self._by_tiles(n, weight.shape, output, stride, groups, least):
            self._tiles(x, weight, bias, y, stride[0], corner, groups, relu)
            return y
        if directly:
            self._direct(x, weight, bias, y, stride, corner, groups, relu)
            return y
        geometry = ((r, s), stride, corner, output, groups, relu, self._shares)
        weights, bias = np.ascontiguousarray(weight).reshape(-1, k), np.ascontiguousarray(bias)
        parts = self._parts(n, rows, k, groups)
        block = self._block(rows, groups) if parts == 1 else min(_ROWS, rows)
        if n == 1 and weights.nbytes <= _SMALL:
            block = min(block, _ROWS_OF_ONE)
        self._run(forward, x, weights, bias, y.reshape(-1, k), *geometry, block, parts)
        return y

    def convolution_weight_gradient(
        self, x: Array, dy: Array, kernel: Pair, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        x, dy = np.ascontiguousarray(x), np.ascontiguousarray(dy)
        c, k, length = x.shape[3], dy.shape[3], prod(kernel) * x.shape[3] // groups
        corner, shape = (pads[0][0], pads[1][0]), (*kernel, c // groups, k)
        output = dy.shape[1:3]
        directly = vectors.usable(x, dy) and direct_convolution.worthwhile(
            len(x), shape, output, groups
        )
        least = _SAVED_OF_DIRECT if directly else _SAVED
        if self._by_tiles(len(x), shape, output, stride, groups, least):
            return self._weight_gradient_by_tiles(x, dy, shape, stride[0], corner, groups)
        if directly:
            return self._direct_weight_gradient(x, dy, shape, stride, corner, groups)
        dw = self._new((self._shares, length, k), x)
        rows = dy.size // k
        block = 2 * self._block(rows, groups)
        geometry = (kernel, stride, corner, output, groups, self._shares, block)
        self._run(weight_gradient, x, dy.reshape(-1, k), dw, *geometry)
        return _sum(dw).reshape(shape)

    def convolution_input_gradient(
        self, dy: Array, weight: Array, input_shape: Shape, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        dy = np.ascontiguousarray(dy)
        k, output = dy.shape[3], dy.shape[1:3]
        dx = self._new(input_shape, dy)
        whole = tuple(stride) == (1, 1)
        if whole and self._by_tiles(len(dy), weight.shape, input_shape[1:3], stride, groups):
            r, _, cg, _ = weight.shape
            flipped = weight[::-1, ::-1].reshape(r, r, cg, groups, k // groups)
            flipped = flipped.transpose(0, 1, 4, 3, 2).reshape(r, r, k // groups, groups * cg)
            corner = (r - 1 - pads[0][0], r - 1 - pads[1][0])
            self._tiles(dy, flipped, np.zeros(groups * cg, dy.dtype), dx, 1, corner, groups, False)
            return dx
        weights = np.ascontiguousarray(weight).reshape(-1, k)
        together = max(1, min(_ROWS // prod(output), -(-len(dy) // self._shares)))
        geometry = (weight.shape[:2], stride, (pads[0][0], pads[1][0]), output, groups)
        self._run(
            input_gradient,
            dy.reshape(-1, k),
            weights,
            dx,
            *geometry,
            self._shares,
            together,
        )
        return dx

    def _few(self, x, weight, bias, output, stride, groups) -> bool:
        """Whether these are few images at test time, for which panels pay off sooner."""
        if self.precision.exact or not self._inference or len(x) > winograd_panels.FEW:
            return False
        possible = vectors.usable(x, weight, bias)
        return possible and winograd_panels.worthwhile(len(x), weight.shape, output, stride, groups)

    def _by_tiles(self, images: int, weight_shape, output, stride, groups, least=_SAVED) -> bool:
        """Whether tiles pay off: they save at least `least` multiplications per number in them."""
        r, s, cg, k = weight_shape
        taps, channels = -(-r // stride[0]), cg * stride[0] ** 2
        if self.precision.exact or r != s or stride[0] != stride[1] or taps not in (3, 4, 5):
            return False
        tiles = prod(-(-extent // winograd.outputs(taps)) for extent in output)
        saved = prod(output) * r * s * cg / (tiles * winograd.POINTS * channels) - 1
        numbers = 1 / channels + groups / k  # for each multiplication
        return images * tiles >= _FEW and saved >= least * numbers

    def _direct(self, x, weight, bias, y, stride, corner, groups, relu) -> None:
        """Convolve x into y with its sums in registers."""
        (r, s), cg = weight.shape[:2], weight.shape[2]
        shape = direct_convolution.frame_shape((r, s), stride, y.shape[1:3], cg)
        floor = np.full(1, 0 if relu else -np.inf, x.dtype)
        weights, bias = np.ascontiguousarray(weight).reshape(-1), np.ascontiguousarray(bias)
        frames = direct_convolution.frames(self.threads, shape, x)
        how = (floor, y, frames, shape, (r, s), stride, corner, groups)
        self._run(direct_convolution.forward, x, weights, bias, *how)

    def _direct_weight_gradient(self, x, dy, shape, stride, corner, groups):
        r, s, cg, k = shape
        frame = direct_convolution.frame_shape((r, s), stride, dy.shape[1:3], cg)
        dw = self._new((self._shares, r, direct_convolution.window_row((r, s), cg), k), x)
        frames = direct_convolution.frames(self._shares, frame, x)
        how = (frames, frame, (r, s), stride, corner, groups)
        at_once = max(1, direct_convolution.AT_ONCE // (dy.shape[2] * k))
        self._run(direct_convolution.weight_gradient, x, dy, dw, *how, at_once)
        return np.ascontiguousarray(_sum(dw)[:, : s * cg]).reshape(shape)

    def _panels(self, x, weight, bias, y, stride, corner, groups, relu) -> None:
        """Convolve x into y by tiles, transforming the kernels in the cache."""
        bias = np.ascontiguousarray(bias)
        winograd_panels.convolution(self, x, weight, bias, y, stride, corner, groups, relu)

    def _tiles(self, x, weight, bias, y, stride, corner, groups, relu) -> None:
        """Convolve x by tiles, into y."""
        usable = vectors.usable(x, weight, bias)
        if usable and winograd_panels.suitable(len(x), weight.shape, y.shape[1:3], stride, groups):
            self._panels(x, weight, bias, y, stride, corner, groups, relu)
            return
        weight = winograd.over_phases(weight, stride)
        size = winograd.outputs(len(weight))
        a, g, b = winograd.matrices(len(weight), x.dtype.name)
        u = self._new((winograd.POINTS, *weight.shape[2:]), x)
        self._run(winograd.weights, weight, g, u)
        together, columns = self._together(y.shape, size, groups), -(-y.shape[2] // size)
        wide, tiles = size * (columns - 1) + winograd.TILE, together * columns
        channels, k = u.shape[1], y.shape[3] // groups
        sums = winograd.TILE * max(wide * channels, size * columns * k)
        workers = min(self._shares, self.threads)
        room = (
            self._new((workers, winograd.TILE, wide, channels), x),
            self._new((workers, winograd.POINTS, tiles, channels), x),
            self._new((workers, winograd.POINTS, tiles, k), x),
            self._new((workers, sums), x),
        )
        how = (stride, corner, size, groups, relu, together, room)
        self._run(winograd.forward, x, u, a, b, np.ascontiguousarray(bias), y, *how)

    def _weight_gradient_by_tiles(self, x, dy, shape, stride, corner, groups):
        taps, k = -(-shape[0] // stride), shape[3]
        size, channels, kg = winograd.outputs(taps), stride * stride * shape[2], k // groups
        a, g, b = winograd.matrices(size, x.dtype.name)  # the tiles of dy are the kernels here
        du = self._new((winograd.POINTS, channels, k), x)
        dw = self._new((taps, taps, channels, k), x)
        if vectors.usable(x, dy) and winograd_gradient.suitable(shape, stride, groups):
            winograd_gradient.gradient(self, x, dy, du, stride, corner, size, groups)
            self._run(winograd.gathered, du, a, dw)
            return winograd.of_phases(dw, stride, shape)
        together, columns = (
            self._shares * self._together(dy.shape, size, groups),
            -(-dy.shape[2] // size),
        )
        wide, tiles = size * (columns - 1) + winograd.TILE, together * columns
        sums = winograd.TILE * max(wide * channels, size * columns * kg)
        workers = min(self._shares, self.threads)
        room = (
            self._new((groups, winograd.POINTS, tiles, channels), x),
            self._new((groups, winograd.POINTS, tiles, kg), x),
            self._new((workers, winograd.TILE, wide, channels), x),
            self._new((workers, size, size * columns, kg), x),
            self._new((workers, sums), x),
        )
        how = (stride, corner, size, groups, together, room)
        self._run(winograd.weight_gradient, x, dy, b, g, du, *how)
        self._run(winograd.gathered, du, a, dw)
        return winograd.of_phases(dw, stride, shape)

    def _together(self, output_shape, size: int, groups: int) -> int:
        """Rows of tiles that a thread multiplies at once, such that each thread gets some."""
        n, p, q, _ = output_shape
        lines, columns = n * -(-p // size), -(-q // size)
        return max(1, min(-(-_TOGETHER // columns), lines * groups // self._shares))

    def _parts(self, images: int, rows: int, k: int, groups: int) -> int:
        """Into how many parts threads divide the output channels: 1, they divide rows instead.

        One image has few rows in the later layers; each thread would read all weights for some.
        """
        return self._shares if images == 1 and groups == 1 and self._shares <= k > rows else 1

    def _block(self, rows: int, groups: int) -> int:
        """Rows of a block: few enough to fit in the cache and to give every thread some."""
        return max(1, min(_ROWS, -(-rows * groups // self._shares)))


def _sum(parts: np.ndarray) -> np.ndarray:
    """The sum of the threads' shares, in order, in the first one's memory."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


@compiled
def _fill(x, cols, first, count, c0, cg, size, stride, pad, output):
    """Rows first … first + count - 1 of the columns of one group, into cols[:count]."""
    (r_size, s_size), (p_size, q_size) = size, output
    h_size, w_size, c_size = x.shape[1:]
    numbers, filled, run = x.reshape(-1), cols.reshape(-1), s_size * cg
    for i in range(count):
        row = first + i
        n, p, q = row // (p_size * q_size), row // q_size % p_size, row % q_size
        h0, w0 = p * stride[0] - pad[0], q * stride[1] - pad[1]
        within = w0 >= 0 and w0 + s_size <= w_size
        for r in range(r_size):
            h, to = h0 + r, (i * r_size + r) * run
            start = ((n * h_size + h) * w_size + w0) * c_size + c0
            if h < 0 or h >= h_size:
                filled[to : to + run] = 0
            elif within and cg == c_size:
                copy(numbers, start, filled, to, run)
            else:
                for s in range(s_size):
                    if 0 <= w0 + s < w_size:
                        copy(numbers, start + s * c_size, filled, to + s * cg, cg)
                    else:
                        filled[to + s * cg : to + (s + 1) * cg] = 0


@threaded
def forward(x, weights, bias, y, size, stride, pad, output, groups, relu, threads, block, parts):
    """y (N·P·Q, K) from x (N, H, W, C) and weights (L, K).

    Threads divide blocks of rows, groups, and `parts` of a group's channels.
    """
    length, k_size = weights.shape
    cg, kg, numbers = x.shape[3] // groups, k_size // groups, y.reshape(-1)
    rows = y.shape[0]
    blocks = (rows + block - 1) // block
    claimed = new_claims()
    for _ in prange(threads):
        cols = np.empty((block, length), x.dtype)
        item = claim(claimed)
        while item < blocks * groups * parts:
            part, g, first = item % parts, item // parts % groups, item // (parts * groups) * block
            count = min(block, rows - first)
            _fill(x, cols, first, count, g * cg, cg, size, stride, pad, output)
            k0, k1 = g * kg + kg * part // parts, g * kg + kg * (part + 1) // parts
            multiply(cols[:count], weights[:, k0:k1], y[first : first + count, k0:k1])
            for i in range(first, first + count):
                finish(numbers, i * k_size + k0, k1 - k0, bias, k0, relu)
            item = claim(claimed)


@threaded
def weight_gradient(x, dy, dw, size, stride, pad, output, groups, threads, block):
    """dw (threads, L, K), partial sums, from x (N, H, W, C) and dy (N·P·Q, K)."""
    length, kg = dw.shape[1], dw.shape[2] // groups
    cg = x.shape[3] // groups
    rows = dy.shape[0]
    blocks = (rows + block - 1) // block
    for t in prange(threads):
        cols = np.empty((block, length), x.dtype)
        dw[t] = 0
        for item in range(t, blocks * groups, threads):
            g, first = item % groups, item // groups * block
            count = min(block, rows - first)
            _fill(x, cols, first, count, g * cg, cg, size, stride, pad, output)
            dy_group = dy[first : first + count, g * kg : (g + 1) * kg]
            multiply_transposed(cols[:count], dy_group, dw[t, :, g * kg : (g + 1) * kg], True)


@threaded
def input_gradient(dy, weights, dx, size, stride, pad, output, groups, threads, images):
    """dx (N, H, W, C) from dy (N·P·Q, K) and weights (L, K), some images at a time."""
    length, kg = weights.shape[0], weights.shape[1] // groups
    n_size, h_size, w_size, c_size = dx.shape
    cg, sums = c_size // groups, dx.reshape(-1)
    (r_size, s_size), (p_size, q_size) = size, output
    pixels = p_size * q_size
    blocks = (n_size + images - 1) // images
    claimed = new_claims()
    for _ in prange(threads):
        cols = np.empty((images * pixels, length), dy.dtype)
        made = cols.reshape(-1)
        item = claim(claimed)
        while item < blocks:
            first = item * images
            count = min(images, n_size - first)
            dx[first : first + count] = 0
            for g in range(groups):
                dy_group = dy[first * pixels : (first + count) * pixels, g * kg : (g + 1) * kg]
                own = weights[:, g * kg : (g + 1) * kg]
                multiply_by_transposed(dy_group, own, cols[: count * pixels])
                for i in range(count * pixels):
                    n, p, q = first + i // pixels, i // q_size % p_size, i % q_size
                    h0, w0 = p * stride[0] - pad[0], q * stride[1] - pad[1]
                    for r in range(r_size):
                        h = h0 + r
                        if h < 0 or h >= h_size:
                            continue
                        for s in range(s_size):
                            w = w0 + s
                            if w < 0 or w >= w_size:
                                continue
                            to = ((n * h_size + h) * w_size + w) * c_size + g * cg
                            add(made, i * length + (r * s_size + s) * cg, sums, to, cg)
            item = claim(claimed)
