"""Threads that help with short kernels, and are never waited for before they have begun.

The threads of a parallel loop (`prange`) meet at its end, whether they had anything to do or not.
On a machine with other work, each loop then takes as long as the system takes to give every thread
a core: for the 20 short loops of a single image, several times the time of the work. Here, helpers
are offered the kernel while the calling thread already works on it; who comes late finds nothing
left. What is waited for is only items that another thread has claimed and not finished.

A kernel for a team is compiled without `prange` and takes (job, ...). It consists of phases; in
each, the workers claim items until none is left, then wait for all to be finished:

    begin(job)
    item = claim_item(job.counts[0])
    while item < items:
        ...
        finish_item(job.counts[0])
        item = claim_item(job.counts[0])
    await_all(job.counts[0], items)
    await_next(job)

Each item is computed in the same way whichever thread claims it. `job.worker`, 0 … threads - 1,
tells the threads apart, for memory of their own.

A sleeping thread takes longer to wake than a short kernel takes, and so does one that waits for
Python's lock. Therefore a helper that has finished stays in compiled code, awake, until the caller
is in the next kernel and has released the lock. So long it holds the arrays of its kernel: their
memory is free again one kernel later.

Nothing between `claim_item` and `finish_item` may raise, or the other workers would wait for ever
for the item. Memory, which may be lacking, is therefore allocated by the caller and not by the
kernel.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from minialex.backends.numba.claims import add_one
from minialex.utils.jit import compiled

_SPINS = 500  # before giving up the core, some microseconds
_AWAKE = 1000  # how often a helper gives up its core before it sleeps, for about half a millisecond
_FIRST = 5  # calls that compare both ways: one that may compile, then two of each
_EVERY = 16  # of the calls after that, one goes the slower way, in case it no longer is
_WEIGHT = 0.3  # of the last time in the mean, which so follows about three calls
_CAP = 2  # how many times the mean one time counts at most: a single slow call proves nothing
_REMEMBERED = 500  # kernels with their shapes: many times those of a network
_PHASES = 4  # of a kernel, at most; with more, it does not compile
_LINE = 8  # numbers of a cache line: each phase has its own


class Job(NamedTuple):
    """A kernel's work as one worker sees it."""

    counts: tuple[np.ndarray, ...]  # claimed and finished items of each phase
    bell: np.ndarray  # int64 (1,): the last call that has begun
    call: int  # this one, counted from 1
    worker: int  # 0: the caller


class Team:
    """A process's helpers, started when they are first needed.

    Help does not always pay: a helper without a core of its own keeps the others waiting for the
    item that it has claimed. So each kernel's times with and without are remembered.
    """

    def __init__(self) -> None:
        self._queues: list[SimpleQueue] = []
        self._paces: dict[Any, _Pace] = {}
        self._bell, self._calls = np.zeros(1, np.int64), 0

    def run(self, kernel: Callable[..., None], threads: int, *arguments: Any) -> None:
        """The kernel on the calling thread, helped by at most `threads` - 1 others."""
        pace = self._pace(kernel, threads, arguments)
        helped = threads > 1 and pace.helped()
        start = time.perf_counter()
        self._run(kernel, threads if helped else 1, arguments)
        pace.took(time.perf_counter() - start, helped)

    def _pace(self, kernel: Callable[..., None], threads: int, arguments: tuple) -> "_Pace":
        kinds = ((a.shape, a.dtype) for a in arguments if isinstance(a, np.ndarray))
        key = (kernel, threads, *kinds)
        if key not in self._paces and len(self._paces) >= _REMEMBERED:
            self._paces.pop(next(iter(self._paces)))  # the oldest
        return self._paces.setdefault(key, _Pace())

    def _run(self, kernel: Callable[..., None], threads: int, arguments: tuple) -> None:
        with suppress(RuntimeError):  # the system may allow no more threads
            while len(self._queues) < threads - 1:
                self._start()
        self._calls += threads > 1  # helpers who are not needed wait on
        counts = tuple(np.zeros((_PHASES, 2 * _LINE), np.int64))  # whose length is compiled in
        job = Job(counts, self._bell, self._calls, 0)
        offers: list[list] = []
        try:
            for worker, queue in enumerate(self._queues[: threads - 1], 1):
                offers.append([(kernel, (job._replace(worker=worker), *arguments))])
                queue.put(offers[-1])
            kernel(job, *arguments)
        finally:
            for offer in offers:
                offer.clear()  # too late to begin

    def _start(self) -> None:
        queue = SimpleQueue[list]()
        name = f"minialex helper {len(self._queues) + 1}"
        threading.Thread(target=_help, args=(queue,), name=name, daemon=True).start()
        self._queues.append(queue)


class _Pace:
    """Recent times of a kernel, alone and helped, and which of the two is next."""

    def __init__(self) -> None:
        self._calls = 0
        self._means = [0.0, 0.0]

    def helped(self) -> bool:
        """The faster way; the other one now and then."""
        self._calls += 1
        if self._calls <= _FIRST:  # the very first one compiles
            return self._calls % 2 == 1
        faster = self._means[1] <= self._means[0]
        return faster if self._calls % _EVERY else not faster

    def took(self, seconds: float, helped: bool) -> None:
        """Note the time that a call has taken."""
        if self._calls == 1:
            return
        before = self._means[helped] or seconds
        if self._calls <= _FIRST:
            self._means[helped] = min(before, seconds)
        else:
            seconds = min(seconds, _CAP * before)
            self._means[helped] = before + _WEIGHT * (seconds - before)


def _help(queue: SimpleQueue) -> None:
    while True:
        _accept(queue.get())


def _accept(offer: list) -> None:
    """Run the kernel that is offered; nothing is left of an offer that came too late.

    What a helper cannot do, the caller does, or raises the error itself.
    """
    with suppress(Exception):
        kernel, arguments = offer.pop()
        kernel(*arguments)


def _read(typing_context: Any, counts: Any, place: Any) -> Any:
    """counts[place], as other threads have left it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(builder.gep(array.data, [arguments[1]]), "seq_cst", 8)

    return types.int64(counts, types.int64), generate


_current: Any = intrinsic(_read)


@compiled
def begin(job):
    """To be called first: the caller tells the helpers that it has begun."""
    if job.worker == 0:
        job.bell[0] = job.call


@compiled
def claim_item(counts):
    """The next item of the phase with these counts (2 * _LINE,)."""
    return add_one(counts, 0)


@compiled
def finish_item(counts):
    """Count a claimed item as finished."""
    add_one(counts, _LINE)


_YIELD = "SwitchToThread" if os.name == "nt" else "sched_yield"  # of the system's C library
_yield = types.ExternalFunction(_YIELD, types.int32())


@compiled
def await_all(counts, items):
    """Wait until all items are finished; a thread that computes one may need this one's core."""
    tries = 0
    while _current(counts, _LINE) < items:
        tries += 1
        if tries > _SPINS:
            _yield()


@compiled
def await_next(job):
    """To be called last: a helper waits for the caller's next kernel; -> whether it began."""
    tries = 0
    while job.worker > 0 and tries < _AWAKE and _current(job.bell, 0) == job.call:
        tries += 1
        _yield()
    return _current(job.bell, 0) != job.call


TEAM = Team()  # one per process
