"""Convolution on a CUDA device as matrix products, with or without im2col columns in memory.

Letters: N batch, H W input, C channels in, K channels out, R S kernel, P Q output, G groups.
"""

from math import prod
from typing import Any, Self

import numpy as np

from minialex.backends.base import Array, Pads, Pair, Shape, output_shape
from minialex.backends.cuda import device as cuda_device
from minialex.backends.cuda import implicit, kernels, shifts, tensor_map
from minialex.backends.cuda.dense import CudaDense
from minialex.errors import InputError, unknown
from minialex.precision import Precision


class CudaConvolution(CudaDense):
    """Convolution."""

    def __init__(
        self,
        device: int | None = None,
        precision: str | Precision = "fp32",
        own_stream: bool = False,
    ):
        super().__init__(device, precision, own_stream)
        fast = self.precision.tf32 or self.precision.half
        able = fast and cuda_device.has_tensor_cores(self.device)
        self._convolution_by = "implicit" if able else "im2col"
        self._multiprocessors = cuda_device.multiprocessors(self.device)

    def with_own_stream(self) -> Self:
        made = type(self)(self.device, self.precision, own_stream=True)
        made._convolution_by = self._convolution_by
        return made

    @property
    def convolution_by(self) -> str:
        """The convolution algorithm.

        "im2col": windows as rows in memory, then cuBLAS. "implicit": tensor.cuh with mma.cuh.
        "wgmma": tensor.cuh with wgmma.cuh, for 16-bit numbers on compute capability 9.0. "tma": the
        same, but conv_tma.cu where it can be used.
        """
        return self._convolution_by

    @convolution_by.setter
    def convolution_by(self, way: str) -> None:
        if way not in (known := ("im2col", "implicit", "wgmma", "tma")):
            raise unknown("convolution algorithm", way, known)
        if way in ("wgmma", "tma") and not self.has_warpgroup_products:
            raise InputError(f"{way} needs bf16 or fp16, and a device of compute capability 9.0")
        if way == "tma" and not tensor_map.available():
            raise InputError("tma needs a driver of CUDA 12.0 or later")
        self._convolution_by = way

    @property
    def has_warpgroup_products(self) -> bool:
        """Whether `convolution_by` may be "wgmma" or "tma"."""
        return self.precision.half and cuda_device.has_warpgroup_products(self.device)

    # ------------------------------------------------------------------------------ convolution

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
        x, weight = self._packed(x), self._packed(weight)
        n, h, w, _ = x.shape
        r, s, cg, k = weight.shape
        kg, length = k // groups, r * s * cg
        if found := self._in_blocks(x, weight.dtype, weight.shape, stride, pads, groups):
            x, blocks = found
            weight = self._weights_in_blocks(weight, stride[0], blocks)
            y = self._new((n, *blocks.output, k), x)
            self._forward(x, weight, bias, y, blocks, relu)
            return y
        p, q = output_shape((h, w), (r, s), stride, pads)
        y = self._new((n, p, q, k), x)
        if c := self._implicit(x, weight.dtype, x.shape, weight.shape, stride, pads, groups):
            x, c = self._with_channels(x, c)
            self._forward(x, weight, bias, y, c, relu)
            return y
        if x.shape[3] != groups * cg:
            raise TypeError(f"{x.shape[3]} channels for weights of {groups} x {cg}")
        for images in self._blocks(n, p * q * length):
            start, rows = images.start * p * q, (images.stop - images.start) * p * q
            for g in range(groups):
                cols = self._group_columns(x[images], g * cg, cg, (r, s), stride, pads, (p, q))
                shape, steps = (rows, length, kg), (length, k, k)
                self.stream.product(cols, weight, y, shape, steps, (0, g * kg, start * k + g * kg))
        return self._biased(y, bias, relu)

    def _forward(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        y: Array,
        sizes: implicit.Convolution,
        relu: bool,
    ) -> None:
        if self._by_tma(x, weight, bias, None, y, shifts.forward(sizes), relu):
            return
        tiling = (sizes.pixels, sizes.kg, sizes.groups, sizes.vector(x.itemsize), (x, weight))
        how = self._tiles(*tiling, divides=sizes.cx != sizes.cg)
        arguments = (x, weight, bias, y, sizes.as_struct(), relu)
        self._run("conv_forward", "conv_forward", arguments, **how)

    def convolution_input_gradient(
        self, dy: Array, weight: Array, input_shape: Shape, stride: Pair, pads: Pads, groups: int
    ) -> Array:
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
                self.stream.product(dy, weight, cols, shape, steps, offsets, (False, True))
                geometry = self._geometry((h, w, c), g * cg, cg, (r, s), stride, pads, (p, q))
                pixels = count * h * w
                wide = self._wide(c, cg, g * cg, arrays=(cols, dx))
                name, width = ("col2im_wide", 16 // dy.itemsize) if wide else ("col2im", 1)
                arguments = (cols, dx[images], pixels, *geometry)
                self._run("im2col", name, arguments, pixels * cg // width, storage=dy.dtype)
        return dx

    def convolution_input_gradient_relu(
        self, dy: Array, weight: Array, x: Array, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        dy, weight, x = self._packed(dy), self._packed(weight), self._packed(x)
        sizes = self._implicit(dy, weight.dtype, x.shape, weight.shape, stride, pads, groups)
        if sizes is None or x.dtype != dy.dtype:
            return super().convolution_input_gradient_relu(dy, weight, x, stride, pads, groups)
        dx = self._new(x.shape, x)
        self._input_gradient(dy, weight, x, dx, sizes)
        return dx

    def _input_gradient(
        self,
        dy: Array,
        weight: Array,
        relu_of: Array | None,
        dx: Array,
        sizes: implicit.Convolution,
    ) -> None:
        if self._by_tma(dy, weight, None, relu_of, dx, shifts.input_gradient(sizes)):
            return
        vector, family = sizes.vector_of_outputs(dy.itemsize), "conv_input_gradient"
        tiling = (prod(dx.shape[:3]), sizes.cg, sizes.groups, vector, (dy, weight))
        how = self._tiles(*tiling, divides=sizes.stride != (1, 1), narrow=True)
        self._run(family, family, (dy, weight, relu_of, dx, sizes.as_struct()), **how)

    def _by_tma(
        self,
        source: Array,
        weight: Array,
        bias: Array | None,
        mask: Array | None,
        out: Array,
        plan: shifts.Shifts | None,
        relu: bool = False,
    ) -> bool:
        """Run conv_tma.cu if it is chosen and can be used; -> whether it was."""
        arrays = (source, weight)
        aligned = all(a.data.ptr % tensor_map.ALIGNED == 0 for a in arrays)
        if self.convolution_by != "tma" or plan is None or not aligned:
            return False
        maps = [tensor_map.of(a, *sizes) for a, sizes in zip(arrays, plan.boxes(), strict=True)]
        arguments = (*maps, bias, mask, out, plan.as_struct(), relu, plan.tiles)
        how = plan.launch_shape(self._multiprocessors)
        self._run(kernels.TMA_FAMILY, "conv_tma", arguments, storage=out.dtype, **how)
        return True

    def convolution_weight_gradient(
        self, x: Array, dy: Array, kernel: Pair, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        shape = (*kernel, x.shape[3] // groups, dy.shape[3])
        return self.convolution_parameter_gradients(x, dy, shape, stride, pads, groups, False)[0]

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
        x, dy = self._packed(x), self._packed(dy)
        if found := self._in_blocks(x, dy.dtype, weight_shape, stride, pads, groups):
            of_blocks, db = self._parameter_gradients(*found, dy, bias)
            dw = self._new(weight_shape, of_blocks)
            sizes = (*weight_shape, stride[0], found[1].kernel[1])
            arguments = (of_blocks, dw, *sizes)
            self._run("blocks", "weights_of_blocks", arguments, dw.size, storage=x.dtype)
            return dw, db
        i = self._implicit(x, dy.dtype, x.shape, weight_shape, stride, pads, groups)
        if i is None:
            dw = self._weight_gradient_by_columns(x, dy, weight_shape, stride, pads, groups)
            return dw, self.bias_gradient(dy) if bias else None
        return self._parameter_gradients(*self._with_channels(x, i), dy, bias)

    def _parameter_gradients(
        self, x: Array, i: implicit.Convolution, dy: Array, bias: bool
    ) -> tuple[Array, Array | None]:
        parts, share = i.parts(x.itemsize)
        # db as one more row, if the tiles have space for it; tf32 would round dy
        ones = bias and x.itemsize == 2 and i.rows % implicit.ROWS > 0
        rows, k = prod(i.kernel) * i.cg, i.channels
        totals = self._new((rows + ones, k), kernels.accumulator(x.dtype.name))
        sums = totals if parts == 1 else self._new((parts, *totals.shape), totals)
        how = self._tiles(i.rows + ones, i.kg, i.groups, i.vector(x.itemsize), (x, dy), parts)
        family = "conv_weight_gradient"
        self._run(family, family, (x, dy, sums, i.as_struct(), share, ones), **how)
        if parts > 1:
            arguments = (sums, totals, parts, totals.size)
            self._run(family, "part_totals", arguments, totals.size, storage=x.dtype)
        dw = totals[:rows].reshape((*i.kernel, i.cg, k))
        if not bias:
            return dw, None
        return dw, totals[-1] if ones else self.bias_gradient(dy)

    def _weight_gradient_by_columns(
        self, x: Array, dy: Array, weight_shape: Shape, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        r, s, cg, k = weight_shape
        n, (p, q) = x.shape[0], dy.shape[1:3]
        kg, length = k // groups, r * s * cg
        if not n:
            return self.stream.zeros(weight_shape, kernels.accumulator(x.dtype.name))
        dw = self._new(weight_shape, kernels.accumulator(x.dtype.name))
        for images in self._blocks(n, p * q * length):
            start, rows = images.start * p * q, (images.stop - images.start) * p * q
            for g in range(groups):
                cols = self._group_columns(x[images], g * cg, cg, (r, s), stride, pads, (p, q))
                shape, steps = (length, rows, kg), (length, k, k)
                offsets = (0, start * k + g * kg, g * kg)
                more = images.start > 0
                self.stream.product(cols, dy, dw, shape, steps, offsets, (True, False), add=more)
        return dw

    def _implicit(
        self,
        x: Array,
        other: Any,
        image: Shape,
        weight_shape: Shape,
        stride: Pair,
        pads: Pads,
        groups: int,
    ) -> implicit.Convolution | None:
        """The convolution's sizes if it runs on tensor cores without columns, else None.

        The image may have extra channels of zeros (see `channels_to_copy`).
        """
        if self.convolution_by == "im2col" or x.dtype == np.float64 or x.dtype != other:
            return None
        r, s, cg, k = weight_shape
        own = (*image[:3], cg * groups)
        found = implicit.Convolution.of(own, (r, s), k, stride, pads, groups)
        if image[3] != cg * groups:
            found = found.with_channels(image[3])
        return found if found.pixels and implicit.pays(found) else None

    def convolution_workspace(
        self, x_shape: Shape, weight_shape: Shape, stride: Pair, pads: Pads, groups: int
    ) -> int:
        """The size of im2col's columns, or on tensor cores of a weight gradient's partial sums."""
        if self.convolution_by == "im2col":
            return super().convolution_workspace(x_shape, weight_shape, stride, pads, groups)
        r, s, _, k = weight_shape
        itemsize, shape = 2 if self.precision.half else 4, ((r, s), k, stride, pads, groups)
        sizes = implicit.blocks(x_shape, *shape, itemsize)
        sizes = sizes or implicit.Convolution.of(x_shape, *shape)
        parts, _ = sizes.parts(itemsize)
        return parts * prod(sizes.kernel) * sizes.cg * k * 4

    def _in_blocks(
        self, x: Array, other: Any, weight_shape: Shape, stride: Pair, pads: Pads, groups: int
    ) -> tuple[Array, implicit.Convolution] | None:
        """x in blocks and the sizes of their convolution (see blocks.cu), if that is faster.

        x may already be in blocks (see `input_blocks`).
        """
        if self.convolution_by == "im2col" or x.dtype == np.float64 or x.dtype != other:
            return None
        r, s, cg, k = weight_shape
        (n, h, w, c), side = x.shape, stride[0]
        blocked = groups == 1 and side > 1 and c == side * side * cg
        if c != cg and not blocked:
            return None
        if blocked:  # the pixels that its windows cover
            h, w = (
                (extent - -(-window // side)) * side + window for extent, window in ((h, r), (w, s))
            )
            pads = ((0, 0), (0, 0))
        found = implicit.blocks((n, h, w, cg), (r, s), k, stride, pads, groups, x.itemsize)
        if found is None or not found.pixels:
            return None
        if not blocked:
            out = self._new(found.image, x)
            sizes = (n, h, w, c, side, *found.image[1:3], pads[0][0], pads[1][0])
            pixels = n * found.image[1] * found.image[2] * side * side
            self._run("blocks", "blocks_of_images", (x, out, *sizes), pixels)
            x = out
        if x.shape != found.image:
            raise TypeError(f"blocks {x.shape} for a convolution of {found.image}")
        return x, found

    def _weights_in_blocks(self, weight: Array, side: int, blocks: implicit.Convolution) -> Array:
        out = self._new((*blocks.kernel, blocks.cg, blocks.channels), weight)
        arguments = (weight, out, *weight.shape, side, *blocks.kernel)
        self._run("blocks", "blocks_of_weights", arguments, out.size)
        return out

    def input_blocks(
        self, size: int, channels: int, outputs: int, groups: int, window: Pair, dtype: str
    ) -> Pair | None:
        """Squares of stride x stride pixels, if the convolution would otherwise make them."""
        if self.convolution_by == "im2col" or dtype == "float64":
            return None
        kernel, stride = window
        itemsize = 2 if self.precision.half else 4
        none, shape = ((0, 0), (0, 0)), (1, size, size, channels)
        found = implicit.blocks(
            shape, (kernel, kernel), outputs, (stride, stride), none, groups, itemsize
        )
        # a layer takes its padding from the shape of its input, so the kernel must fit there too
        if found is None or found.image[1] < kernel:
            return None
        return stride, found.image[1]

    def channels_to_copy(self, channels: int, outputs: int, groups: int, dtype: str) -> int:
        """More channels than there are, if a pixel can then be copied as 8 or 16 bytes at once."""
        stored = np.dtype("uint16" if self.precision.half else dtype)
        if self.convolution_by == "im2col" or dtype == "float64":
            return channels
        least = ((0, 0), (0, 0))
        sizes = implicit.Convolution.of((1, 1, 1, channels), (1, 1), outputs, (1, 1), least, groups)
        return sizes.channels_to_copy(stored.itemsize)

    def _tiles(
        self,
        rows: int,
        count: Any,
        groups: int,
        vector: int,
        arrays: Any,
        parts: int = 1,
        divides: bool = False,
        narrow: bool = False,
    ) -> dict:
        """The launch of a product of `rows` x `count` numbers per group."""
        wide = self.convolution_by in ("wgmma", "tma") and arrays[0].itemsize == 2
        options = (parts, wide, divides, narrow)
        return implicit.launch_shape(rows, count, groups, vector, arrays, *options)

    def _with_channels(
        self, x: Array, sizes: implicit.Convolution
    ) -> tuple[Array, implicit.Convolution]:
        """x with extra channels of zeros, if it can then be copied faster."""
        wanted, (n, h, w, c) = sizes.channels_to_copy(x.itemsize), x.shape
        if wanted == c:
            return x, sizes
        out = self._new((n, h, w, wanted), x)
        self._run("elementwise", "add_channels", (x, out, out.size, c, wanted), out.size)
        return out, sizes.with_channels(wanted)

    def _group_columns(
        self, x: Array, first: int, width: int, window: Pair, stride: Pair, pads: Pads, output: Pair
    ) -> Array:
        n, h, w, c = x.shape
        rows, length = n * prod(output), prod(window) * width
        cols = self._new((rows, length), x)
        geometry = self._geometry((h, w, c), first, width, window, stride, pads, output)
        wide = self._wide(c, width, first, arrays=(x, cols))
        name, threads = "im2col_wide" if wide else "im2col", 128 if length > 64 else 32
        grid = (min(rows, 1 << 20),)
        self._run("im2col", name, (x, cols, rows, *geometry), grid=grid, block=(threads,))
        return cols

    @staticmethod
    def _geometry(
        image: Shape, first: int, width: int, window: Pair, stride: Pair, pads: Pads, output: Pair
    ) -> tuple[int, ...]:
        return (*image, first, width, *window, *output, *stride, pads[0][0], pads[1][0])
