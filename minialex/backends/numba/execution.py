"""Execution with Numba: threads, kernel launches and memory allocation."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import copy
from typing import Any, Self

import numba
import numpy as np

from minialex import precision as precisions
from minialex.backends.numba.team import TEAM
from minialex.backends.numpy.backend import NumpyBackend
from minialex.errors import InputError
from minialex.precision import Precision
from minialex.utils import threads as cpu_threads
from minialex.utils.allocator import MEMORY

FIXED_SHARES = 8  # of work whose sums must not depend on the number of threads
_ONE_AT_A_TIME = threading.Lock()  # each kernel uses all threads, and some pools cannot be shared


def _most_threads() -> int:
    return numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


class NumbaExecution(NumpyBackend):
    """Compiled kernels on `threads` threads (None: the cores this process may use).

    Kernels divide their work into `_shares`, one per thread, and sum the results in order.
    """

    threads: int
    _shares: int
    _inference = False  # whether only the output of a pass is needed
    _process: int | None = None  # the process that has the kernels' threads
    _has_pool = False  # whether that process has started those of parallel loops

    def __init__(self, device: Any = None, threads: int | None = None):
        super().__init__(device)
        self.name = "numba"
        self.threads = self._shares = cpu_threads.choose(threads, _most_threads())

    def with_precision(self, precision: str | Precision) -> Self:
        found = precisions.get(precision)
        if found == self.precision or not found.int8:
            return super().with_precision(found)
        changed = copy(self)
        changed.precision = found
        return changed

    def with_threads(self, threads: int | None) -> Self:
        if threads is None:
            return self
        return type(self)(self.device, threads).with_precision(self.precision)

    def with_fixed_sums(self) -> Self:
        fixed = copy(self)
        fixed._shares = FIXED_SHARES
        return fixed

    def for_inference(self) -> Self:
        found = copy(self)
        found._inference = True
        return found

    def describe(self) -> str:
        return f"on the {self.name} backend, {self.threads} thread{'s' * (self.threads > 1)}"

    def _run(self, kernel, *arguments) -> None:
        """A kernel with parallel loops."""
        if not self._has_pool:
            cpu_threads.load_blas()  # only now: it takes a while, and no kernel for a team uses it
        with self._threads(), nullcontext() if self._has_pool else cpu_threads.short_waits():
            numba.set_num_threads(self.threads)  # applies to the calling Python thread
            NumbaExecution._has_pool = True
            kernel(*arguments)

    def _as_team(self, kernel, *arguments) -> None:
        """A kernel for a team (see team.py)."""
        with self._threads():
            TEAM.run(kernel, self.threads, *arguments)

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """One kernel at a time, in the process that has the threads."""
        NumbaExecution._process = NumbaExecution._process or os.getpid()
        if os.getpid() != NumbaExecution._process:
            raise InputError(
                "this process was forked from one that had used the numba backend, and has none of "
                'its threads: start processes with multiprocessing\'s "spawn", or use "numpy"'
            )
        with _ONE_AT_A_TIME:
            yield

    @staticmethod
    def _new(shape, like) -> np.ndarray:
        """An uninitialised array; `like` is a type, or an array of that type."""
        return MEMORY.empty(shape, like.dtype if isinstance(like, np.ndarray) else like)
