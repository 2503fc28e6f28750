"""A training step as one CUDA graph: what changes between steps, and one launch for the rest.

host     pinned[0], pinned[1]     filled in turn, while the other is still being read,
   |                              except with arrays in pinned memory (the loader's images)
   |        copied concurrently with the device's work
device   slots[0], slots[1]
   |        copied in the order of the device's work
device   inputs   <- read by the captured kernels, always at the same addresses
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from minialex.backends.cuda import cublas
from minialex.backends.cuda.device import library
from minialex.backends.cuda.device_stream import DeviceStream, OwnPool, is_pinned

_ALIGNED = 256  # bytes


@dataclass(frozen=True)
class Field:
    """One array of a step's inputs."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        size = prod(self.shape) * np.dtype(self.dtype).itemsize
        return size + -size % _ALIGNED


class Inputs:
    """The inputs of a captured step that the host updates: arrays at fixed addresses."""

    def __init__(self, stream: DeviceStream, fields: Mapping[str, Field]):
        cuda, size = library().cuda, sum(field.bytes for field in fields.values())
        self._stream, self._turn = stream, 0
        with stream.device_context():
            self._copying = cuda.Stream(non_blocking=True)
            self._pinned = [cuda.alloc_pinned_memory(size) for _ in range(2)]
            # the fields are padded, and whole slots are copied: no byte of them is undefined
            self._slots = [stream.zeros((size,), np.uint8) for _ in range(2)]
            self._whole = stream.empty((size,), np.uint8)
            self._free: list[Any] = [None, None]  # when a slot may be filled again
            self._copied: list[Any] = [None, None]  # when a pinned block may be filled again
            self._sources: list[list[Any]] = [[], []]  # arrays of others, until then
        self.arrays: dict[str, Any] = {}
        self._hosts: list[dict[str, np.ndarray]] = [{}, {}]
        self._starts: dict[str, int] = {}
        start = 0
        for name, field in fields.items():
            kind = np.dtype(field.dtype)
            pointer = self._whole.data + start
            self.arrays[name] = library().ndarray(field.shape, kind, pointer)
            for host, pinned in zip(self._hosts, self._pinned, strict=True):
                flat = np.frombuffer(pinned, kind, prod(field.shape), start)
                host[name] = flat.reshape(field.shape)
            self._starts[name] = start
            start += field.bytes

    def give(self, values: Mapping[str, Any]) -> None:
        """Make later work of the stream see these values in `arrays`; the host does not wait."""
        turn, self._turn = self._turn, 1 - self._turn
        if self._copied[turn] is not None:
            self._copied[turn].synchronize()  # of two steps ago
        pieces = self._pieces(turn, values)
        slot, size = self._slots[turn], self._whole.nbytes
        with self._stream.device_context():
            main = library().cuda.get_current_stream()
            if self._free[turn] is None:
                self._free[turn] = main.record()  # the slots' memory may have been used before
            self._copying.wait_event(self._free[turn])
            for start, address, length in pieces:
                (slot.data + start).copy_from_host_async(address, length, self._copying)
            self._copied[turn] = self._copying.record()
            main.wait_event(self._copied[turn])
            self._whole.data.copy_from_device_async(slot.data, size)
            self._free[turn] = main.record()

    def _pieces(self, turn: int, values: Mapping[str, Any]) -> list[tuple[int, int, int]]:
        """Fill the pinned block; what to copy, as (position, host address, bytes).

        Neighbours in the block are one piece.
        """
        block = np.frombuffer(self._pinned[turn], np.uint8).ctypes.data
        pieces: list[tuple[int, int, int]] = []
        self._sources[turn] = []
        for name, host in self._hosts[turn].items():
            start, value = self._starts[name], values[name]
            if is_pinned(value):
                self._sources[turn].append(value)
                pieces.append((start, value.ctypes.data, value.nbytes))
                continue
            host[...] = value
            piece = (start, block + start, host.nbytes)
            if pieces and pieces[-1][1] == block + pieces[-1][0]:
                first = pieces.pop()[0]
                piece = (first, block + first, start + host.nbytes - first)
            pieces.append(piece)
        return pieces


class _Captured(OwnPool):
    """A graph, what it needs to live, and its memory on `devices`.

    CuPy's pools do not return memory when they are dropped, only when they are told to, and when
    a device has no more: then they return what is not in use, and try again.
    """

    def __init__(self, devices: set[int]):
        self.lacked: list[int] = []  # bytes that a device did not have
        super().__init__(_noting(self.lacked))
        self.graph: Any = None
        self.kept: Any = None
        self._devices = devices

    def release(self) -> None:
        self.graph = self.kept = None
        for device in self._devices:
            with library().cuda.Device(device):
                self.pool.free_all_blocks()


def _noting(lacked: list[int]) -> Callable[[int], Any]:
    """An allocator for a pool that notes the sizes which a device does not have."""

    def allocate(size: int) -> Any:
        cuda = library().cuda
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError:
            lacked.append(size)
            raise

    return allocate


