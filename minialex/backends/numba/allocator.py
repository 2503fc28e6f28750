"""Memory that is used again: fresh pages cost more than what is computed in them.

An array from here is an ordinary NumPy array; when the last view of it is gone, its memory waits
for the next array of about its size.
"""

import mmap
import threading
import weakref
from math import prod

import numpy as np

_SMALL = 1 << 20  # bytes below which NumPy's own allocation is as good
_LATELY = 1000  # arrays
_STEPS = 8  # sizes in a doubling: at most an eighth is left unused


class Memory:
    """Blocks in use and free; in all never more than `slack` times what was in use at once.

    "At once" is within the last thousand arrays or two: what training took is given up after it.
    """

    def __init__(self, slack: float = 2.0):
        self.slack = slack  # blocks of another size do not fit
        self.used = self.free = 0  # bytes
        self._most = self._most_before = 0  # in use at once, in this thousand and in the last
        self._taken = 0
        self._blocks: list[tuple[int, mmap.mmap]] = []  # the longest free first
        self._lock = threading.RLock()  # a finalizer may run while it is held

    def empty(self, shape, dtype) -> np.ndarray:
        """An array of this shape with anything in it."""
        kind, count = np.dtype(dtype), prod(shape)
        if count * kind.itemsize < _SMALL:
            return np.empty(shape, kind)
        size, block = self._take(_rounded(count * kind.itemsize))
        array = np.frombuffer(block, kind, count)
        weakref.finalize(array, self._give_back, size, block).atexit = False
        return array.reshape(shape)

    @property
    def most(self) -> int:
        """Bytes that were in use at once, lately."""
        return max(self._most, self._most_before)

    def _take(self, size: int) -> tuple[int, mmap.mmap]:
        """The smallest free block that holds `size`, if it is not more than twice that, or new."""
        with self._lock:
            fitting = [i for i, (s, _) in enumerate(self._blocks) if size <= s <= 2 * size]
            if fitting:
                size, block = self._blocks.pop(min(fitting, key=lambda i: self._blocks[i][0]))
                self.free -= size
            else:
                block = self._mapped(size)
            self.used += size
            self._taken += 1
            if self._taken % _LATELY == 0:
                self._most, self._most_before = 0, self._most
            self._most = max(self._most, self.used)
            while self._blocks and self.used + self.free > self.slack * self.most:
                self.free -= self._blocks.pop(0)[0]
        return size, block

    def _mapped(self, size: int) -> mmap.mmap:
        """New memory from the system, at the cost of what is free if need be."""
        try:
            return _mapped(size)
        except OSError:
            self._blocks.clear()
            self.free = 0
        try:
            return _mapped(size)
        except OSError:
            raise MemoryError(f"{size / 2**20:,.0f} MiB for one array") from None

    def _give_back(self, size: int, block: mmap.mmap) -> None:
        with self._lock:
            self.used -= size
            self.free += size
            self._blocks.append((size, block))


def _mapped(size: int) -> mmap.mmap:
    """New memory from the system, in large pages where there are any."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, size)
    # private: shared memory has no large pages, and a forked process would write into ours
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _rounded(size: int) -> int:
    """The next size of block; sizes are apart by an eighth of the power of two below them."""
    step = (1 << (size.bit_length() - 1)) // _STEPS
    return -(-size // step) * step


MEMORY = Memory()  # of the process, as memory is
