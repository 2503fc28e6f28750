"""The fast CPU: Numba kernels around BLAS, several images at once.

Requires Numba. Arrays are NumPy's; what has no kernel here is the NumPy backend's. Kernels are in
`cpu/`.
"""

import os
import threading
from contextlib import nullcontext
from math import prod

import numba
import numpy as np

from minialex import rng
from minialex.backends.base import output_shape
from minialex.backends.generic.dropout import threshold
from minialex.backends.numba import convolution, dense, maps, winograd
from minialex.backends.numba import elementwise as numbers
from minialex.backends.numba.allocator import MEMORY
from minialex.backends.numpy.backend import NumpyBackend
from minialex.errors import InputError
from minialex.utils import threads as cpu_threads
from minialex.utils.jit import is_kept

_empty, _packed = MEMORY.empty, np.ascontiguousarray
_ONE_AT_A_TIME = threading.Lock()  # each kernel takes all threads, and not every pool can be shared
_TOGETHER = 72  # tiles that a thread multiplies at once: they stay in its cache
_FEW = 64  # tiles below argmax making the weights' costs more than is saved
_SAVED, _SAVED_OF_WEIGHTS = 40, 60  # multiplications a number; weight gradients move more of them
_ROWS = 512  # of im2col that a thread multiplies at once: a block of them stays in the cache


def _most_threads() -> int:
    return numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


