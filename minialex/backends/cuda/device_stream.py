"""One device's stream: its memory, launches, matrix products, and copies from other devices.

Everything the CuPy backend does to a device goes through here, so this is where device and stream
are made current and where arrays of another device raise an error.
"""

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np

from minialex.backends.cuda import cublas, kernels
from minialex.backends.cuda.device import library

# cublas_api.h and library_types.h
_N, _T = 0, 1
_COMPUTE_32F, _COMPUTE_64F, _COMPUTE_32F_FAST_TF32 = 68, 70, 77
_DEFAULT_ALGORITHM = -1
_CUDA_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}


def is_pinned(array: np.ndarray) -> bool:
    """Whether the device can copy from this host array while the host goes on."""
    runtime = library().cuda.runtime
    if not array.flags.c_contiguous:
        return False
    return runtime.pointerGetAttributes(array.ctypes.data).type == runtime.memoryTypeHost


class OwnPool:
    """A memory pool beside CuPy's, whose memory is counted as well."""

    every: ClassVar["weakref.WeakSet[OwnPool]"] = weakref.WeakSet()  # CuPy's pools allow none

    def __init__(self, allocator: Callable[[int], Any]) -> None:
        self.pool = library().cuda.MemoryPool(allocator)
        self.every.add(self)


class _Here:
    """The context in which a device and one of its streams are current."""

    def __init__(self, device: Any, stream: Any):
        self._device, self._stream = device, stream

    def __enter__(self) -> None:
        self._device.__enter__()
        self._stream.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._stream.__exit__(*error)
        self._device.__exit__(*error)


