"""Arrays of one CUDA device: where they live, how they come and go, how kernels run on them."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from minialex import precision as precisions
from minialex.backends.base import Array
from minialex.backends.cuda import cublas, kernels
from minialex.backends.cuda import device as cuda_device
from minialex.backends.cuda.compiled_step import CompiledStep
from minialex.backends.cuda.queue import Queue
from minialex.backends.generic.backend import GenericBackend
from minialex.precision import Precision

_SHARE = 1 << 14  # numbers whose squares one block sums, at least


class CudaArrays(GenericBackend):
    """What the backend's ops stand on: `CupyBackend` is made of them."""

    def __init__(
        self,
        device: int | None = None,
        precision: str | Precision = "fp32",
        own_queue: bool = False,
    ):
        index = 0 if device is None else int(device)
        cuda_device.check(index)
        super().__init__("cupy", cuda_device.library(), index)
        self.precision = precisions.get(precision)
        self.queue = Queue(index, own_queue, tf32=self.precision.tf32)
        self._constants: dict[int, tuple[np.ndarray, Array]] = {}

    # ------------------------------------------------------------------------------ how it runs

    def with_precision(self, precision: str | Precision) -> Self:
        precision = precisions.get(precision)
        if precision == self.precision:
            return self
        return type(self)(self.device, precision, self.queue.stream is not None)

    def with_own_stream(self) -> Self:
        return type(self)(self.device, self.precision, own_queue=True)

    def device_context(self):
        return self.queue.device_context()

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

    def record_stream(self, x, event) -> None:
        self.queue.keep(x, event)

    def compile(self, step: Any) -> Any:
        """On one device; with loss scaling the host looks at every step's gradients."""
        alone = self.queue.stream is None and not self.precision.loss_scaling
        return CompiledStep(self, step) if alone and cublas.interface() is not None else None

    def cast_params(self, params):
        if not self.precision.half:
            return params
        return {
            # biases are added to sums, which are float32
            layer: {
                name: value if name == "bias" else self._stored(value)
                for name, value in of_layer.items()
            }
            for layer, of_layer in params.items()
        }

    def refresh_params(self, params, copies) -> None:
        """Make `cast_params(params)` anew, in the arrays of the one before."""
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

    def narrow(self, x, axis, start, stop):
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
        out = self._new(x.shape, dtype or self.precision.compute)
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