class NumbaBackend(NumpyBackend):
    """Compiled kernels on `threads` threads (None: the cores this process may use)."""

    _process: int | None = None  # where the kernels' threads are

    def __init__(self, device=None, threads: int | None = None):
        super().__init__(device)
        self.name = "numba"
        self.threads = cpu_threads.choose(threads, _most_threads())
        cpu_threads.load_blas()

    def with_threads(self, threads):
        return self if threads is None else type(self)(self.device, threads)

    def describe(self) -> str:
        return f"on the {self.name} backend, {self.threads} thread{'s' * (self.threads > 1)}"

    def remarks(self, devices):
        if is_kept(convolution.forward):
            return []
        return ["compiling for this machine, once: about half a minute"]

    def _run(self, kernel, *arguments) -> None:
        first = NumbaBackend._process is None
        NumbaBackend._process = NumbaBackend._process or os.getpid()
        if os.getpid() != NumbaBackend._process:
            raise InputError(
                "this process was forked from one that had used the numba backend, whose threads "
                'are not here: start processes with multiprocessing\'s "spawn", or use "numpy"'
            )
        with _ONE_AT_A_TIME, cpu_threads.short_waits() if first else nullcontext():
            numba.set_num_threads(self.threads)  # of the Python thread that calls
            kernel(*arguments)

    # ------------------------------------------------------------------------------ convolution

    def convolution(self, x, weight, bias, stride, pads, groups, relu=False):
        x = _packed(x)
        r, s, _, k = weight.shape
        n, h, w, _ = x.shape
        output = output_shape((h, w), (r, s), stride, pads)
        y = _empty((n, *output, k), x.dtype)
        if bias is None:
            bias = np.zeros(k, x.dtype)
        corner, rows = (pads[0][0], pads[1][0]), n * prod(output)
        if self._by_tiles(n, weight.shape, output, stride, groups):
            self._tiles(x, weight, bias, y, stride[0], corner, groups, relu)
            return y
        place = ((r, s), stride, corner, output, groups, relu, self.threads)
        weights, bias = _packed(weight).reshape(-1, k), _packed(bias)
        block = self._block(rows, groups)
        self._run(convolution.forward, x, weights, bias, y.reshape(-1, k), *place, block)
        return y

    def convolution_weight_gradient(self, x, dy, kernel, stride, pads, groups):
        x, dy = _packed(x), _packed(dy)
        c, k, length = x.shape[3], dy.shape[3], prod(kernel) * x.shape[3] // groups
        corner, shape = (pads[0][0], pads[1][0]), (*kernel, c // groups, k)
        if self._by_tiles(len(x), shape, dy.shape[1:3], stride, groups, _SAVED_OF_WEIGHTS):
            return self._weight_gradient_by_tiles(x, dy, shape, stride[0], corner, groups)
        dw = _empty((self.threads, length, k), x.dtype)
        rows = dy.size // k
        block = 2 * self._block(rows, groups)
        place = (kernel, stride, corner, dy.shape[1:3], groups, self.threads, block)
        self._run(convolution.weight_gradient, x, dy.reshape(-1, k), dw, *place)
        total = dw[0]
        for part in dw[1:]:
            total += part
        return total.reshape(shape)

    def convolution_input_gradient(self, dy, weight, input_shape, stride, pads, groups):
        dy = _packed(dy)
        k, output = dy.shape[3], dy.shape[1:3]
        dx = _empty(input_shape, dy.dtype)
        whole = tuple(stride) == (1, 1)
        if whole and self._by_tiles(len(dy), weight.shape, input_shape[1:3], stride, groups):
            r, _, cg, _ = weight.shape
            turned = weight[::-1, ::-1].reshape(r, r, cg, groups, k // groups)
            turned = turned.transpose(0, 1, 4, 3, 2).reshape(r, r, k // groups, groups * cg)
            corner = (r - 1 - pads[0][0], r - 1 - pads[1][0])
            self._tiles(dy, turned, np.zeros(groups * cg, dy.dtype), dx, 1, corner, groups, False)
            return dx
        weights = _packed(weight).reshape(-1, k)
        together = max(1, min(_ROWS // prod(output), -(-len(dy) // self.threads)))
        place = (weight.shape[:2], stride, (pads[0][0], pads[1][0]), output, groups)
        self._run(
            convolution.input_gradient,
            dy.reshape(-1, k),
            weights,
            dx,
            *place,
            self.threads,
            together,
        )
        return dx

    def _by_tiles(self, images: int, weight_shape, output, stride, groups, least=_SAVED) -> bool:
        """Whether tiles pay: they save `least` multiplications for each number in them, or more."""
        r, s, cg, k = weight_shape
        taps, channels = -(-r // stride[0]), cg * stride[0] ** 2
        if r != s or stride[0] != stride[1] or taps not in (3, 4, 5):
            return False
        tiles = prod(-(-extent // winograd.outputs(taps)) for extent in output)
        saved = prod(output) * r * s * cg / (tiles * winograd.PLACES * channels) - 1
        numbers = 1 / channels + groups / k  # for each multiplication
        return images * tiles >= _FEW and saved >= least * numbers

    def _tiles(self, x, weight, bias, y, stride, corner, groups, relu) -> None:
        """The convolution of x by tiles, into y."""
        weight = winograd.over_phases(weight, stride)
        size = winograd.outputs(len(weight))
        a, g, b = winograd.matrices(len(weight), x.dtype.name)
        u = _empty((winograd.PLACES, *weight.shape[2:]), x.dtype)
        self._run(winograd.weights, _packed(weight), g, u)
        together = self._together(y.shape, size, groups)
        how = (stride, corner, size, groups, relu, self.threads, together)
        self._run(winograd.forward, x, u, a, b, _packed(bias), y, *how)

    def _weight_gradient_by_tiles(self, x, dy, shape, stride, corner, groups):
        taps, k = -(-shape[0] // stride), shape[3]
        size, channels = winograd.outputs(taps), stride * stride * shape[2]
        a, g, b = winograd.matrices(size, x.dtype.name)  # the tiles of dy are the kernels here
        du = _empty((winograd.PLACES, channels, k), x.dtype)
        dw = _empty((taps, taps, channels, k), x.dtype)
        together = self.threads * self._together(dy.shape, size, groups)
        how = (stride, corner, size, groups, self.threads, together)
        self._run(winograd.weight_gradient, x, dy, b, g, du, *how)
        self._run(winograd.gathered, du, a, dw)
        return winograd.of_phases(dw, stride, shape)

    def _together(self, output_shape, size: int, groups: int) -> int:
        """Rows of tiles that a thread multiplies at once, so that each thread has some."""
        n, p, q, _ = output_shape
        lines, columns = n * -(-p // size), -(-q // size)
        return max(1, min(-(-_TOGETHER // columns), lines * groups // self.threads))

    def _block(self, rows: int, groups: int) -> int:
        """Rows of a block: few enough for the cache, and for every thread to have some."""
        return max(1, min(_ROWS, -(-rows * groups // self.threads)))

    # ------------------------------------------------------------------------------ dense

    def dense(self, x, weight, bias, relu=False):
        x = _packed(x).reshape(len(x), -1)
        y = _empty((len(x), weight.shape[1]), x.dtype)
        bias = np.zeros(y.shape[1], x.dtype) if bias is None else _packed(bias)
        self._run(dense.forward, x, _packed(weight), bias, y, relu, self.threads)
        return y

    def dense_input_gradient(self, dy, weight, input_shape):
        dx = _empty((len(dy), weight.shape[0]), dy.dtype)
        if dx.size:
            self._run(dense.input_gradient, _packed(dy), _packed(weight), dx, self.threads)
        return dx.reshape(input_shape)

    def dense_weight_gradient(self, x, dy):
        x = _packed(x).reshape(len(x), -1)
        dw = _empty((x.shape[1], dy.shape[1]), x.dtype)
        self._run(dense.weight_gradient, x, _packed(dy), dw, self.threads)
        return dw

    # ------------------------------------------------------------------------------ maps

    def max_pool(self, x, window, stride, pads):
        x = _packed(x)
        output = output_shape(x.shape[1:3], window, stride, pads)
        y = _empty((len(x), *output, x.shape[3]), x.dtype)
        kind = np.uint8 if prod(window) <= 256 else np.int32
        argmax = _empty(y.shape, kind)
        self._run(maps.max_pool, x, y, argmax, window, stride, (pads[0][0], pads[1][0]))
        return y, argmax

    def max_pool_gradient(self, dy, argmax, input_shape, window, stride, pads):
        dx = _empty(input_shape, dy.dtype)
        corner = (pads[0][0], pads[1][0])
        self._run(maps.max_pool_gradient, _packed(dy), _packed(argmax), dx, window, stride, corner)
        return dx

    def response_norm(self, x, n, k, alpha, beta, groups):
        x = _packed(x)
        y, c = _empty(x.shape, x.dtype), x.shape[-1]
        constants = (c // groups, n, *map(x.dtype.type, (k, alpha, beta)), self.threads)
        self._run(maps.response_norm, x.reshape(-1, c), y.reshape(-1, c), *constants)
        return y, x

    def response_norm_gradient(self, dy, saved, n, k, alpha, beta, groups):
        x = saved
        dx, c = _empty(x.shape, x.dtype), x.shape[-1]
        constants = (c // groups, n, *map(x.dtype.type, (k, alpha, beta)), self.threads)
        arrays = (_packed(dy), x, dx)
        self._run(maps.response_norm_gradient, *(a.reshape(-1, c) for a in arrays), *constants)
        return dx

    # ------------------------------------------------------------------------------ numbers

    def relu(self, x):
        x = _packed(x)
        y = _empty(x.shape, x.dtype)
        self._run(numbers.relu, x.reshape(-1), y.reshape(-1))
        return y

    def relu_gradient(self, dy, y):
        dy, y = _packed(dy), _packed(y)
        dx = _empty(dy.shape, dy.dtype)
        self._run(numbers.relu_gradient, dy.reshape(-1), y.reshape(-1), dx.reshape(-1))
        return dx

    def bias_gradient(self, dy):
        k = dy.shape[-1]
        partial = _empty((self.threads, k), dy.dtype)
        self._run(numbers.row_sums, _packed(dy).reshape(-1, k), partial)
        return partial.sum(axis=0)

    def dropout_mask(
        self, shape, keep, seed, stream, step, first_image=0, first_channel=0, channels=None
    ):
        c = shape[-1]
        mask = _empty((shape[0], prod(shape[1:])), bool)
        place = (c, first_image, first_channel, channels or c, step)
        key = (int(rng.Stream.DROPOUT) + stream, seed & 0xFFFFFFFF, seed >> 32)
        self._run(numbers.dropout_mask, mask, *place, *key, np.uint64(threshold(keep)))
        return mask.reshape(shape)

    def crops(self, images, top, left, flip, crop, mean, mean_top, mean_left, shift, scale, dtype):
        images, kind = _packed(images), np.dtype(dtype).type
        n, c = len(top), images.shape[3]
        out = _empty((n, crop, crop, c), dtype)
        mean = _packed(mean, dtype)
        shift = np.zeros((n, c), dtype) if shift is None else _packed(shift, dtype)
        corner = (-1, -1) if mean_top is None else (mean_top, mean_left)
        for place, array in ((top, images[0]), (left, images[0].swapaxes(0, 1)), (corner, mean)):
            if n and not -1 <= min(place) <= max(place) <= len(array) - crop:
                raise ValueError(
                    f"a crop of {crop} at {max(place)} leaves an image of {len(array)}"
                )
        where = np.asarray(top, np.int64), np.asarray(left, np.int64), np.asarray(flip, bool)
        self._run(
            numbers.crops,
            images,
            where[0],
            where[1],
            where[2],
            mean,
            corner[0],
            corner[1],
            shift,
            kind(scale),
            out,
        )
        return out

    def sgd_update(self, weight, velocity, gradient, rate, momentum, decay):
        arrays = (weight, velocity, gradient)
        if not all(a.flags.c_contiguous for a in arrays):
            return super().sgd_update(*arrays, rate, momentum, decay)
        constants = map(weight.dtype.type, (rate, momentum, decay))
        self._run(numbers.sgd, *(a.reshape(-1) for a in arrays), *constants)
        return weight, velocity