class Recording:
    """`body`, a function of device arrays only: run once directly, then captured, then replayed.

    Its memory comes from its own pool, which nothing else uses while the graph lives: the captured
    run takes what the first run freed, and every replay writes there again. What `body` returns is
    kept as long as the graph, and so is what one stream reads of another's memory in it.

    `stream` launches the graph; with `others`, all are separate streams. Those in `ending` wait for
    `stream` before `body`, and it waits for them afterwards; `body` has to do the same with the
    rest, as an all-reduce does with its streams.
    """

    def __init__(
        self,
        stream: DeviceStream,
        body: Callable[[], Any],
        others: Sequence[DeviceStream] = (),
        ending: Sequence[DeviceStream] = (),
    ):
        self._stream, self._body = stream, body
        self._others, self._ending = tuple(others), tuple(ending)
        self._capturing = stream.own
        if stream.own is None:
            with stream.device_context():
                self._capturing = library().cuda.Stream(non_blocking=True)
                cublas.share_scratch(self._capturing.ptr, library().cuda.get_current_stream().ptr)
            forget = weakref.finalize(self, cublas.forget, stream.device, self._capturing.ptr)
            forget.atexit = False
        self._captured = _Captured({one.device for one in (stream, *self._others)})
        weakref.finalize(self, self._captured.release).atexit = False
        self._has_run = False

    def run(self) -> None:
        """Do the work of `body` in stream order."""
        if not self._has_run or not self._captured_by_now():
            self._run_directly()
        else:
            self._join()
            with self._stream.device_context():
                self._captured.graph.launch(library().cuda.get_current_stream())
            self._fork()
        self._has_run = True

    def _run_directly(self) -> None:
        """Compiles kernels, fills the pool."""
        self._stream.wait_on(self._capturing)
        kept = self._inside(self._body)
        self._stream.wait_for(self._capturing)
        for stream in (self._stream, *self._others):
            stream.synchronize()
        del kept
        self._stream.wait_for(self._capturing)  # as above, for what was just freed
        for stream in self._others:
            self._stream.wait(stream.record())

    def _captured_by_now(self) -> bool:
        """Capture the graph unless there is one; whether there is.

        There is none where memory ran out during the capture: the pool has then returned blocks to
        which earlier parts of the graph write. The next step tries again.
        """
        captured = self._captured
        if captured.graph is None:
            captured.lacked.clear()
            captured.graph = self._inside(self._capture)
            if captured.lacked:
                captured.graph = captured.kept = None
        return captured.graph is not None

    def _capture(self) -> Any:
        streams = (self._stream, *self._others)
        self._capturing.begin_capture()
        try:
            for stream in streams:
                stream.kept = []
            self._fork()
            body = self._body()
            self._join()
            self._captured.kept = body, [stream.kept for stream in streams]
        except BaseException:
            # the failure may have made the capture invalid: ending it then fails too
            with suppress(library().cuda.runtime.CUDARuntimeError):
                self._capturing.end_capture()
            raise
        finally:
            for stream in streams:
                stream.kept = None
        return self._capturing.end_capture()

    def _fork(self) -> None:
        """Let the other streams go on after the first's work so far."""
        for stream in self._ending:
            stream.wait(self._stream.record())

    def _join(self) -> None:
        for stream in self._ending:
            self._stream.wait(stream.record())

    def _inside(self, work: Callable[[], Any]) -> Any:
        cuda = library().cuda
        with (
            self._stream.device_context(),
            cuda.using_allocator(self._captured.pool.malloc),
            self._capturing,
        ):
            return work()


class Ring:
    """The numbers of the last steps, on the device and, a little later, in host memory.

    A step has `losses` of them, one for each device that computes a part, and with loss scaling the
    scale of the next step, the good steps before it and all skipped ones. `halted` is 1 once a loss
    was not finite.
    """

    def __init__(self, stream: DeviceStream, dtype: str, losses: int = 1, size: int = 64):
        self._stream, self.losses, self.size = stream, losses, size
        self.columns = losses + 3
        self.numbers = stream.zeros((size, self.columns), dtype)
        self.halted = stream.zeros((1,), np.int32)
        kind = np.dtype(dtype)
        self._pinned = library().cuda.alloc_pinned_memory(size * self.columns * kind.itemsize)
        flat = np.frombuffer(self._pinned, kind, size * self.columns)
        self._host = flat.reshape(size, self.columns)

    def fetch(self, step: int) -> tuple[Any, Callable[[], list[float]]]:
        """An event after which the numbers of `step` are on the host, and a function to read them.

        First its losses, in the order of the devices.
        """
        slot, size = step % self.size, self._host.strides[0]
        with self._stream.device_context():
            stream = library().cuda.get_current_stream()
            source = self.numbers.data + slot * size
            source.copy_to_host_async(self._host.ctypes.data + slot * size, size, stream)
            event = stream.record()
        return event, lambda: self._host[slot].tolist()


@dataclass(frozen=True)
class Guard:
    """What an update of a captured step reads: nothing changes if `stopped` is not 0.

    Gradients are multiplied by the number `factor` (None: 1), and `row` is the row of the step's
    changing numbers (None: the first). All are on the device.
    """

    stopped: Any
    factor: Any = None
    row: Any = None


class Scaling:
    """Dynamic loss scaling on one device, as `LossScale.after` does it on the host."""

    def __init__(self, stream: DeviceStream, dtype: str):
        self._stream = stream
        # the scale, the good steps, 1 / the last scale, the skipped steps, and of those the ones
        # that the host does not know of
        self.numbers = stream.zeros((5,), dtype)
        self.flags = stream.zeros((2,), np.int32)  # an overflow; whether the update is left out

    @property
    def scale(self) -> Any:
        """The scale of the next step, an array of one number."""
        return self.numbers[:1]

    @property
    def overflow(self) -> Any:
        """Not 0 if a gradient is not finite; set back before each step."""
        return self.flags[:1]

    @property
    def guard(self) -> Guard:
        """For the update."""
        return Guard(self.flags[1:], self.numbers[2:], self.numbers[4:])

    def reset(self) -> None:
        """No overflow so far."""
        with self._stream.device_context():
            self.flags.data.memset_async(0, self.flags.nbytes)

    def put(self, scale: float, good_steps: int, skipped: int) -> None:
        """Set them from the host."""
        numbers = [scale, good_steps, 1 / scale, skipped, 0]
        with self._stream.device_context():
            self.numbers.set(np.array(numbers, self.numbers.dtype))
