"""Ranks connected by MPI, through mpi4py."""

import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

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


class RanksLost(Exception):
    """An operation failed because some ranks are gone."""


class MPIWorld(World):
    """The ranks of MPI's world. Waiting never blocks inside MPI.

    With `mpirun --with-ft ulfm` (User-Level Failure Mitigation), the survivors of a lost rank go
    on: whatever all ranks do together ends with an agreement whether it worked on all of them.
    """

    launched = True

    def __init__(self, mpi: Any):
        self.mpi = mpi
        self.fault_tolerant = os.environ.get("OMPI_MCA_mpi_ft_enable") == "1"  # noqa: SIM112
        self._lost = {getattr(mpi, name, None) for name in ("ERR_PROC_FAILED", "ERR_REVOKED")}
        self._tell: list[Callable[[str], object]] = []
        self._inside = False
        self._exchanges: list[Exchange] = []  # MPI may still use the memory of those that failed
        self.names: list[str] = []
        self._connect(mpi.COMM_WORLD.Dup())
        about = self.gather((socket.gethostname(), core_numbers(), usable_cores()))
        hosts = [host for host, *_ in about]
        here = [i for i, host in enumerate(hosts) if host == hosts[self.rank]]
        self.host, self.node_rank = hosts[self.rank], here.index(self.rank)
        self.threads = threads_of_share(self.node_rank, [about[i][1:] for i in here])
        self.machines = len(set(hosts))
        self.names = [f"rank {i} on {host}" for i, host in enumerate(hosts)]

    def _connect(self, world: Any) -> None:
        """Use this communicator, and copies for what runs at the same time."""
        self._all = world, *(world.Dup() for _ in range(3))
        for one in self._all:
            one.Set_errhandler(self.mpi.ERRORS_RETURN)
        self._world, self._failures, self._scatter, self._gather = self._all
        self.rank, self.size = world.Get_rank(), world.Get_size()

    # ------------------------------------------------------------------------------ the ranks

    def name_of(self, rank: int) -> str:
        return self.names[rank]

    def describe(self) -> str:
        plural = "s" * (self.machines != 1)
        going_on = ", which go on if some are lost" if self.fault_tolerant else ""
        return f"{self.size} on {self.machines} machine{plural}{going_on}"

    # ------------------------------------------------------------------------------ lost ranks

    @contextmanager
    def telling(self, tell: Callable[[str], object]) -> Iterator[None]:
        self._tell.append(tell)
        try:
            yield
        finally:
            self._tell.remove(tell)

    def together(self, work: Callable[[], T]) -> T:
        if self._inside:
            return work()
        if not self.fault_tolerant:
            self._exchanges.clear()
            return work()
        while True:
            result: Any = None
            self._inside = True
            try:
                with self.lost_ranks():
                    result, worked = work(), True
            except RanksLost:
                worked = False
                for one in self._all:
                    one.Revoke()  # so that nobody waits for this rank
            finally:
                self._inside = False
            if self._all_agree(worked):
                self._exchanges.clear()
                return result
            self._go_on_without()

    def _all_agree(self, worked: bool) -> bool:
        try:
            return bool(self._world.Agree(int(worked)))
        except self.mpi.Exception as error:
            self._require_lost(error)
            return False

    def _go_on_without(self) -> None:
        """Connect the ranks that are left."""
        before = self._world.Get_group()
        for one in self._all:
            one.Revoke()
        while True:
            try:
                world = self._world.Shrink()
                here = world.Get_group()
                left = here.Translate_ranks(list(range(here.Get_size())), before)
                self._connect(world)
                break
            except self.mpi.Exception as error:
                self._require_lost(error)
        gone = [name for i, name in enumerate(self.names) if i not in left]
        self.names = [self.names[i] for i in left]
        self.generation += 1
        text = f"lost {', '.join(gone)}: {self.size} go on with its share"
        for tell in self._tell:
            tell(text)

    def _require_lost(self, error: Any) -> None:
        """Raise an error of MPI again, unless it says that ranks are gone."""
        if error.Get_error_class() not in self._lost:
            raise error

    # ------------------------------------------------------------------------------ exchanges

    def gather(self, value: T) -> list[T]:
        return self.together(lambda: self._gathered(value))

    def _gathered(self, value: T) -> list[T]:
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = self._numbers(np.array([len(data)], np.float64)).astype(int)[:, 0]
        found = np.empty(lengths.sum(), np.uint8)
        self.wait(self._world.Iallgatherv(data, [found, lengths.tolist()]))
        return [pickle.loads(part.tobytes()) for part in np.split(found, np.cumsum(lengths)[:-1])]

    def gather_numbers(self, values: np.ndarray) -> np.ndarray:
        return self.together(lambda: self._numbers(values))

    def _numbers(self, values: np.ndarray) -> np.ndarray:
        values = np.ascontiguousarray(values, np.float64)
        found = np.empty((self.size, len(values)))
        self.wait(self._world.Iallgather(values, found))
        return found

    def first_does(self, work: Callable[[], T]) -> T:
        done, value = self.together(lambda: self._from_first(work))
        if done:
            return value
        raise value

    def _from_first(self, work: Callable[[], Any]) -> tuple[bool, Any]:
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
        return result if self.first else pickle.loads(data.tobytes())

    def exchange(
        self, shapes: dict[str, dict[str, tuple[int, ...]]], dtype: str, count: int
    ) -> Exchange:
        self._exchanges.append(Exchange(self, self._scatter, self._gather, shapes, dtype, count))
        return self._exchanges[-1]

    def wait(self, request: Any) -> None:
        """Wait for a request of MPI."""
        self.wait_until(request.Test)

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Wait; RanksLost if some ranks are gone."""
        start = time.perf_counter()
        with self.lost_ranks():
            while not done():
                if time.perf_counter() - start > _SPIN:
                    time.sleep(_PAUSE)

    @contextmanager
    def lost_ranks(self) -> Iterator[None]:
        """A context that raises RanksLost where MPI says that ranks are gone."""
        try:
            yield
        except self.mpi.Exception as error:
            self._require_lost(error)
            raise RanksLost from error

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
        if not together:
            if self.fault_tolerant:  # the others go on without it
                os.kill(os.getpid(), signal.SIGKILL)  # an exit would not be noticed
            self.mpi.COMM_WORLD.Abort(code)
        raise SystemExit(code) from None