class DeviceStream:
    """Work on one device; with `own` on a separate stream, else on the current one."""

    def __init__(self, device: int, own: bool = False, tf32: bool = False):
        self.device = device
        self.tf32 = tf32
        cuda = library().cuda
        self._device = cuda.Device(device)
        self.own: Any = None
        self._copies: Any = None
        if own:
            with self._device:
                self.own = cuda.Stream(non_blocking=True)
                self._copies = cuda.Stream(non_blocking=True)
            weakref.finalize(self, cublas.forget, device, self.own.ptr).atexit = False
        # arrays that a copy may still be reading, with the event that ends it
        self._in_flight: deque[tuple[Any, Any]] = deque()
        self.kept: list[Any] | None = None  # the same for a graph that is being captured

    def device_context(self) -> AbstractContextManager:
        """The context in which this stream's device and stream are current."""
        if self.own is not None:
            return _Here(self._device, self.own)
        return self._device if self.device else nullcontext()

    # ------------------------------------------------------------------------------ memory

    def empty(self, shape: Sequence[int], dtype: Any) -> Any:
        with self.device_context():
            return library().empty(shape, np.dtype(dtype))

    def zeros(self, shape: Sequence[int], dtype: Any) -> Any:
        with self.device_context():
            array = library().empty(shape, np.dtype(dtype))
            array.data.memset_async(0, array.nbytes)
            return array

    def upload(self, host: np.ndarray) -> Any:
        """A host array on the device.

        The copy from pinned memory ends later, so that memory is kept until then: CuPy's pool would
        give it to the next who asks.
        """
        with self.device_context():
            array = library().empty(host.shape, host.dtype)
            array.set(np.asarray(host, order="C"))  # ascontiguousarray adds an axis to a number
            if host.nbytes and is_pinned(host):
                self.keep(host, library().cuda.get_current_stream().record())
            return array

    def download(self, array: Any) -> np.ndarray:
        """An array of the device as a host array; waits for the work so far."""
        with self.device_context():
            return array.get()

    def synchronize(self) -> None:
        """Wait until this stream has done all its work, and others have read its arrays."""
        with self.device_context():
            library().cuda.get_current_stream().synchronize()
        for _, read in self._in_flight:
            read.synchronize()
        self._in_flight.clear()

    # ------------------------------------------------------------------------------ kernels

    def launch(
        self,
        family: str,
        kernel: str,
        storage: Any,
        arguments: tuple,
        threads: int = 0,
        **more: Any,
    ) -> None:
        """Run a kernel over `threads` indices, or over an explicit grid."""
        grid = more.pop("grid", None) or kernels.grid_for(threads)
        with self.device_context():
            kernels.launch(self.device, family, kernel, str(storage), arguments, grid, **more)

    def product(
        self,
        a: Any,
        b: Any,
        out: Any,
        shape: tuple[int, int, int],
        steps: tuple[int, int, int],
        offsets: tuple[int, int, int] = (0, 0, 0),
        transposed: tuple[bool, bool] = (False, False),
        add: bool = False,
    ) -> None:
        """out = A B, or out += A B, by cuBLAS, on row-major matrices inside larger arrays.

        `shape` is (M, K, N) for A (M, K), B (K, N), out (M, N). `steps` are the distances between
        rows in memory, `offsets` where each matrix starts, `transposed` whether A and B are stored
        as their transposes. Callers must not ask for sums of nothing (K = 0).
        """
        (m, k, n), (step_a, step_b, step_c) = shape, steps
        if not m or not n:
            return  # an empty array has no memory
        for array in (a, b, out):
            if array.device.id != self.device:
                raise TypeError(f"a product on device {self.device} was given arrays of another")
        kind = a.dtype.name
        number = np.float64 if kind == "float64" else np.float32
        compute = _COMPUTE_64F if kind == "float64" else _COMPUTE_32F
        if kind == "float32" and self.tf32:
            compute = _COMPUTE_32F_FAST_TF32
        one, beta = np.array(1, number), np.array(1 if add else 0, number)
        a_at, b_at, c_at = (
            array.data.ptr + offset * array.itemsize
            for array, offset in zip((a, b, out), offsets, strict=True)
        )
        # cuBLAS is column-major: the rows of out are the columns of outᵀ = Bᵀ Aᵀ
        ta, tb = (_T if flag else _N for flag in transposed)
        with self.device_context():
            # fmt: off
            cublas.gemm_ex(
                self.device, tb, ta, n, m, k, one.ctypes.data,
                b_at, _CUDA_TYPES[b.dtype.name], step_b, a_at, _CUDA_TYPES[kind], step_a,
                beta.ctypes.data, c_at, _CUDA_TYPES[out.dtype.name], step_c,
                compute, _DEFAULT_ALGORITHM,
            )
            # fmt: on

    # ------------------------------------------------------------------------------ other devices

    def record(self) -> Any:
        """An event after all work so far."""
        with self.device_context():
            return library().cuda.get_current_stream().record()

    def wait(self, event: Any) -> None:
        """Make later work wait for `event`."""
        with self.device_context():
            library().cuda.get_current_stream().wait_event(event)

    def wait_on(self, stream: Any) -> None:
        """Make later work of `stream` wait for this stream's work so far."""
        event = self.record()
        with self._device:
            stream.wait_event(event)

    def wait_for(self, stream: Any) -> None:
        """Make later work of this stream wait for the work of `stream` so far."""
        with self._device:
            event = stream.record()
        self.wait(event)

    def receive(self, array: Any, sender: "DeviceStream") -> tuple[Any, Any]:
        """A copy of another stream's contiguous `array` here, and the event that ends the copy.

        The copy runs concurrently with both streams: readers of the copy must wait for the event.
        The sender keeps the array's memory until the copy has finished.
        """
        ready = sender.record()
        copy = self.empty(array.shape, array.dtype)
        if self._copies is None:
            self.wait(ready)
            with self.device_context():
                copy.data.copy_from_device_async(array.data, array.nbytes)
            done = self.record()
        else:
            free = self.record()  # the copy's memory may be in use until here
            with _Here(self._device, self._copies):
                self._copies.wait_event(ready)
                self._copies.wait_event(free)
                copy.data.copy_from_device_async(array.data, array.nbytes, self._copies)
                done = self._copies.record()
        sender.keep(array, done)
        self.keep(copy, done)
        return copy, done

    def keep(self, array: Any, until: Any) -> None:
        """Keep the memory of an array that another stream reads until the event."""
        if self.kept is not None:  # events of a capture never end
            self.kept.append(array)
            return
        while self._in_flight and self._in_flight[0][1].done:
            self._in_flight.popleft()
        self._in_flight.append((array, until))

    # ------------------------------------------------------------------------------ measuring

    def memory(self) -> int:
        """Bytes that arrays may use: free memory plus what the pools have reserved."""
        with self.device_context():
            free, _ = library().cuda.runtime.memGetInfo()
            limit = library().get_default_memory_pool().get_limit()
        available = free + self.reserved()
        return min(available, limit) if limit else available

    def reserved(self) -> int:
        """Bytes the pools have reserved on the device; they release memory only on request."""
        with self.device_context():
            pools = [library().get_default_memory_pool(), *(one.pool for one in OwnPool.every)]
            return sum(pool.total_bytes() for pool in pools)
