"""A caching allocator: page faults on fresh memory cost more than the computation in it.

It returns ordinary NumPy arrays; when the last view of one is gone, its block is kept for the next
array of about the same size.
"""

import mmap
import threading
import weakref
from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt

_SMALL = 1 << 16  # bytes below which NumPy's own allocation is as good
_LATELY = 1000  # arrays over which the peak is taken
_STEPS = 8  # block sizes per doubling: at most an eighth of a block is unused


class Memory:
    """Used and free blocks, in total at most `slack` times the recent peak of those in use.

    The peak is over the last one to two thousand arrays, so memory is freed after training.
    """

    def __init__(self, slack: float = 2.0):
        self.slack = slack  # limits how much larger than needed a block may be
        self.used = self.free = 0  # bytes
        self._most = self._most_before = 0  # bytes, in this thousand and in the last
        self._taken = 0
        self._blocks: list[tuple[int, mmap.mmap]] = []  # longest free first
        self._lock = threading.RLock()  # a finalizer may run while it is held

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> np.ndarray:
        """An uninitialised array."""
        kind, count = np.dtype(dtype), prod(shape)
        if count * kind.itemsize < _SMALL:
            return np.empty(shape, kind)
        size, block = self._take(_rounded(count * kind.itemsize))
        array = np.frombuffer(block, kind, count)
        weakref.finalize(array, self._give_back, size, block).atexit = False
        return array.reshape(shape)

    @property
    def most(self) -> int:
        """The recent peak of bytes in use."""
        return max(self._most, self._most_before)

    def _take(self, size: int) -> tuple[int, mmap.mmap]:
        """The smallest free block of `size` to twice `size` bytes, or a new one."""
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
        """A new block from the system; frees the cached blocks if there is no memory left."""
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
    """A new block from the system, in huge pages if the system has them."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, size)
    # private: shared memory has no huge pages, and a forked process would write into ours
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _rounded(size: int) -> int:
    """The next block size up: there are eight sizes per doubling."""
    step = (1 << (size.bit_length() - 1)) // _STEPS
    return -(-size // step) * step


MEMORY = Memory()  # one per process
