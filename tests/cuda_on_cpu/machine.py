"""The machine behind the stand-in: devices with memory, streams that run late, and events.

Work given to a stream is only queued. It runs when the host waits for something, and then in an
order drawn at random among all that streams and events allow. So a wait that is missing shows as a
wrong number, as it might one day on a GPU.

Memory is CuPy's pool: a freed block goes back to the stream it was allocated on and may be reused
there at once. Here it is overwritten first, in that stream's order, so that another stream which
still reads it reads NaN. Fresh memory holds NaN too, and a rim around each block is checked for
writes that go astray.
"""

import ctypes
import random
from collections import defaultdict, deque
from dataclasses import dataclass, field

import numpy as np

POISON = 0xFF  # of this byte repeated, every float type makes NaN
_RIM = 512

# AddressSanitizer, where the tests run under it (see test_address_sanitizer.py), guards the rims
_ASAN = ctypes.CDLL(None) if hasattr(ctypes.CDLL(None), "__asan_poison_memory_region") else None


def _guard(memory: np.ndarray, forbidden: bool) -> None:
    if _ASAN is not None and memory.size:
        name = f"__asan_{'' if forbidden else 'un'}poison_memory_region"
        use = getattr(_ASAN, name)
        use(ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.size))


class OutOfMemory(Exception):
    """size and limit in bytes."""


@dataclass
class Marker:
    """A place in a stream's order."""

    done: bool = False


@dataclass
class Queue:
    """One stream's work, in order: (action or None, marker to wait for or None, marker reached)."""

    device: int
    work: deque = field(default_factory=deque)
    captured: list | None = None  # what a graph is made of, while one is


class Block:
    """A piece of device memory; gives itself back when nothing refers to it any more."""

    def __init__(
        self, machine: "Machine", device: int, queue: Queue, size: int, whole: np.ndarray, pool
    ):
        self.machine, self.device, self.queue, self.size = machine, device, queue, size
        self.pool, self.graph = pool, queue.captured
        self.whole, self.counted_only = whole, machine.dry
        self.memory = whole[_RIM : _RIM + size]
        self.pointer = self.memory.ctypes.data if size else whole.ctypes.data + _RIM

    def __del__(self):
        self.machine.free(self)


class Machine:
    """`devices` of them; `memory` bytes each. All that happens here is deterministic in `seed`."""

    def __init__(self, devices: int = 2, memory: int = 8 << 30):
        self.devices = devices
        self.memory = [memory] * devices
        self.names = [f"Stand-in {i}" for i in range(devices)]
        self.dry = False  # allocate and count, but compute nothing
        self.random = random.Random(0)
        self.queues: list[Queue] = []
        self.used: dict[int, int] = defaultdict(int)
        self.peak: dict[int, int] = defaultdict(int)
        self.to_device = self.to_host = self.peer = self.launches = 0  # counts, copies in bytes
        self._free: dict[tuple, list[np.ndarray]] = defaultdict(list)
        self._pinned: list[np.ndarray] = []
        self.handles: list = []  # of streams

    # ------------------------------------------------------------------------------ work

    def queue(self, device: int) -> Queue:
        made = Queue(device)
        self.queues.append(made)
        return made

    def submit(self, queue: Queue, action) -> None:
        if self.dry:
            return
        if queue.captured is not None:
            queue.captured.append(action)
            return
        queue.work.append((action, None, None))
        if self.random.random() < 0.05:  # a device does not wait until it is asked
            for _ in range(self.random.randrange(8)):
                self._advance()

    def replay(self, queue: Queue, actions: list) -> None:
        """Give a queue the work of a graph."""
        assert queue.captured is None
        if not self.dry:
            queue.work.extend((action, None, None) for action in actions)

    def record(self, queue: Queue) -> Marker:
        marker = Marker(done=self.dry)
        queue.work.append((None, None, marker))
        return marker

    def wait(self, queue: Queue, marker: Marker) -> None:
        queue.work.append((None, marker, None))

    def finish(self, done) -> None:
        """Run until `done()`."""
        while not done():
            if not self._advance():
                raise RuntimeError("the streams wait for each other")

    def drain(self) -> None:
        while self._advance():
            pass

    def _advance(self) -> bool:
        ready = [q for q in self.queues if q.work and (q.work[0][1] is None or q.work[0][1].done)]
        if not ready:
            return False
        action, _, marker = self.random.choice(ready).work.popleft()
        if action is not None:
            action()
        if marker is not None:
            marker.done = True
        return True

    # ------------------------------------------------------------------------------ memory

    def pinned(self, size: int) -> np.ndarray:
        """Memory of the host that copies run from and to beside other work."""
        whole = np.full(size, POISON, np.uint8)
        self._pinned.append(whole)
        return whole

    def is_pinned(self, address: int, size: int) -> bool:
        starts = [(x.ctypes.data, x.ctypes.data + x.size) for x in self._pinned]
        return any(low <= address and address + size <= high for low, high in starts)

    def allocate(self, device: int, queue: Queue, size: int, pool=None) -> Block:
        rounded = max(512, -(-size // 512) * 512)
        if self.used[device] + rounded > self.memory[device]:
            raise OutOfMemory(size, self.memory[device])
        self.used[device] += rounded
        self.peak[device] = max(self.peak[device], self.used[device])
        kept = self._free[pool, id(queue), rounded]
        whole = kept.pop() if kept else np.empty(rounded + 2 * _RIM, np.uint8)
        block = Block(self, device, queue, size, whole, pool)

        def prepare() -> None:
            _guard(whole, False)
            whole.fill(POISON)
            _guard(whole[:_RIM], True)
            _guard(whole[_RIM + size :], True)

        if queue.captured is not None and not self.dry:
            queue.captured.append(prepare)  # a replay finds what others left, and writes NaN too
        elif not self.dry:
            queue.work.append((prepare, None, None))
        return block

    def free(self, block: Block) -> None:
        rounded = len(block.whole) - 2 * _RIM  # what the pool counts
        self.used[block.device] -= rounded
        if block.counted_only:
            return
        whole = block.whole

        def retire() -> None:
            assert (whole[:_RIM] == POISON).all(), "a kernel wrote before its array"
            end = _RIM + block_size
            assert (whole[end:] == POISON).all(), "a kernel wrote behind its array"
            whole[_RIM:end] = POISON

        block_size = block.size
        if block.graph is not None and block.graph is block.queue.captured:
            block.graph.append(retire)
        else:
            block.queue.work.append((retire, None, None))
        self._free[block.pool, id(block.queue), rounded].append(whole)
