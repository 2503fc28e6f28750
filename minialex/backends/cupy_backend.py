"""CUDA through CuPy: every op is a kernel of `cuda/` or a cuBLAS product.

Requires CuPy and a device. Nothing passes through the host but what the caller hands over or asks
for. Activations are stored at the backend's precision; parameters, their gradients and all sums
are float32 (or float64, for a network of that type).

Letters: N batch, H W input, C channels in, K channels out, R S kernel, P Q output, G groups.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from minialex import rng
from minialex.backends import base
from minialex.backends.base import Array, Backend, Pads, Pair, output_shape
from minialex.backends.cuda import cublas, implicit, kernels
from minialex.backends.cuda import device as cuda_device
from minialex.backends.cuda.queue import Queue
from minialex.errors import InputError, unknown

PRECISIONS = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}

_SHARED = 48 * 1024  # bytes of shared memory that every device gives a block
_CHUNK = 1024  # rows whose column sums one block takes
_SHARE = 1 << 14  # numbers whose squares one block sums, at least
_ARRAYS = 32  # parameter arrays one SGD launch takes; ARRAYS in sgd.cu


class CupyBackend(Backend):
    """Arrays on one CUDA device, `device` by its number (None: the first)."""

    def __init__(self, device: int | None = None, precision: str = "fp32", own_queue: bool = False):
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        index = 0 if device is None else int(device)
        cuda_device.check(index)
        super().__init__("cupy", cuda_device.library(), index)
        self.precision = precision
        self.queue = Queue(index, own_queue, tf32=precision == "tf32")
        self._constants: dict[int, tuple[np.ndarray, Array]] = {}
        able = precision != "fp32" and cuda_device.has_tensor_cores(index)
        self._convolution_by = "implicit" if able else "im2col"

    # ------------------------------------------------------------------------------ how it runs

    @property
    def convolution_by(self) -> str:
        """How convolutions multiply.

        "im2col": windows as rows in memory, then cuBLAS. "implicit": as tensor.cuh does, by
        mma.cuh. "wgmma": the same by wgmma.cuh, for 16-bit numbers on compute capability 9.0.
        """
        return self._convolution_by

    @convolution_by.setter
    def convolution_by(self, way: str) -> None:
        if way not in ("im2col", "implicit", "wgmma"):
            raise unknown("way to convolve", way, ("im2col", "implicit", "wgmma"))
        if way == "wgmma" and not self.has_warpgroup_products:
            raise InputError("wgmma takes bf16 or fp16, and a device of compute capability 9.0")
        self._convolution_by = way

    @property
    def has_warpgroup_products(self) -> bool:
        """Whether `convolution_by` may be "wgmma"."""
        halves = self.precision in ("bf16", "fp16")
        return halves and cuda_device.has_warpgroup_products(self.device)

    def with_precision(self, precision: str) -> "CupyBackend":
        if precision == self.precision:
            return self
        return CupyBackend(self.device, precision, self.queue.stream is not None)

    def alongside(self) -> "CupyBackend":
        made = CupyBackend(self.device, self.precision, own_queue=True)
        made._convolution_by = self._convolution_by
        return made

    def here(self):
        return self.queue.here()

    def remarks(self, devices):
        return cuda_device.remarks(devices)

    def memory(self):
        return self.queue.memory()

    def peak_memory(self):
        return self.queue.reserved()

    def synchronize(self) -> None:
        self.queue.synchronize()

    def receive(self, x, sender):
        if sender is self:
            return x, None
        return self.queue.receive(self._packed(x), sender.queue)

    def record(self):
        return self.queue.record()

    def wait(self, event) -> None:
        if event is not None:
            self.queue.wait(event)

    def lend(self, x, event) -> None:
        self.queue.keep(x, event)

    def storage(self, dtype: str) -> str:
        return PRECISIONS[self.precision] if dtype == "float32" else dtype

    @property
    def captures_steps(self) -> bool:  # type: ignore[override]
        """On one device; in fp16 the host looks at every step's gradients."""
        alone = self.queue.stream is None and self.precision != "fp16"
        return alone and cublas.interface() is not None

    def working_copy(self, params):
        if PRECISIONS[self.precision] == "float32":
            return params
        return {
            # biases are added to sums, which are float32
            layer: {
                name: value if name == "bias" else self._stored(value)
                for name, value in of_layer.items()
            }
            for layer, of_layer in params.items()
        }

    def renew(self, params, copies) -> None:
        """Make `working_copy(params)` anew, in the arrays of the one before."""
        for layer, of_layer in copies.items():
            for name, copy in of_layer.items():
                x = params[layer][name]
                if copy is not x:
                    self._run("elementwise", "from_float", (x, copy, x.size), x.size, copy.dtype)

    # ------------------------------------------------------------------------------ in and out

    def asarray(self, x, dtype=None):
        """A host array on the device; whole numbers become int64, bytes stay bytes."""
        if isinstance(x, self.xp.ndarray):
            return x
        host = np.asarray(x)
        if dtype in ("float16", "bfloat16"):
            return self._stored(self.queue.upload(host.astype(np.float32)), dtype)
        if dtype is not None:
            host = host.astype(dtype)
        elif host.dtype.kind in "iu" and host.dtype != np.uint8:
            host = host.astype(np.int64)
        return self.queue.upload(host)

    def to_numpy(self, x):
        if isinstance(x, np.ndarray):
            return x
        return self.queue.download(self._packed(x) if x.dtype.name in kernels.STORAGES else x)

    def all_finite(self, *arrays):
        bad = self.queue.zeros((1,), np.int32)
        for x in map(self._packed, arrays):
            self._run("reduce", "find_bad", (x, bad, x.size), x.size)
        return not self.queue.download(bad)[0]

    def sum_of_squares(self, x):
        x = self._packed(x)
        share = max(_SHARE, -(-x.size // 1024))
        blocks = -(-x.size // share)
        sums, total = self._new((blocks,), "float64"), self._new((1,), "float64")
        self._run("reduce", "squares", (x, sums, x.size, share), grid=(blocks,))
        self._run("reduce", "square_total", (sums, total, blocks), grid=(1,), storage=x.dtype)
        return float(self.queue.download(total)[0])

    def zeros_like(self, x):
        return self.queue.zeros(x.shape, x.dtype)

    def take(self, x, axis, start, stop):
        index = [slice(None)] * x.ndim
        index[axis] = slice(start, stop)
        out = self._new([len(range(*s.indices(e))) for s, e in zip(index, x.shape, strict=True)], x)
        self._copy(x[tuple(index)], out)
        return out

    def concat(self, parts, axis):
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        out, start = self._new(shape, parts[0]), 0
        for part in parts:
            index: list[Any] = [slice(None)] * len(shape)
            index[axis] = slice(start, start + part.shape[axis])
            self._copy(part, out[tuple(index)])
            start += part.shape[axis]
        return out

    # ------------------------------------------------------------------------------ convolution

    def convolution(self, x, weight, bias, stride, pads, groups, relu=False):
        x, weight = self._packed(x), self._packed(weight)
        n, h, w, _ = x.shape
        r, s, cg, k = weight.shape
        kg, length = k // groups, r * s * cg
        p, q = output_shape((h, w), (r, s), stride, pads)
        y = self._new((n, p, q, k), x)
        if c := self._implicit(x, weight.dtype, x.shape, weight.shape, stride, pads, groups):
            x, c = self._with_channels(x, c)
            vector = c.vector(x.itemsize)
            how = self._tiles(n * p * q, c.kg, groups, vector, (x, weight))
            self._run("conv_forward", "conv_forward", (x, weight, bias, y, c.place(), relu), **how)
            return y
        if x.shape[3] != groups * cg:
            raise TypeError(f"{x.shape[3]} channels for weights of {groups} x {cg}")
        for images in self._blocks(n, p * q * length):
            start, rows = images.start * p * q, (images.stop - images.start) * p * q
            for g in range(groups):
                cols = self._im2col(x[images], g * cg, cg, (r, s), stride, pads, (p, q))
                shape, steps = (rows, length, kg), (length, k, k)
                self.queue.product(cols, weight, y, shape, steps, (0, g * kg, start * k + g * kg))
        return self._biased(y, bias, relu)

    def convolution_input_gradient(self, dy, weight, input_shape, stride, pads, groups):
        dy, weight = self._packed(dy), self._packed(weight)
        n, h, w, c = input_shape
        r, s, cg, k = weight.shape
        p, q = dy.shape[1:3]
        kg, length = k // groups, r * s * cg
        dx = self._new((n, h, w, c), dy)
        sizes = self._implicit(dy, weight.dtype, input_shape, weight.shape, stride, pads, groups)
        if sizes:
            self._input_gradient(dy, weight, None, dx, sizes)
            return dx
        for images in self._blocks(n, p * q * length):
            start, count = images.start * p * q, images.stop - images.start
            rows = count * p * q
            for g in range(groups):
                cols = self._new((rows, length), dy)
                shape, steps = (rows, kg, length), (k, k, length)
                offsets = (start * k + g * kg, g * kg, 0)
                self.queue.product(dy, weight, cols, shape, steps, offsets, (False, True))
                place = self._place((h, w, c), g * cg, cg, (r, s), stride, pads, (p, q))
                pixels = count * h * w
                wide = self._wide(c, cg, g * cg, arrays=(cols, dx))
                name, width = ("col2im_wide", 16 // dy.itemsize) if wide else ("col2im", 1)
                arguments = (cols, dx[images], pixels, *place)
                self._run("im2col", name, arguments, pixels * cg // width, storage=dy.dtype)
        return dx

    def convolution_input_gradient_relu(self, dy, weight, x, stride, pads, groups):
        dy, weight, x = self._packed(dy), self._packed(weight), self._packed(x)
        sizes = self._implicit(dy, weight.dtype, x.shape, weight.shape, stride, pads, groups)
        if sizes is None or x.dtype != dy.dtype:
            return super().convolution_input_gradient_relu(dy, weight, x, stride, pads, groups)
        dx = self._new(x.shape, x)
        self._input_gradient(dy, weight, x, dx, sizes)
        return dx

    def _input_gradient(self, dy, weight, relu_of, dx, sizes: implicit.Convolution) -> None:
        vector, family = sizes.vector_of_maps(dy.itemsize), "conv_input_gradient"
        place = (prod(dx.shape[:3]), sizes.cg, sizes.groups, vector, (dy, weight))
        arguments = (dy, weight, relu_of, dx, sizes.place())
        self._run(family, family, arguments, **self._tiles(*place))

    def convolution_weight_gradient(self, x, dy, kernel, stride, pads, groups):
        shape = (*kernel, x.shape[3] // groups, dy.shape[3])
        return self.convolution_parameter_gradients(x, dy, shape, stride, pads, groups, False)[0]

    def convolution_parameter_gradients(self, x, dy, weight_shape, stride, pads, groups, bias=True):
        x, dy = self._packed(x), self._packed(dy)
        i = self._implicit(x, dy.dtype, x.shape, weight_shape, stride, pads, groups)
        if i is None:
            dw = self._weight_gradient_by_columns(x, dy, weight_shape, stride, pads, groups)
            return dw, self.bias_gradient(dy) if bias else None
        x, i = self._with_channels(x, i)
        parts, share = i.parts(x.itemsize)
        # db as one row more, where the tiles have room for it; tf32 would round dy
        ones = bias and x.itemsize == 2 and i.rows % implicit.ROWS > 0
        r, s, cg, k = weight_shape
        totals = self._new((r * s * cg + ones, k), kernels.accumulator(x.dtype.name))
        sums = totals if parts == 1 else self._new((parts, *totals.shape), totals)
        how = self._tiles(i.rows + ones, i.kg, groups, i.vector(x.itemsize), (x, dy), parts)
        family = "conv_weight_gradient"
        self._run(family, family, (x, dy, sums, i.place(), share, ones), **how)
        if parts > 1:
            arguments = (sums, totals, parts, totals.size)
            self._run(family, "part_totals", arguments, totals.size, storage=x.dtype)
        dw = totals[: r * s * cg].reshape(weight_shape)
        if not bias:
            return dw, None
        return dw, totals[-1] if ones else self.bias_gradient(dy)

    def _weight_gradient_by_columns(self, x, dy, weight_shape, stride, pads, groups) -> Array:
        r, s, cg, k = weight_shape
        n, (p, q) = x.shape[0], dy.shape[1:3]
        kg, length = k // groups, r * s * cg
        dw = self._new(weight_shape, kernels.accumulator(x.dtype.name))
        for images in self._blocks(n, p * q * length):
            start, rows = images.start * p * q, (images.stop - images.start) * p * q
            for g in range(groups):
                cols = self._im2col(x[images], g * cg, cg, (r, s), stride, pads, (p, q))
                shape, steps = (length, rows, kg), (length, k, k)
                offsets = (0, start * k + g * kg, g * kg)
                more = images.start > 0
                self.queue.product(cols, dy, dw, shape, steps, offsets, (True, False), add=more)
        return dw

    def _implicit(self, x, other, image, weight_shape, stride, pads, groups):
        """The convolution's sizes if it runs on tensor cores without columns, else None.

        The image may have come with zeros behind its channels (see `channels_to_copy`).
        """
        if self.convolution_by == "im2col" or x.dtype == np.float64 or x.dtype != other:
            return None
        r, s, cg, k = weight_shape
        own = (*image[:3], cg * groups)
        found = implicit.Convolution.of(own, (r, s), k, stride, pads, groups)
        if image[3] != cg * groups:
            found = found.with_channels(image[3])
        return found if found.pixels and implicit.pays(found) else None

    def channels_to_copy(self, channels: int, maps: int, groups: int, dtype: str) -> int:
        """How many channels images best have for a first convolution, zeros behind their own."""
        stored = np.dtype("uint16" if PRECISIONS[self.precision] != "float32" else dtype)
        if self.convolution_by == "im2col" or dtype == "float64":
            return channels
        least = ((0, 0), (0, 0))
        sizes = implicit.Convolution.of((1, 1, 1, channels), (1, 1), maps, (1, 1), least, groups)
        return sizes.channels_to_copy(stored.itemsize)

    def _tiles(self, rows, count, groups, vector, arrays, parts=1) -> dict:
        """The launch of a product of `rows` x `count` numbers a group."""
        wide = self.convolution_by == "wgmma" and arrays[0].itemsize == 2
        return implicit.launch_shape(rows, count, groups, vector, arrays, parts, warpgroups=wide)

    def _with_channels(self, x, sizes: implicit.Convolution):
        """x with zeros behind its channels, where it is then copied faster."""
        wanted, (n, h, w, c) = sizes.channels_to_copy(x.itemsize), x.shape
        if wanted == c:
            return x, sizes
        out = self._new((n, h, w, wanted), x)
        self._run("elementwise", "add_channels", (x, out, out.size, c, wanted), out.size)
        return out, sizes.with_channels(wanted)

    def _im2col(self, x, first, width, window, stride, pads, output) -> Array:
        n, h, w, c = x.shape
        rows, length = n * prod(output), prod(window) * width
        cols = self._new((rows, length), x)
        place = self._place((h, w, c), first, width, window, stride, pads, output)
        wide = self._wide(c, width, first, arrays=(x, cols))
        name, threads = "im2col_wide" if wide else "im2col", 128 if length > 64 else 32
        grid = (min(rows, 1 << 20),)
        self._run("im2col", name, (x, cols, rows, *place), grid=grid, block=(threads,))
        return cols

    @staticmethod
    def _place(image, first, width, window, stride, pads: Pads, output: Pair) -> tuple[int, ...]:
        return (*image, first, width, *window, *output, *stride, pads[0][0], pads[1][0])

    # ------------------------------------------------------------------------------ dense

    def dense(self, x, weight, bias, relu=False):
        x, weight = self._packed(x), self._packed(weight)
        n, (i, o) = x.shape[0], weight.shape
        y = self._new((n, o), x)
        self.queue.product(x, weight, y, (n, i, o), (i, o, o))
        return self._biased(y, bias, relu)

    def dense_input_gradient(self, dy, weight, input_shape):
        dy, weight = self._packed(dy), self._packed(weight)
        n, (i, o) = dy.shape[0], weight.shape
        dx = self._new(input_shape, dy)
        self.queue.product(dy, weight, dx, (n, o, i), (o, o, i), transposed=(False, True))
        return dx

    def dense_weight_gradient(self, x, dy):
        x, dy = self._packed(x), self._packed(dy)
        n, o = dy.shape
        i = x.size // n
        dw = self._new((i, o), kernels.accumulator(x.dtype.name))
        self.queue.product(x, dy, dw, (i, n, o), (i, o, o), transposed=(True, False))
        return dw

    def _biased(self, y, bias, relu: bool) -> Array:
        if bias is not None or relu:
            self._run("bias", "bias_relu", (y, bias, y.size, y.shape[-1], relu), y.size)
        return y

    def bias_gradient(self, dy):
        dy = self._packed(dy)
        k, rows = dy.shape[-1], dy.size // dy.shape[-1]
        chunks = -(-rows // _CHUNK)
        partial = self._new((chunks, k), kernels.accumulator(dy.dtype.name))
        across, block = -(-k // 32), (32, 8)
        arguments = (dy, partial, rows, k, _CHUNK)
        self._run("bias", "column_sums", arguments, grid=(across, chunks), block=block)
        if chunks == 1:
            return partial.reshape(k)
        db = self._new((k,), partial)
        self._run("bias", "column_totals", (partial, db, chunks, k), grid=(across,), block=block)
        return db

    # ------------------------------------------------------------------------------ activations

    def relu(self, x):
        return self._each("relu", x)

    def relu_gradient(self, dy, y):
        return self._each("relu_gradient", dy, y)

    def tanh(self, x):
        return self._each("tanh_forward", x)

    def tanh_gradient(self, dy, y):
        return self._each("tanh_gradient", dy, y)

    def scale(self, x, factor):
        return self._each("scale", x, more=(factor,))

    def add(self, x, y):
        return self._each("add", x, y)

    def _each(self, kernel: str, *arrays, more=()) -> Array:
        arrays = tuple(map(self._packed, arrays))
        out = self._new(arrays[0].shape, arrays[0])
        wide = self._wide(out.size, arrays=(*arrays, out))
        threads = out.size * out.itemsize // 16 if wide else out.size
        name = kernel + "_wide" * wide
        self._run("elementwise", name, (*arrays, out, out.size, *more), threads)
        return out

    # ------------------------------------------------------------------------------ pooling

    def max_pool(self, x, window, stride, pads):
        x = self._packed(x)
        n, h, w, c = x.shape
        if prod(window) > 1 << 16:
            raise InputError(
                f"max pooling: a window of {window} has too many taps for this backend"
            )
        output = output_shape((h, w), window, stride, pads)
        y = self._new((n, *output, c), x)
        which = self._new(y.shape, "uint16")
        place = (h, w, c, *window, *output, *stride, pads[0][0], pads[1][0])
        self._pool("max_pool", (x, y, which), n * prod(output), c, place)
        return y, which

    def max_pool_gradient(self, dy, which, input_shape, window, stride, pads):
        dy = self._packed(dy)
        n, h, w, c = input_shape
        dx = self._new(input_shape, dy)
        place = (h, w, c, *window, *dy.shape[1:3], *stride, pads[0][0], pads[1][0])
        self._pool("max_pool_gradient", (dy, which, dx), n * h * w, c, place)
        return dx

    def _pool(self, kernel, arrays, pixels, c, place) -> None:
        wide = self._wide(c, arrays=[a for a in arrays if a.dtype != np.uint16])
        width = 16 // arrays[0].itemsize if wide else 1
        name = kernel + "_wide" * wide
        self._run("pooling", name, (*arrays, pixels, *place), pixels * c // width)

    def average_pool(self, x, window, stride, pads):
        x = self._packed(x)
        n, h, w, c = x.shape
        output = output_shape((h, w), window, stride, pads)
        y = self._new((n, *output, c), x)
        place = (h, w, c, *window, *output, *stride, pads[0][0], pads[1][0])
        self._run("pooling", "average_pool", (x, y, n * prod(output), *place), y.size)
        return y

    def average_pool_gradient(self, dy, input_shape, window, stride, pads):
        dy = self._packed(dy)
        n, h, w, c = input_shape
        dx = self._new(input_shape, dy)
        place = (h, w, c, *window, *dy.shape[1:3], *stride, pads[0][0], pads[1][0])
        self._run("pooling", "average_pool_gradient", (dy, dx, n * h * w, *place), dx.size)
        return dx

    # ------------------------------------------------------------------------------ normalisation

    def response_norm(self, x, n, k, alpha, beta, groups):
        x = self._packed(x)
        y = self._new(x.shape, x)
        self._norm("response_norm", (x, y), 1, groups, (n, k, alpha, beta))
        return y, x

    def response_norm_gradient(self, dy, saved, n, k, alpha, beta, groups):
        dy, x = self._packed(dy), saved
        dx = self._new(x.shape, x)
        self._norm("response_norm_gradient", (dy, x, dx), 2, groups, (n, k, alpha, beta))
        return dx

    def _norm(self, kernel, arrays, tables: int, groups: int, constants) -> None:
        """`tables` rows of C numbers a pixel lie in shared memory, where they fit."""
        c = arrays[0].shape[-1]
        pixels = arrays[0].size // c
        pixel_bytes = tables * c * np.dtype(kernels.accumulator(arrays[0].dtype.name)).itemsize
        # about two numbers a thread: enough pixels to fill the block, few enough for many blocks
        tile = min(max(1, 2 * kernels.BLOCK // c), _SHARED // pixel_bytes)
        arguments = (*arrays, pixels, c, c // groups, tile, *constants)
        if tile == 0:
            self._run("response_norm", f"{kernel}_plain", arguments, pixels * c)
            return
        grid = (min(-(-pixels // tile), 1 << 16),)
        self._run("response_norm", kernel, arguments, grid=grid, shared=tile * pixel_bytes)

    def response_norm_pool(self, x, norm, pool):
        (n, k, alpha, beta, groups), (window, stride, pads) = norm, pool
        x = self._packed(x)
        images, h, w, c = x.shape
        p, q = output_shape((h, w), window, stride, pads)
        # a block's windows stand in shared memory, as x and normalised
        columns = _SHARED // (2 * window[0] * c * x.itemsize)
        across = min(q, (columns - window[1]) // stride[1] + 1)
        if across < 1 or prod(window) > 1 << 16:
            return super().response_norm_pool(x, norm, pool)
        parts = -(-q // across)
        across = -(-q // parts)
        y = self._new((images, p, q, c), x)
        which = self._new(y.shape, "uint16")
        place = (images, h, w, c, *window, p, q, *stride, pads[0][0], pads[1][0], across)
        arguments = (x, y, which, *place, c // groups, n, k, alpha, beta)
        held = 2 * window[0] * ((across - 1) * stride[1] + window[1]) * c * x.itemsize
        grid = (max(1, min(images * p * parts, 1 << 20)),)
        self._run("norm_pool", "norm_pool", arguments, grid=grid, shared=held)
        return y, (x, x, which)

    def response_norm_pool_gradient(self, dy, saved, norm, pool, relu=False):
        (n, k, alpha, beta, groups), (window, stride, pads) = norm, pool
        dy, (x, _, which) = self._packed(dy), saved
        images, h, w, c = x.shape
        wide = np.dtype(kernels.accumulator(x.dtype.name)).itemsize
        pixel_bytes = c * (2 * x.itemsize + wide)
        tile = min(max(1, 2 * kernels.BLOCK // c), _SHARED // pixel_bytes)
        if tile < 1:
            return super().response_norm_pool_gradient(dy, saved, norm, pool, relu)
        dx, pixels = self._new(x.shape, x), images * h * w
        place = (h, w, c, *window, *dy.shape[1:3], *stride, pads[0][0], pads[1][0], tile)
        arguments = (dy, which, x, dx, pixels, *place, c // groups, n, k, alpha, beta, relu)
        grid, shared = (min(-(-pixels // tile), 1 << 16),), tile * pixel_bytes
        self._run("norm_pool", "norm_pool_gradient", arguments, grid=grid, shared=shared)
        return dx

    def spatial_response_norm(self, x, n, k, alpha, beta):
        x = self._packed(x)
        y = self._new(x.shape, x)
        scale = self._new(x.shape, kernels.accumulator(x.dtype.name))
        place = (x.size // x.shape[3], *x.shape[1:], n, k, alpha, beta)
        self._run("response_norm", "spatial_norm", (x, y, scale, *place), x.size)
        return y, (x, scale)

    def spatial_response_norm_gradient(self, dy, saved, n, k, alpha, beta):
        dy, (x, scale) = self._packed(dy), saved
        dx = self._new(x.shape, x)
        place = (x.size // x.shape[3], *x.shape[1:], n, alpha, beta)
        self._run("response_norm", "spatial_norm_gradient", (dy, x, scale, dx, *place), x.size)
        return dx

    # ------------------------------------------------------------------------------ losses

    def softmax_cross_entropy(self, scores, labels, count=None, scale=1.0):
        return self._loss("softmax_cross_entropy", scores, labels, (), count, scale)

    def hinge(self, scores, labels, margin, count=None, scale=1.0):
        return self._loss("hinge", scores, labels, (margin,), count, scale)

    def _loss(self, kernel, scores, labels, more, count, scale) -> tuple[Array, Array]:
        scores = self._packed(scores)
        n, k = scores.shape
        factor = 1 / (count or n)
        dscores = self._new(scores.shape, scores)
        losses = self._new((n,), kernels.accumulator(scores.dtype.name))
        total = self._new((), losses)
        arguments = (scores, labels, dscores, losses, n, k, *more, factor * scale)
        self._run("loss", kernel, arguments, grid=(n,), block=(128,))
        arguments = (losses, total, n, factor)
        self._run("loss", "row_total", arguments, grid=(1,), block=(128,), storage=scores.dtype)
        return total, dscores

    def keep_loss(self, loss, step, ring) -> None:
        """For a captured step: the loss of `step` to its place in the ring (see `graph.Ring`)."""
        arguments = (loss, step, ring.losses, ring.size, ring.halted)
        self._run("loss", "keep_loss", arguments, grid=(1,), block=(32,), storage=loss.dtype)

    def softmax(self, logits):
        logits = self._packed(logits)
        p = self._new(logits.shape, logits)
        n, k = logits.shape
        self._run("loss", "softmax", (logits, p, n, k), grid=(n,), block=(128,))
        return p

    # ------------------------------------------------------------------------------ the rest

    def dropout_mask(
        self, shape, keep, seed, stream, step, first_image=0, first_channel=0, channels=None
    ):
        mask = self._new(shape, "bool")
        draw = (keep, seed, stream, step, first_image, first_channel, channels)
        self._draw("dropout_mask", (mask,), draw)
        return mask

    def dropout(
        self, x, keep, factor, seed, stream, step, first_image=0, first_channel=0, channels=None
    ):
        saved = (keep, seed, stream, step, first_image, first_channel, channels), factor
        return self.dropout_gradient(x, saved), saved

    def dropout_gradient(self, dy, saved):
        dy, (draw, factor) = self._packed(dy), saved
        dx = self._new(dy.shape, dy)
        self._draw("dropout", (dy, dx), draw, (factor,))
        return dx

    def dense_relu_dropout(
        self,
        x,
        weight,
        bias,
        keep,
        factor,
        seed,
        stream,
        step,
        first_image=0,
        first_channel=0,
        channels=None,
    ):
        y = self.dense(x, weight, None)
        draw = (keep, seed, stream, step, first_image, first_channel, channels)
        self._draw("bias_relu_dropout", (y,), draw, (factor, bias))
        return y

    def relu_dropout_gradient(self, dy, y, factor):
        dy, y = self._packed(dy), self._packed(y)
        dx = self._new(dy.shape, dy)
        self._run("dropout", "relu_dropout_gradient", (dy, y, dx, dy.size, factor), dy.size)
        return dx

    def _draw(self, kernel, arrays, draw, more=()) -> None:
        keep, seed, stream, step, first_image, first_channel, channels = draw
        n, *rows, c = arrays[0].shape
        units = prod(rows) * c
        now = (0, step) if isinstance(step, self.xp.ndarray) else (step, None)
        place = (n, units, c, first_channel, channels or c, first_image, *now)
        key = (rng.Purpose.DROPOUT + stream, seed & 0xFFFFFFFF, seed >> 32)
        arguments = (*arrays, *place, *key, base.threshold(keep), *more)
        self._run("dropout", kernel, arguments, n * -(-units // 4))

    def crops(self, images, top, left, flip, crop, mean, mean_top, mean_left, shift, scale, dtype):
        wide = kernels.accumulator(dtype)
        place = self.asarray(np.stack((top, left, flip), axis=1), "int32")
        mean = self._constant(mean, wide)
        shift = None if shift is None else self.asarray(shift, wide)
        corner = (-1, -1) if mean_top is None else (mean_top, mean_left)
        return self.crops_at(images, place, crop, mean, corner, shift, scale, dtype)

    def crops_at(
        self, images, place, crop, mean, corner, shift, scale, dtype, channels=None
    ) -> Array:
        """`crops` of what lies on the device: place (N, 3), mean, shift, scale (or a number).

        Of `channels` (None: as many as the images have) the last are zeros.
        """
        images = self._packed(images)
        n, _, size, c = images.shape
        out = self._new((n, crop, crop, channels or c), dtype)
        scales = (1.0, scale) if isinstance(scale, self.xp.ndarray) else (scale, None)
        sizes = (n, size, c, channels or c, crop)
        arguments = (images, place, mean, shift, out, *sizes, *corner, *scales)
        self._run("augment", "crops", arguments, out.size, storage=dtype)
        return out

    def sgd_update(self, weight, velocity, gradient, rate, momentum, decay):
        return self.sgd_updates([(weight, velocity, gradient, rate, decay)], momentum)[0]

    def sgd_updates(self, updates, momentum, gradient_scale=1.0):
        arrays = [(*map(self._packed, update[:3]), None) for update in updates]
        self._sgd(arrays, [u[3:] for u in updates], momentum, gradient_scale)
        return [(w, v) for w, v, *_ in arrays]

    def captured_updates(self, arrays, decays, momentum, rates, halted) -> None:
        """`sgd_updates` for a captured step: the rates are numbers on the device.

        Each of `arrays` is (weight, velocity, gradient, copy); a copy gets the new weight as it is
        stored at this precision, None is none. Nothing changes where `halted` is not zero.
        """
        self._sgd(arrays, [(0.0, decay) for decay in decays], momentum, 1.0, rates, halted)

    def _sgd(self, arrays, rates_and_decays, momentum, scale, rates=None, halted=None) -> None:
        for start in range(0, len(arrays), _ARRAYS):
            chosen = range(start, min(start + _ARRAYS, len(arrays)))
            kind = arrays[start][0].dtype
            storage, table = self.storage(kind.name), np.zeros(1, _updates_dtype(kind))
            for slot, j in enumerate(chosen):
                w, v, g, copy = arrays[j]
                if not w.dtype == v.dtype == g.dtype == kind:
                    raise TypeError("parameters, velocities and gradients must share one type")
                if copy is not None and copy.dtype != storage:
                    raise TypeError(f"a copy is of {copy.dtype}, expected {storage}")
                pointers = (
                    w.data.ptr,
                    v.data.ptr,
                    g.data.ptr,
                    0 if copy is None else copy.data.ptr,
                )
                table["of"][0, slot] = (*pointers, w.size, *rates_and_decays[j])
            largest = max(arrays[j][0].size for j in chosen)
            own = None if rates is None else rates[start : chosen.stop]
            arguments = (table, len(chosen), momentum, scale, own, halted)
            self._run("sgd", "sgd", arguments, largest, storage=storage)

    # ------------------------------------------------------------------------------ helpers

    def _new(self, shape, like) -> Array:
        """An array on the device; `like` is a type, or an array of that type."""
        return self.queue.empty(shape, getattr(like, "dtype", like))

    def _run(self, family, kernel, arguments, threads=0, storage=None, **more) -> None:
        """Launch a kernel; its T is the type of the first argument unless `storage` says."""
        kind = np.dtype(storage if storage is not None else arguments[0].dtype).name
        kind = kind if kind in kernels.STORAGES else "float32"
        self.queue.launch(family, kernel, kind, arguments, threads, **more)

    def _packed(self, x) -> Array:
        """x itself if it is contiguous, else a copy that is."""
        if x.flags.c_contiguous:
            return x
        out = self._new(x.shape, x)
        self._copy(x, out)
        return out

    def _copy(self, x, out) -> None:
        if x.ndim > 5:
            raise TypeError(f"copies have at most 5 axes, not {x.ndim}")
        front = 5 - x.ndim
        sizes = ((1,) * front + tuple(x.shape))[1:]
        steps = [(0,) * front + tuple(s // a.itemsize for s in a.strides) for a in (x, out)]
        ends = [self.xp.ndarray((_reach(a),), a.dtype, a.data) for a in (x, out)]
        arguments = (*ends, x.size, *sizes, *steps[0], *steps[1])
        self._run("elementwise", "copy_strided", arguments, x.size)

    def _stored(self, x, dtype: str | None = None) -> Array:
        """Float32 numbers at half precision."""
        out = self._new(x.shape, dtype or PRECISIONS[self.precision])
        self._run("elementwise", "from_float", (x, out, x.size), x.size, storage=out.dtype)
        return out

    def _constant(self, host: np.ndarray, dtype: str) -> Array:
        """A host array that does not change, uploaded once."""
        kept = self._constants.get(id(host))
        if kept is None or kept[0] is not host or kept[1].dtype != dtype:
            if len(self._constants) > 7:
                self._constants.clear()
            kept = self._constants[id(host)] = (host, self.asarray(host, dtype))
        return kept[1]

    @staticmethod
    def _wide(*counts: int, arrays: Sequence[Array]) -> bool:
        """Whether 16 bytes at a time divide all `counts` and every array starts at a multiple."""
        width = 16 // arrays[0].itemsize
        return all(count % width == 0 for count in counts) and all(
            array.data.ptr % 16 == 0 for array in arrays
        )


def _reach(x: Array) -> int:
    """How many numbers from its first to its last an array with positive steps spans."""
    return 1 + sum((e - 1) * s for e, s in zip(x.shape, x.strides, strict=True)) // x.itemsize


def _updates_dtype(kind) -> np.dtype:
    """The structure `Updates` of sgd.cu for parameters of a type."""
    names = ["weight", "velocity", "gradient", "copy", "size", "rate", "decay"]
    update = np.dtype(
        list(zip(names, [np.uint64] * 4 + [np.int64, kind, kind], strict=True)), align=True
    )
    return np.dtype([("of", update, (_ARRAYS,))], align=True)
