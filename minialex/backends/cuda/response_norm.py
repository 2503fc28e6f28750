"""Local response normalisation (paper, section 3.3): response_norm.cu, norm_pool.cu."""

from math import prod
from typing import Any

import numpy as np

from minialex.backends.base import Array, output_shape
from minialex.backends.cuda import kernels
from minialex.backends.cuda.execution import CudaExecution


class CudaResponseNorm(CudaExecution):
    """Response normalisation, alone and with the max pooling after it."""

    def response_norm(
        self, x: Array, n: int, k: float, alpha: float, beta: float, groups: int
    ) -> tuple[Array, Any]:
        x = self._packed(x)
        y = self._new(x.shape, x)
        self._norm("response_norm", (x, y), 1, groups, (n, k, alpha, beta))
        return y, x

    def response_norm_gradient(
        self, dy: Array, saved: Any, n: int, k: float, alpha: float, beta: float, groups: int
    ) -> Array:
        dy, x = self._packed(dy), saved
        dx = self._new(x.shape, x)
        self._norm("response_norm_gradient", (dy, x, dx), 2, groups, (n, k, alpha, beta))
        return dx

    def _norm(self, kernel: str, arrays: Any, tables: int, groups: int, constants: tuple) -> None:
        """The launch with `tables` rows of C numbers per pixel in shared memory, if they fit."""
        c = arrays[0].shape[-1]
        pixels = arrays[0].size // c
        pixel_bytes = tables * c * np.dtype(kernels.accumulator(arrays[0].dtype.name)).itemsize
        # about two numbers per thread: enough pixels to fill the block, few enough for many blocks
        tile = min(max(1, 2 * kernels.BLOCK // c), kernels.SHARED // pixel_bytes)
        arguments = (*arrays, pixels, c, c // groups, tile, *constants)
        if tile == 0:
            self._run("response_norm", f"{kernel}_plain", arguments, pixels * c)
            return
        grid = (min(-(-pixels // tile), 1 << 16),)
        self._run("response_norm", kernel, arguments, grid=grid, shared=tile * pixel_bytes)

    def response_norm_pool(self, x: Array, norm: tuple, pool: tuple) -> tuple[Array, Any]:
        (n, k, alpha, beta, groups), (window, stride, pads) = norm, pool
        x = self._packed(x)
        images, h, w, c = x.shape
        p, q = output_shape((h, w), window, stride, pads)
        # a block's windows are in shared memory, both as x and normalised
        columns = kernels.SHARED // (2 * window[0] * c * x.itemsize)
        across = min(q, (columns - window[1]) // stride[1] + 1)
        if across < 1 or prod(window) > 1 << 16:
            return super().response_norm_pool(x, norm, pool)
        parts = -(-q // across)
        across = -(-q // parts)
        y = self._new((images, p, q, c), x)
        argmax = self._new(y.shape, "uint16")
        geometry = (images, h, w, c, *window, p, q, *stride, pads[0][0], pads[1][0], across)
        name, sizes = self._pooled("norm_pool", n, c // groups, (x,))
        arguments = (x, y, argmax, *geometry, *sizes, k, alpha, beta)
        held = 2 * window[0] * ((across - 1) * stride[1] + window[1]) * c * x.itemsize
        grid = (max(1, min(images * p * parts, 1 << 20)),)
        self._run("norm_pool", name, arguments, grid=grid, shared=held)
        return y, (x, x, argmax)

    def _pooled(self, kernel: str, n: int, group: int, arrays: Any) -> tuple[str, tuple[int, ...]]:
        """The kernel for 16 bytes per thread and its sizes, or the one for any."""
        if n // 2 == 2 and self._wide(group, arrays=arrays):
            return f"{kernel}_wide", (group,)
        return kernel, (group, n)

    def response_norm_pool_gradient(
        self, dy: Array, saved: Any, norm: tuple, pool: tuple, relu: bool = False
    ) -> Array:
        (n, k, alpha, beta, groups), (window, stride, pads) = norm, pool
        dy, (x, _, argmax) = self._packed(dy), saved
        images, h, w, c = x.shape
        wide = np.dtype(kernels.accumulator(x.dtype.name)).itemsize
        name, sizes = self._pooled("norm_pool_gradient", n, c // groups, (dy, x))
        pixel_bytes = c * (x.itemsize + wide)
        tile = min(16 * kernels.BLOCK // (c * x.itemsize), kernels.SHARED // pixel_bytes)
        if len(sizes) == 2 or tile < 1:  # not the wide kernel, with a thread for 16 bytes
            name, sizes = "norm_pool_gradient", (c // groups, n)
            pixel_bytes += c * x.itemsize
            tile = min(max(1, 2 * kernels.BLOCK // c), kernels.SHARED // pixel_bytes)
        if tile < 1:
            return super().response_norm_pool_gradient(dy, saved, norm, pool, relu)
        dx, pixels = self._new(x.shape, x), images * h * w
        geometry = (h, w, c, *window, *dy.shape[1:3], *stride, pads[0][0], pads[1][0], tile)
        arguments = (dy, argmax, x, dx, pixels, *geometry, *sizes, k, alpha, beta, relu)
        grid, shared = (min(-(-pixels // tile), 1 << 16),), tile * pixel_bytes
        self._run("norm_pool", name, arguments, grid=grid, shared=shared)
        return dx

    def spatial_response_norm(
        self, x: Array, n: int, k: float, alpha: float, beta: float
    ) -> tuple[Array, Any]:
        x = self._packed(x)
        y = self._new(x.shape, x)
        scale = self._new(x.shape, kernels.accumulator(x.dtype.name))
        geometry = (x.size // x.shape[3], *x.shape[1:], n, k, alpha, beta)
        self._run("response_norm", "spatial_norm", (x, y, scale, *geometry), x.size)
        return y, (x, scale)

    def spatial_response_norm_gradient(
        self, dy: Array, saved: Any, n: int, k: float, alpha: float, beta: float
    ) -> Array:
        dy, (x, scale) = self._packed(dy), saved
        dx = self._new(x.shape, x)
        geometry = (x.size // x.shape[3], *x.shape[1:], n, alpha, beta)
        self._run("response_norm", "spatial_norm_gradient", (dy, x, scale, dx, *geometry), x.size)
        return dx
