"""Arrays on one CUDA device: transfers, slices and concatenation, tests and sums."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from minialex.backends.base import Array
from minialex.backends.cuda import kernels
from minialex.backends.cuda.execution import CudaExecution

_SHARE = 1 << 14  # fewest numbers whose squares a block sums


class CudaArrays(CudaExecution):
    """Arrays, and elementwise ops."""

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """A host array on the device; integers become int64, bytes stay bytes."""
        if isinstance(x, self.xp.ndarray):
            return x
        host = np.asarray(x)
        if dtype in ("float16", "bfloat16"):
            return self._stored(self.stream.upload(host.astype(np.float32)), dtype)
        if dtype is not None:
            host = host.astype(dtype)
        elif host.dtype.kind in "iu" and host.dtype != np.uint8:
            host = host.astype(np.int64)
        return self.stream.upload(host)

    def to_numpy(self, x: Array) -> np.ndarray:
        if isinstance(x, np.ndarray):
            return x
        return self.stream.download(self._packed(x) if x.dtype.name in kernels.STORAGES else x)

    def all_finite(self, *arrays: Any) -> bool:
        bad = self.stream.zeros((1,), np.int32)
        self.find_bad(arrays, bad)
        return not self.stream.download(bad)[0]

    def find_bad(self, arrays: Iterable[Array], bad: Array) -> None:
        """Set `bad` (1,) on the device if any array holds NaN or Inf."""
        for x in map(self._packed, arrays):
            self._run("reduce", "find_bad", (x, bad, x.size), x.size)

    def merge_flag(self, flag: Array, bad: Array) -> None:
        """Set `bad` (1,) on the device if `flag` (1,) is set."""
        self._run("reduce", "merge_flag", (flag, bad), 1)

    def sum_of_squares(self, x: Array) -> float:
        x = self._packed(x)
        share = max(_SHARE, -(-x.size // 1024))
        blocks = -(-x.size // share)
        sums, total = self._new((blocks,), "float64"), self._new((1,), "float64")
        self._run("reduce", "squares", (x, sums, x.size, share), grid=(blocks,))
        self._run("reduce", "square_total", (sums, total, blocks), grid=(1,), storage=x.dtype)
        return float(self.stream.download(total)[0])

    def zeros_like(self, x: Array) -> Array:
        return self.stream.zeros(x.shape, x.dtype)

    def narrow(self, x: Array, axis: int, start: int, stop: int) -> Array:
        index = [slice(None)] * x.ndim
        index[axis] = slice(start, stop)
        out = self._new([len(range(*s.indices(e))) for s, e in zip(index, x.shape, strict=True)], x)
        self._copy(x[tuple(index)], out)
        return out

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        out, start = self._new(shape, parts[0]), 0
        for part in parts:
            index: list[Any] = [slice(None)] * len(shape)
            index[axis] = slice(start, start + part.shape[axis])
            self._copy(part, out[tuple(index)])
            start += part.shape[axis]
        return out

    def scale(self, x: Array, factor: float) -> Array:
        return self._each("scale", x, more=(factor,))

    def scale_channels(self, x: Array, factors: Sequence[float]) -> Array:
        # capturable: factors from the host would have to be copied to the device
        channels = (self.narrow(x, 3, c, c + 1) for c in range(len(factors)))
        scaled = [self.scale(one, f) for one, f in zip(channels, factors, strict=True)]
        return self.concat(scaled, 3)

    def add(self, x: Array, y: Array) -> Array:
        return self._each("add", x, y)

    def _each(self, kernel: str, *arrays: Any, more: Any = ()) -> Array:
        arrays = tuple(map(self._packed, arrays))
        out = self._new(arrays[0].shape, arrays[0])
        wide = self._wide(out.size, arrays=(*arrays, out))
        threads = out.size * out.itemsize // 16 if wide else out.size
        name = kernel + "_wide" * wide
        self._run("elementwise", name, (*arrays, out, out.size, *more), threads)
        return out
