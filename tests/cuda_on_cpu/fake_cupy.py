"""A drop-in replacement for `cupy` with the few names that minialex uses.

Arrays refuse what CuPy's refuse (implicit conversion to NumPy) and most of what CuPy's can do, so
that every use of CuPy that is not tested here fails here.
"""

import ctypes
import json
import math
import types
from collections import defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path

import ml_dtypes
import numpy as np

from cuda_on_cpu import compiler
from cuda_on_cpu.machine import Block, Capture, CaptureError, Machine, OutOfMemory, Pool, Queue

_TYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: ml_dtypes.bfloat16}


class CUDARuntimeError(RuntimeError):
    """As cupy.cuda.runtime's."""


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory's."""


def _at(pointer: int, count: int, dtype) -> np.ndarray:
    """The numbers at an address."""
    raw = (ctypes.c_uint8 * max(1, count * np.dtype(dtype).itemsize)).from_address(pointer)
    return np.frombuffer(raw, np.uint8)[: count * np.dtype(dtype).itemsize].view(dtype)


def build(machine: Machine) -> types.ModuleType:
    """The module `cupy` for a machine."""
    state = types.SimpleNamespace(device=0, streams={}, pool=None)

    # -------------------------------------------------------------------------- devices, streams

    class Device:
        def __init__(self, device=None):
            self.id = state.device if device is None else int(device)
            self._before: list[int] = []

        def __enter__(self):
            if not 0 <= self.id < machine.devices:
                raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
            self._before.append(state.device)
            state.device = self.id
            return self

        def __exit__(self, *error):
            state.device = self._before.pop()

    class Event:
        def __init__(self, marker=None):
            self._marker = marker

        def _outside(self) -> None:
            if getattr(self._marker, "capture", None) is not None:
                raise CUDARuntimeError("cudaErrorCapturedEvent: it is only recorded")

        @property
        def done(self) -> bool:
            self._outside()
            return machine.ask(self._marker)

        def synchronize(self) -> None:
            self._outside()
            machine.finish(lambda: self._marker.done)

    class Graph:
        """The work given to streams while they were captured, with the same arguments."""

        def __init__(self, work: list):
            self._work = work

        def launch(self, stream=None) -> None:
            machine.launches += 1
            machine.replay((stream or current_stream())._queue, self._work)

    class Stream:
        def __init__(self, null=False, non_blocking=False):
            self.device_id = state.device
            self._queue = Queue(state.device)
            self._before: list = []
            self._blocking = not non_blocking
            self.ptr = 0 if null else machine.handle()

        def begin_capture(self, mode=None) -> None:
            if self._blocking or self._queue.captured is not None:
                raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported")
            Capture(self._queue)

        def end_capture(self) -> Graph:
            capture = self._queue.capture
            if capture is None or capture.queues[0] is not self._queue:
                raise CUDARuntimeError("cudaErrorStreamCaptureUnmatched")
            try:
                return Graph(capture.end())
            except CaptureError as error:
                raise CUDARuntimeError(str(error)) from None

        def __enter__(self):
            if self.device_id != state.device:
                raise RuntimeError("a stream of another device than the current one")
            self._before.append(state.streams.get(self.device_id))
            state.streams[self.device_id] = self
            return self

        def __exit__(self, *error):
            state.streams[self.device_id] = self._before.pop()

        def record(self, event=None) -> Event:
            if self.device_id != state.device:
                raise RuntimeError("an event is recorded on the current device only")
            return Event(machine.record(self._queue))

        def wait_event(self, event: Event) -> None:
            try:
                machine.wait(self._queue, event._marker)
            except CaptureError as error:
                raise CUDARuntimeError(str(error)) from None

        def synchronize(self) -> None:
            refuse_in_capture(self)
            self.record().synchronize()

    def refuse_in_capture(stream: Stream) -> None:
        """For work that cannot, or here must not, be part of a graph."""
        if stream._queue.capture is not None:
            stream._queue.capture.invalid = True
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: not in a captured step")

    null_streams: dict[int, Stream] = {}

    def current_stream() -> Stream:
        found = state.streams.get(state.device)
        if found is None:
            if state.device not in null_streams:
                null_streams[state.device] = Stream(null=True)
            found = null_streams[state.device]
        return found

    # -------------------------------------------------------------------------- memory, arrays

    class MemoryPointer:
        def __init__(self, block: Block, offset: int):
            self._block, self._offset = block, offset

        @property
        def ptr(self) -> int:
            return self._block.pointer + self._offset

        @property
        def device_id(self) -> int:
            return self._block.device

        def __add__(self, offset: int) -> "MemoryPointer":
            return MemoryPointer(self._block, self._offset + offset)

        def memset_async(self, value, size, stream=None) -> None:
            here = self.ptr
            machine.submit(
                (stream or current_stream())._queue, lambda: _at(here, size, np.uint8).fill(value)
            )

        def copy_from_host_async(self, address: int, size: int, stream=None) -> None:
            assert machine.is_pinned(address, size)
            refuse_in_capture(stream or current_stream())
            machine.to_device += size
            here = self.ptr

            def copy() -> None:  # reads the host's memory when it runs, as the hardware does
                _at(here, size, np.uint8)[:] = _at(address, size, np.uint8)

            machine.submit((stream or current_stream())._queue, copy)

        def copy_to_host_async(self, address: int, size: int, stream=None) -> None:
            assert machine.is_pinned(address, size)
            refuse_in_capture(stream or current_stream())
            machine.to_host += size
            here = self.ptr

            def copy() -> None:
                _at(address, size, np.uint8)[:] = _at(here, size, np.uint8)

            machine.submit((stream or current_stream())._queue, copy)

        def copy_from_device_async(self, source, size, stream=None) -> None:
            here, there = self.ptr, source.ptr
            machine.peer += size

            def copy() -> None:
                _at(here, size, np.uint8)[:] = _at(there, size, np.uint8)

            machine.submit((stream or current_stream())._queue, copy)

    class ndarray:
        __array_priority__ = 100
        __slots__ = ("__weakref__", "data", "dtype", "shape", "strides")

        def __init__(self, shape, dtype=float, memptr=None, strides=None):
            self.shape = tuple(map(int, (shape,) if isinstance(shape, int) else shape))
            self.dtype = np.dtype(dtype)
            if memptr is None:
                memptr = _allocate(math.prod(self.shape) * self.dtype.itemsize)
            self.data = memptr
            if strides is None:
                steps = [self.dtype.itemsize]
                for extent in reversed(self.shape[1:]):
                    steps.append(steps[-1] * max(1, extent))
                strides = tuple(reversed(steps))[len(steps) - len(self.shape) :]
            self.strides = strides

        ndim = property(lambda self: len(self.shape))
        size = property(lambda self: math.prod(self.shape))
        itemsize = property(lambda self: self.dtype.itemsize)
        nbytes = property(lambda self: self.size * self.itemsize)
        device = property(lambda self: types.SimpleNamespace(id=self.data.device_id))
        T = property(lambda self: self.transpose())

        def transpose(self):
            return ndarray(self.shape[::-1], self.dtype, self.data, self.strides[::-1])

        @property
        def flags(self):
            return self._as_numpy().flags

        def _as_numpy(self) -> np.ndarray:
            block = self.data._block
            flat = block.whole[block.pointer - block.whole.ctypes.data + self.data._offset :]
            if self.size == 0:
                return np.empty(self.shape, self.dtype)
            return np.ndarray(self.shape, self.dtype, flat.data, 0, self.strides)

        def __getitem__(self, index) -> "ndarray":
            whole = self._as_numpy()
            index = index if isinstance(index, tuple) else (index,)
            part = whole[(*index, ...)] if Ellipsis not in index else whole[index]
            offset = part.ctypes.data - whole.ctypes.data if part.size else 0
            return ndarray(part.shape, self.dtype, self.data + offset, part.strides)

        def reshape(self, *shape) -> "ndarray":
            shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
            if not self.flags.c_contiguous:
                raise NotImplementedError("reshape of an array that is not contiguous")
            return ndarray(
                np.empty(self.shape, np.int8).reshape(shape).shape, self.dtype, self.data
            )

        def get(self) -> np.ndarray:
            refuse_in_capture(current_stream())
            current_stream().synchronize()
            machine.to_host += self.nbytes
            if machine.dry:
                return np.zeros(self.shape, self.dtype)
            return self._as_numpy().copy()

        def set(self, host, stream=None) -> None:
            if host.dtype != self.dtype or host.shape != self.shape:
                raise TypeError(f"{host.dtype} {host.shape} into {self.dtype} {self.shape}")
            refuse_in_capture(stream or current_stream())
            machine.to_device += self.nbytes
            here, copied, size = self.data.ptr, host.tobytes(), self.nbytes

            def copy() -> None:
                _at(here, size, np.uint8)[:] = np.frombuffer(copied, np.uint8)

            machine.submit((stream or current_stream())._queue, copy)

        def __float__(self) -> float:
            return float(self.get())

        def __array__(self, *more, **options):
            raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def _allocate(size: int) -> MemoryPointer:
        if state.pool is not None:
            state.pool._prepare(size)
        try:
            block = machine.allocate(state.device, current_stream()._queue, size, state.pool)
        except OutOfMemory as error:
            size = error.args[0]
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes") from None
        return MemoryPointer(block, 0)

    # -------------------------------------------------------------------------- kernels

    class RawKernel:
        def __init__(self, library, name: str, device: int):
            self._library, self._name, self._device = library, name, device
            self.max_dynamic_shared_size_bytes = 48 * 1024

        def __call__(self, grid, block, args, *, shared_mem=0) -> None:
            if self._device != state.device:
                raise RuntimeError("a kernel of a module that another device has loaded")
            values = []
            for value in args:
                if isinstance(value, ndarray):
                    if value.data.device_id != state.device:
                        raise RuntimeError("a kernel was given memory of another device")
                    values.append(value.data.ptr)
                elif value is None:
                    values.append(0)
                elif isinstance(value, np.ndarray) and value.size != 1:
                    raise TypeError("You are trying to pass a numpy.ndarray as a kernel parameter")
                else:
                    values.append(value.copy() if isinstance(value, np.ndarray) else value)
            assert shared_mem <= self.max_dynamic_shared_size_bytes <= 227 * 1024
            grid = tuple(max(1, e) for e in grid)  # as CuPy has it
            if any(e > most for e, most in zip(grid, (2**31 - 1, 65535, 65535), strict=False)):
                raise ValueError(f"{self._name}: a grid of {grid}")
            if math.prod(block) > 1024:
                raise ValueError(f"{self._name}: a block of {block}")
            machine.launches += current_stream()._queue.captured is None
            seed = machine.random.randrange(4)

            def call() -> None:
                compiler.run(self._library, self._name, grid, block, values, seed)

            machine.submit(current_stream()._queue, call)

    class RawModule:
        def __init__(self, code: str | None = None, *, path: str | None = None, options=()):
            if path is not None:  # output of the stand-in for NVRTC
                text = Path(path).read_text(encoding="utf-8")
                if not text.endswith("\0"):
                    raise CUDARuntimeError("CUDA_ERROR_INVALID_IMAGE: the last byte is missing")
                code, options = json.loads(text[:-1])
            self._library = compiler.library(code, tuple(options))
            self._device = state.device

        def get_function(self, name: str) -> RawKernel:
            return RawKernel(self._library, name, self._device)

    class nvrtc:
        """Its machine code is the source and the options, for `RawModule` to compile."""

        class NVRTCError(RuntimeError):
            pass

        getVersion = staticmethod(lambda: (13, 0))
        getSupportedArchs = staticmethod(lambda: [75, 80, 90])
        createProgram = staticmethod(lambda source, name, headers, names: [source])
        compileProgram = staticmethod(lambda program, options: program.append(options))
        # without its last byte, a zero, like CuPy's
        getCUBIN = staticmethod(lambda program: json.dumps(program).encode())
        getPTX = staticmethod(lambda program: json.dumps(program))
        getProgramLog = staticmethod(lambda program: "")
        destroyProgram = staticmethod(lambda program: None)

    # -------------------------------------------------------------------------- memory pools

    def memory(size: int) -> None:
        """cupy.cuda.Memory, to be taken by a pool: what is free is counted there."""
        if machine.used[state.device] + size > machine.memory[state.device]:
            raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")

    class MemoryPool(Pool):
        def __init__(self, allocator=None):
            super().__init__()
            self._allocator = allocator or memory

        def malloc(self, size: int) -> MemoryPointer:
            state.pool, before = self, state.pool
            try:
                return _allocate(size)
            finally:
                state.pool = before

        def _prepare(self, size: int) -> None:
            """As CuPy's: if there is no more, what is not in use is returned first."""
            if self.has(current_stream()._queue, size):
                return None
            for _ in range(2):
                with suppress(CUDARuntimeError):
                    return self._allocator(size)
                self.free_all_blocks()
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes")

        def total_bytes(self) -> int:
            return 0  # the default pool's counts all

        def free_all_blocks(self) -> None:
            self.freed.clear()

    @contextmanager
    def using_allocator(malloc):
        state.pool, before = malloc.__self__, state.pool
        try:
            yield
        finally:
            state.pool = before

    def from_default_pool(size: int) -> MemoryPointer:
        state.pool, before = None, state.pool
        try:
            return _allocate(size)
        finally:
            state.pool = before

    # -------------------------------------------------------------------------- cuBLAS

    class CUBLAS:
        """libcublas as ctypes sees it: a handle is device + 1, a status is 0."""

        cublasSetStream_v2 = staticmethod(lambda handle, stream: set_stream(handle, stream))
        cublasSetWorkspace_v2 = staticmethod(lambda *given: set_workspace(*given))
        cublasGemmEx = staticmethod(lambda handle, *more: captured_gemm(handle, *more))

    handles: dict[int, dict] = defaultdict(dict)

    def set_stream(handle, stream: int) -> int:
        handles[handle] = {"stream": stream}  # and its workspace is gone
        return 0

    def set_workspace(handle, pointer: int, size: int) -> int:
        assert pointer
        assert size >= 32 << 20
        handles[handle]["workspace"] = pointer
        return 0

    def captured_gemm(handle, *more) -> int:
        assert handles[handle]["stream"] == current_stream().ptr
        assert "workspace" in handles[handle]
        gemmEx(handle, *more)
        return 0

    # fmt: off
    def gemmEx(handle, ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb,
               beta, c, c_type, ldc, compute, algorithm) -> None:
        # fmt: on
        number = np.float64 if compute == 70 else np.float32
        assert handle == state.device + 1
        assert compute in (68, 70, 77)
        assert a_type == b_type, "cuBLAS multiplies no two types"
        alpha, beta = (float(_at(pointer, 1, number)[0]) for pointer in (alpha, beta))

        def matrix(pointer, rows, columns, step, kind):
            """A column-major matrix (rows, columns) with `step` numbers per column."""
            assert step >= rows, "the leading dimension is below the number of rows"
            flat = _at(pointer, step * (columns - 1) + rows, kind)
            size = flat.itemsize
            return np.lib.stride_tricks.as_strided(flat, (rows, columns), (size, step * size))

        def call() -> None:
            left = matrix(a, *((k, m) if ta else (m, k)), lda, _TYPES[a_type])
            right = matrix(b, *((n, k) if tb else (k, n)), ldb, _TYPES[b_type])
            left, right = (x.astype(number) for x in (left, right))
            with np.errstate(all="ignore"):  # hardware does not warn
                product = alpha * ((left.T if ta else left) @ (right.T if tb else right))
                out = matrix(c, m, n, ldc, _TYPES[c_type])
                if beta:
                    product += beta * out.astype(number)
                out[...] = product.astype(out.dtype)

        machine.launches += current_stream()._queue.captured is None
        machine.submit(current_stream()._queue, call)

    # -------------------------------------------------------------------------- the module

    def properties(index: int) -> dict:
        memory = machine.memory[index]
        return {
            "name": machine.names[index].encode(), "major": 9, "minor": 0, "totalGlobalMem": memory,
            "multiProcessorCount": 2, "l2CacheSize": 0,
        }

    module = types.ModuleType("cupy")
    module.__version__ = "0-stand-in"
    module.machine = machine
    module.ndarray = ndarray
    module.RawModule = RawModule
    module.empty = lambda shape, dtype=float: ndarray(shape, dtype)
    module.reshape = lambda x, shape: x.reshape(shape)
    module.get_default_memory_pool = lambda: types.SimpleNamespace(
        total_bytes=lambda: machine.used[state.device],
        get_limit=lambda: 0,
        malloc=from_default_pool,
        free_all_blocks=lambda: None,
    )
    cuda = module.cuda = types.ModuleType("cupy.cuda")
    cuda.nvrtc = nvrtc
    cuda.Device, cuda.Stream, cuda.Event = Device, Stream, Event
    cuda.MemoryPointer, cuda.Memory = MemoryPointer, memory
    cuda.get_current_stream = current_stream
    cuda.is_available = lambda: False  # so that "auto" does not choose it
    cuda.cublas = types.SimpleNamespace(gemmEx=gemmEx)
    cuda.device = types.SimpleNamespace(get_cublas_handle=lambda: state.device + 1)
    cuda.MemoryPool, cuda.using_allocator = MemoryPool, using_allocator
    cuda.alloc, cuda.alloc_pinned_memory = _allocate, machine.pinned
    module.libcublas = CUBLAS()
    cuda.memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cuda.runtime = types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=lambda: machine.devices,
        getDeviceProperties=properties,
        deviceGetPCIBusId=lambda device: f"0000:{device:02x}:00.0",
        runtimeGetVersion=lambda: 0,
        driverGetVersion=lambda: 0,
        deviceCanAccessPeer=lambda a, b: 1,
        memoryTypeHost=1,
        pointerGetAttributes=lambda address: types.SimpleNamespace(
            type=int(machine.is_pinned(address, 1))
        ),
        memGetInfo=lambda: (
            machine.memory[state.device] - machine.used[state.device],
            machine.memory[state.device],
        ),
    )
    return module
