"""The machine behind the stand-in: devices with memory, streams that run late, and events.

Work given to a stream is only queued. It runs when the host waits for something, in an order drawn
at random from all that streams and events allow. So a missing wait shows as a wrong number, as it
might one day on a GPU.

Memory is CuPy's pool: a freed block goes back to the stream it was allocated on and may be reused
there at once. Here it is overwritten first, in that stream's order, so that another stream that
still reads it gets NaN. Fresh memory is NaN too, and a margin around each block is checked for
stray writes.
"""

import ctypes
import random
import weakref
from collections import defaultdict, deque
from dataclasses import dataclass, field

import numpy as np

POISON = 0xFF  # repeated, this byte is NaN in every float type
_RIM = 512
_ALIGNED = 512  # bytes, as arrays of CuPy's pools

# AddressSanitizer guards the margins if the tests run under it
_ASAN = ctypes.CDLL(None) if hasattr(ctypes.CDLL(None), "__asan_poison_memory_region") else None


def _guard(memory: np.ndarray, forbidden: bool) -> None:
    if _ASAN is not None and memory.size:
        name = f"__asan_{'' if forbidden else 'un'}poison_memory_region"
        use = getattr(_ASAN, name)
        use(ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.size))


def _aligned(size: int) -> np.ndarray:
    memory = np.empty(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size]


class OutOfMemory(Exception):
    """size and limit in bytes."""


@dataclass
class Marker:
    """A position in a stream's order; in a capture, with how much of each stream is before it."""

    done: bool = False
    capture: "Capture | None" = None
    clock: dict = field(default_factory=dict)


class CaptureError(Exception):
    """What a capture forbids; the text is CUDA's name for it."""


Entry = tuple  # (action or None, marker to wait for or None, marker reached or None)


class Capture:
    """What a graph is made of: the work of each stream that takes part, in its order."""

    def __init__(self, first: "Queue"):
        self.queues: list[Queue] = []
        self.open, self.invalid = True, False
        self.join(first)

    def join(self, queue: "Queue") -> None:
        queue.capture, queue.captured, queue.clock = self, [], {}
        self.queues.append(queue)

    def end(self) -> list[list[Entry]]:
        """The work of each stream, that of the first in front."""
        first, *others = self.queues
        late = any(q.clock.get(q, 0) > first.clock.get(q, 0) for q in others)
        work = [queue.captured or [] for queue in self.queues]
        for queue in self.queues:
            queue.capture = queue.captured = None
        self.open = False
        if self.invalid:
            raise CaptureError("cudaErrorStreamCaptureInvalidated")
        if late:
            raise CaptureError("cudaErrorStreamCaptureUnjoined")
        return work


class Elsewhere:
    """What a stream waits for and what another process does; `done` tells whether it has."""

    done: bool


@dataclass(eq=False)
class Queue:
    """One stream's work, in order: (action or None, marker to wait for or None, marker reached).

    The machine holds a queue while it has work. Freed blocks stay in `freed` until the stream
    reuses them, and are freed with it.
    """

    device: int
    work: deque = field(default_factory=deque)
    capture: Capture | None = None
    captured: list[Entry] | None = None  # its work in the capture
    clock: dict = field(default_factory=dict)  # how much of each stream's is before later work
    freed: dict[int, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))  # by size


