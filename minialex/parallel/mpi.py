"""Ranks connected by MPI, through mpi4py."""

import pickle
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn, TypeVar

import numpy as np

from minialex.errors import InputError, TrainingError
from minialex.parallel.exchange import Exchange
from minialex.parallel.world import World, threads_of_share
from minialex.utils.cores import core_numbers, usable_cores

T = TypeVar("T")
_SPIN = 0.0005  # seconds of waiting without a pause
_PAUSE = 0.0002  # seconds between looks after that
_TOGETHER = 3.0  # seconds in which ranks that fail of one cause all do
_SENTENCE = 2000  # bytes of an error that ranks tell each other


@cache
def open_mpi(count: int) -> World:
    """The world of the `count` processes that a launcher started."""
    from mpi4py import MPI

    found = MPI.COMM_WORLD.Get_size()
    if found != count:
        library = MPI.Get_library_version().split(",")[0].split("\n")[0].strip("\x00 ")
        raise InputError(
            f"the launcher started {count} processes, but MPI connects only {found}: mpi4py uses "
            f"{library} here, so start them with the mpirun of that MPI"
        )
    return MPIWorld(MPI)


class MPIWorld(World):
    """The ranks of MPI's world. Waiting never blocks inside MPI."""

    launched = True

    def __init__(self, mpi: Any):
        self.mpi = mpi
        self._world, self._failures, self._scatter, self._gather = (
            mpi.COMM_WORLD.Dup() for _ in range(4)
        )
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        self.seconds_waited = 0.0
        about = self.gather((socket.gethostname(), core_numbers(), usable_cores()))
        self.hosts = [host for host, *_ in about]
        here = [i for i, host in enumerate(self.hosts) if host == self.hosts[self.rank]]
        self.host, self.node_rank = self.hosts[self.rank], here.index(self.rank)
        self.threads = threads_of_share(self.node_rank, [about[i][1:] for i in here])

    # ------------------------------------------------------------------------------ the ranks

    def name_of(self, rank: int) -> str:
        return f"rank {rank} on {self.hosts[rank]}"

    def describe(self) -> str:
        machines = len(set(self.hosts))
        plural = "s" * (machines != 1)
        return f"{self.size} on {machines} machine{plural}"

    # ------------------------------------------------------------------------------ exchanges

    def gather(self, value: T) -> list[T]:
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = self.gather_numbers(np.array([len(data)], np.float64)).astype(int)[:, 0]
        found = np.empty(lengths.sum(), np.uint8)
        self.wait(self._world.Iallgatherv(data, [found, lengths.tolist()]))
        return [pickle.loads(part.tobytes()) for part in np.split(found, np.cumsum(lengths)[:-1])]

    def gather_numbers(self, values: np.ndarray) -> np.ndarray:
        values = np.ascontiguousarray(values, np.float64)
        found = np.empty((self.size, len(values)))
        self.wait(self._world.Iallgather(values, found))
        return found

    def first_does(self, work: Callable[[], T]) -> T:
        result: tuple[bool, Any] = (True, None)
        if self.first:
            try:
                result = True, work()
            except (InputError, TrainingError, OSError) as error:
                result = False, error
        data = (
            np.frombuffer(pickle.dumps(result), np.uint8) if self.first else np.zeros(0, np.uint8)
        )
        length = np.array([len(data)], np.int64)
        self.wait(self._world.Ibcast(length, root=0))
        data = data.copy() if self.first else np.empty(int(length[0]), np.uint8)
        self.wait(self._world.Ibcast(data, root=0))
        done, value = result if self.first else pickle.loads(data.tobytes())
        if done:
            return value
        raise value

    def exchange(
        self, shapes: dict[str, dict[str, tuple[int, ...]]], dtype: str, count: int
    ) -> Exchange:
        return Exchange(self, self._scatter, self._gather, shapes, dtype, count)

    def wait(self, request: Any) -> None:
        """Wait for a request of MPI."""
        self.wait_until(request.Test)

    def wait_until(self, done: Callable[[], bool]) -> None:
        start = time.perf_counter()
        while not done():
            if time.perf_counter() - start > _SPIN:
                time.sleep(_PAUSE)
        self.seconds_waited += time.perf_counter() - start

    # ------------------------------------------------------------------------------ errors

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        try:
            yield
        except SystemExit:
            raise
        except BaseException as error:
            if self.size > 1:
                self._end(error)
            raise

    def _end(self, error: BaseException) -> None:
        """Return on the first rank if all failed of one cause; else end this process, or all."""
        known = isinstance(error, (InputError, TrainingError, OSError, KeyboardInterrupt))
        code = 1 if isinstance(error, TrainingError) else 2
        text = str(error) or type(error).__name__
        if not known:
            text = "".join(traceback.format_exception(error))
        own = np.zeros(_SENTENCE, np.uint8)
        cut = text.encode()[:_SENTENCE]
        own[: len(cut)] = np.frombuffer(cut, np.uint8)
        all_of_them = np.empty((self.size, _SENTENCE), np.uint8)
        request = self._failures.Iallgather(own, all_of_them)
        until = time.monotonic() + _TOGETHER
        while not (together := request.Test()) and time.monotonic() < until:
            time.sleep(0.01)
        if together and self.first:
            return
        if not together or not (all_of_them[0] == own).all():
            print(
                f"minialex: error: {self.name_of(self.rank)}: {text}", file=sys.stderr, flush=True
            )
        if together:
            raise SystemExit(code) from None
        self._abort(code)

    def _abort(self, code: int) -> NoReturn:
        self.mpi.COMM_WORLD.Abort(code)
        raise SystemExit(code)
