"""Execution on CUDA: device, precision, stream, and kernel launches."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import prod
from typing import Any, Self

import numpy as np

from minialex import precision as precisions
from minialex.backends.base import Array
from minialex.backends.cuda import cublas, kernels, nccl
from minialex.backends.cuda import device as cuda_device
from minialex.backends.cuda.compiled_step import CompiledStep
from minialex.backends.cuda.device_stream import DeviceStream
from minialex.backends.generic.backend import GenericBackend
from minialex.precision import Precision


class CudaExecution(GenericBackend):
    """One device, one stream, and the helpers with which all op families launch kernels."""

    def __init__(
        self,
        device: int | None = None,
        precision: str | Precision = "fp32",
        own_stream: bool = False,
    ):
        index = 0 if device is None else int(device)
        cuda_device.check(index)
        super().__init__("cupy", cuda_device.library(), index)
        self.precision = precisions.get(precision)
        self.stream = DeviceStream(index, own_stream, tf32=self.precision.tf32)
        self._constants: dict[int, tuple[np.ndarray, Array]] = {}

    def with_precision(self, precision: str | Precision) -> Self:
        precision = precisions.get(precision)
        if precision == self.precision:
            return self
        if precision.int8:
            return super().with_precision(precision)  # refuses it
        return type(self)(self.device, precision, self.stream.own is not None)

    def with_own_stream(self) -> Self:
        return type(self)(self.device, self.precision, own_stream=True)

    def device_context(self) -> AbstractContextManager:
        return self.stream.device_context()

    def remarks(self, devices: Sequence) -> list[str]:
        return cuda_device.remarks(devices)

    def device_count(self) -> int:
        return cuda_device.count()

    def device_id(self) -> str | None:
        return cuda_device.identity(self.device)

    def memory(self) -> int | None:
        return self.stream.memory()

    def peak_memory(self) -> int | None:
        return self.stream.reserved()

    def host_empty(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        """Pinned memory; CuPy's pool keeps what is freed for the next arrays."""
        count, kind = prod(shape), np.dtype(dtype)
        with self.device_context():
            pinned = cuda_device.library().cuda.alloc_pinned_memory(max(1, count * kind.itemsize))
        return np.frombuffer(pinned, kind, count).reshape(shape)

    def synchronize(self) -> None:
        self.stream.synchronize()

    def receive(self, x: Array, sender: Self) -> tuple[Array, Any]:
        if sender is self:
            return x, None
        return self.stream.receive(self._packed(x), sender.stream)

    def link_key(self) -> Any:
        module = nccl.nccl()
        return None if module is None else module.get_unique_id()

    def link(self, key: Any, size: int, rank: int) -> Any:
        return nccl.Link(self.stream, key, size, rank)

    def record(self) -> Any:
        return self.stream.record()

    def wait(self, event: Any) -> None:
        if event is not None:
            self.stream.wait(event)

    def record_stream(self, x: Array, event: Any) -> None:
        self.stream.keep(x, event)

    def compile(self, step: Any) -> Any:
        """Needs cuBLAS's own interface."""
        return CompiledStep(step) if cublas.interface() is not None else None

    def cast_params(self, params: dict) -> dict:
        if not self.precision.half:
            return params
        return {
            # biases are added to float32 sums, as are the other parameters of single channels
            layer: {
                name: value if value.ndim == 1 else self._stored(value)
                for name, value in of_layer.items()
            }
            for layer, of_layer in params.items()
        }

    def refresh_params(self, params: dict, copies: dict) -> None:
        """Update the result of an earlier `cast_params(params)` in place."""
        for layer, of_layer in copies.items():
            for name, copy in of_layer.items():
                x = params[layer][name]
                if copy is not x:
                    self._run("elementwise", "from_float", (x, copy, x.size), x.size, copy.dtype)

    # ------------------------------------------------------------------------------ helpers

    def _new(self, shape: Sequence[int], like: Any) -> Array:
        """An array on the device; `like` is a type, or an array of that type."""
        return self.stream.empty(shape, getattr(like, "dtype", like))

    def _run(
        self,
        family: str,
        kernel: str,
        arguments: Any,
        threads: int = 0,
        storage: Any = None,
        **more: Any,
    ) -> None:
        """Launch a kernel; its T is the type of the first argument unless `storage` is given."""
        kind = np.dtype(storage if storage is not None else arguments[0].dtype).name
        kind = kind if kind in kernels.STORAGES else "float32"
        self.stream.launch(family, kernel, kind, arguments, threads, **more)

    def _own(self, numbers: dict[DeviceStream, Array]) -> Array:
        """This stream's of an array that each stream has: see `Devices.device_gradients`."""
        return numbers[self.stream]

    def _packed(self, x: Array) -> Array:
        """x itself if it is contiguous, else a contiguous copy."""
        if x.flags.c_contiguous:
            return x
        out = self._new(x.shape, x)
        self._copy(x, out)
        return out

    def _copy(self, x: Array, out: Array) -> None:
        if x.ndim > 5:
            raise TypeError(f"copies have at most 5 axes, not {x.ndim}")
        front = 5 - x.ndim
        sizes = ((1,) * front + tuple(x.shape))[1:]
        steps = [(0,) * front + tuple(s // a.itemsize for s in a.strides) for a in (x, out)]
        ends = [self.xp.ndarray((_reach(a),), a.dtype, a.data) for a in (x, out)]
        arguments = (*ends, x.size, *sizes, *steps[0], *steps[1])
        self._run("elementwise", "copy_strided", arguments, x.size)

    def _stored(self, x: Array, dtype: str | None = None) -> Array:
        """Float32 arrays in half precision."""
        out = self._new(x.shape, dtype or self.precision.compute)
        self._run("elementwise", "from_float", (x, out, x.size), x.size, storage=out.dtype)
        return out

    @staticmethod
    def _wide(*counts: int, arrays: Sequence[Array]) -> bool:
        """Whether arrays can be accessed 16 bytes at a time: all `counts` and addresses divide."""
        width = 16 // arrays[0].itemsize
        return all(count % width == 0 for count in counts) and all(
            array.data.ptr % 16 == 0 for array in arrays
        )


def _reach(x: Array) -> int:
    """The number of elements that an array with positive strides spans in memory."""
    return 1 + sum((e - 1) * s for e, s in zip(x.shape, x.strides, strict=True)) // x.itemsize