def _rounded(size: int) -> int:
    return max(512, -(-size // 512) * 512)


class Pool:
    """A separate memory pool, by stream and size: freed memory is reused only from this pool."""

    def __init__(self) -> None:
        self.freed: dict[Queue, dict[int, list]] = defaultdict(lambda: defaultdict(list))

    def has(self, queue: Queue, size: int) -> bool:
        """Whether a block of this size is free."""
        return bool(self.freed[queue][_rounded(size)])


class Block:
    """A block of device memory, which is returned when nothing refers to it any more."""

    def __init__(
        self,
        machine: "Machine",
        device: int,
        queue: Queue,
        size: int,
        whole: np.ndarray,
        freed: list,
    ):
        self.machine, self.device, self.queue, self.size = machine, device, queue, size
        self.freed, self.graph = freed, queue.captured
        self.whole, self.counted_only = whole, machine.dry
        self.memory = whole[_RIM : _RIM + size]
        self.pointer = self.memory.ctypes.data if size else whole.ctypes.data + _RIM

    def __del__(self):
        self.machine.free(self)


class Machine:
    """A machine of `devices` with `memory` bytes each; everything is deterministic in `seed`."""

    def __init__(self, devices: int = 2, memory: int = 8 << 30):
        self.devices = devices
        self.memory = [memory] * devices
        self.names = [f"Stand-in {i}" for i in range(devices)]
        self.dry = False  # allocate and count, but compute nothing
        self.random = random.Random(0)
        self._busy: list[Queue] = []  # queues with work
        self.used: dict[int, int] = defaultdict(int)
        self.peak: dict[int, int] = defaultdict(int)
        self.to_device = self.to_host = self.peer = self.launches = 0  # counts, copies in bytes
        self._pinned: dict[int, int] = {}  # sizes, by address
        self._unpinned: dict[int, list[np.ndarray]] = defaultdict(list)  # by size
        self._streams = 0  # how many there were

    # ------------------------------------------------------------------------------ work

    def handle(self) -> int:
        """A new, unique stream number."""
        self._streams += 1
        return self._streams

    def _add(self, queue: Queue, action=None, wait_for=None, reached=None) -> None:
        if not queue.work:
            self._busy.append(queue)
        queue.work.append((action, wait_for, reached))

    def submit(self, queue: Queue, action) -> None:
        if self.dry:
            return
        if queue.captured is not None:
            queue.captured.append((action, None, None))
            queue.clock[queue] = queue.clock.get(queue, 0) + 1
            return
        self._add(queue, action)
        if self.random.random() < 0.05:  # a device does not wait until it is asked
            for _ in range(self.random.randrange(8)):
                self._advance()

    def replay(self, queue: Queue, graph: list[list[Entry]]) -> None:
        """Give a queue the work of a graph; that of other streams gets queues of its own."""
        assert queue.captured is None
        if self.dry:
            return
        start, markers = self.record(queue), dict[int, Marker]()

        def fresh(marker: Marker | None) -> Marker | None:
            return marker and markers.setdefault(id(marker), Marker())

        for i, work in enumerate(graph):
            into = Queue(queue.device) if i else queue
            if i:
                self.wait(into, start)
            for action, wait_for, reached in work:
                self._add(into, action, fresh(wait_for), fresh(reached))
            if i:
                self.wait(queue, self.record(into))
        self._add(queue, lambda: graph and None)  # its memory exists until here

    def record(self, queue: Queue) -> Marker:
        if queue.captured is not None:
            marker = Marker(capture=queue.capture, clock=dict(queue.clock))
            queue.captured.append((None, None, marker))
            return marker
        marker = Marker(done=self.dry)
        self._add(queue, reached=marker)
        return marker

    def wait(self, queue: Queue, marker: Marker) -> None:
        capture = getattr(marker, "capture", None)
        if capture is None and queue.captured is None:
            self._add(queue, wait_for=marker)
            return
        if capture is not None and capture.open and queue.capture is None:
            capture.join(queue)
        if capture is None or capture is not queue.capture:
            if queue.capture is not None:
                queue.capture.invalid = True
            raise CaptureError("cudaErrorStreamCaptureIsolation")
        assert queue.captured is not None
        queue.captured.append((None, marker, None))
        for other, count in marker.clock.items():
            queue.clock[other] = max(count, queue.clock.get(other, 0))

    def finish(self, done) -> None:
        """Run until `done()`."""
        while not done():
            if not self._advance() and not any(
                isinstance(q.work[0][1], Elsewhere) for q in self._busy
            ):
                raise RuntimeError("the streams wait for each other")

    def ask(self, marker: Marker) -> bool:
        """Whether the marker is reached, while the streams go on."""
        self._advance()
        return marker.done

    def drain(self) -> None:
        while self._advance():
            pass

    def _advance(self) -> bool:
        ready = [q for q in self._busy if q.work[0][1] is None or q.work[0][1].done]
        if not ready:
            return False
        queue = self.random.choice(ready)
        action, _, marker = queue.work.popleft()
        if not queue.work:
            self._busy.remove(queue)
        if action is not None:
            action()
        if marker is not None:
            marker.done = True
        return True

    # ------------------------------------------------------------------------------ memory

    def pinned(self, size: int) -> ctypes.Array:
        """Host memory for copies that overlap with other work."""
        freed = self._unpinned[size]
        whole = freed.pop() if freed else np.full(size, POISON, np.uint8)
        # not an array: arrays made of one would refer to `whole` instead
        pinned = (ctypes.c_uint8 * size).from_buffer(whole)
        weakref.finalize(pinned, self._release, whole, whole.ctypes.data).atexit = False
        self._pinned[whole.ctypes.data] = size
        return pinned

    def _release(self, whole: np.ndarray, address: int) -> None:
        """As CuPy's pool: the next array may get this memory at once, so it is overwritten."""
        del self._pinned[address]
        whole.fill(POISON)
        self._unpinned[whole.size].append(whole)

    def is_pinned(self, address: int, size: int) -> bool:
        return any(
            low <= address and address + size <= low + length
            for low, length in list(self._pinned.items())
        )

    def allocate(self, device: int, queue: Queue, size: int, pool: Pool | None = None) -> Block:
        rounded = _rounded(size)
        if self.used[device] + rounded > self.memory[device]:
            raise OutOfMemory(size, self.memory[device])
        self.used[device] += rounded
        self.peak[device] = max(self.peak[device], self.used[device])
        freed = (queue.freed if pool is None else pool.freed[queue])[rounded]
        whole = freed.pop() if freed else _aligned(rounded + 2 * _RIM)
        block = Block(self, device, queue, size, whole, freed)

        def prepare() -> None:
            _guard(whole, False)
            whole.fill(POISON)
            _guard(whole[:_RIM], True)
            _guard(whole[_RIM + size :], True)

        if queue.captured is not None and not self.dry:
            queue.captured.append(
                (prepare, None, None)
            )  # a replay finds what others left, and writes NaN too
        elif not self.dry:
            self._add(queue, prepare)
        return block

    def free(self, block: Block) -> None:
        rounded = len(block.whole) - 2 * _RIM  # what the pool counts
        self.used[block.device] -= rounded
        if block.counted_only:
            return
        captured = block.graph is not None
        if captured and block.graph is not block.queue.captured:
            return  # its graph may still run
        whole = block.whole

        def retire() -> None:
            assert (whole[:_RIM] == POISON).all(), "a kernel wrote before its array"
            end = _RIM + block_size
            assert (whole[end:] == POISON).all(), "a kernel wrote behind its array"
            whole[_RIM:end] = POISON

        block_size = block.size
        if captured:
            block.graph.append((retire, None, None))
        else:
            self._add(block.queue, retire)
        block.freed.append(whole)
