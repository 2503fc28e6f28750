"""Ranks connected by MPI, through mpi4py."""

import atexit
import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TypeVar

import numpy as np

from minialex.backends.base import Backend
from minialex.errors import InputError, TrainingError
from minialex.parallel.device_exchange import DeviceExchange, DeviceLink
from minialex.parallel.devices import Devices
from minialex.parallel.exchange import Exchange
from minialex.parallel.roll_call import Hanging, RollCall
from minialex.parallel.world import World, threads_of_share
from minialex.utils.cores import core_numbers, usable_cores
from minialex.utils.launcher import launched_by_srun

T = TypeVar("T")
_GONE = ("ERR_PROC_FAILED", "ERR_PROC_FAILED_PENDING", "ERR_REVOKED")
_SPIN = 0.0005  # seconds of waiting without a pause
_PAUSE = 0.0002  # seconds between looks after that
_LEAVING = 5.0  # seconds in which the other ranks end, too


@cache
def open_mpi(count: int) -> World:
    """The world of the `count` processes that a launcher started."""
    import mpi4py

    if _fault_tolerant():
        # after the loss of a rank, MPI_Finalize sometimes never returns (seen in Open MPI 5.0)
        mpi4py.rc.finalize = False
    from mpi4py import MPI

    found = MPI.COMM_WORLD.Get_size()
    if found != count:
        library = MPI.Get_library_version().split(",")[0].split("\n")[0].strip("\x00 ")
        kind = "pmix" if "Open MPI" in library else "pmi2"
        another = f"srun --mpi={kind}, or with " if launched_by_srun() else ""
        raise InputError(
            f"the launcher started {count} processes, but MPI connects only {found}: mpi4py uses "
            f"{library} here, so start them with {another}the mpirun of that MPI"
        )
    return MPIWorld(MPI)


def _fault_tolerant() -> bool:
    return os.environ.get("OMPI_MCA_mpi_ft_enable") == "1"  # noqa: SIM112


class RanksLost(Exception):
    """An operation failed because some ranks are gone."""


class MPIWorld(World):
    """The ranks of MPI's world. Waiting never blocks inside MPI, so that ranks that hang are found.

    With `mpirun --with-ft ulfm` (User-Level Failure Mitigation), the survivors of a lost rank go
    on: whatever all ranks do together ends with an agreement whether it worked on all of them.
    """

    launched = True

    def __init__(self, mpi: Any):
        self.mpi = mpi
        self.fault_tolerant = _fault_tolerant()
        self._lost = {getattr(mpi, name, None) for name in _GONE}
        self._tell: list[Callable[[str], object]] = []
        self._inside = False
        self._exchanges: list[Exchange] = []  # MPI may still use the memory of those that failed
        self._roll = RollCall(mpi, self.fault_tolerant)
        self._connect(mpi.COMM_WORLD.Dup())
        own = socket.gethostname(), os.getpid(), core_numbers(), usable_cores()
        about = self._gathered(own)
        hosts = [host for host, *_ in about]
        self._roll.processes = [(host, process) for host, process, *_ in about]
        here = [i for i, host in enumerate(hosts) if host == hosts[self.rank]]
        self.host, self.node_rank = hosts[self.rank], here.index(self.rank)
        self.threads = threads_of_share(self.node_rank, [about[i][2:] for i in here])
        self.machines = len(set(hosts))
        if self.fault_tolerant:
            atexit.register(self._leave)

    def _connect(self, world: Any) -> None:
        """Use this communicator, and copies for what runs at the same time."""
        world.Set_errhandler(self.mpi.ERRORS_RETURN)
        copies = []
        for _ in range(2):
            with self.lost_ranks():
                copy, request = world.Idup()
                self.wait(request)
            copies.append(copy)
        self._all = world, *copies
        self._world, self._scatter, self._gather = self._all
        for one in self._all:
            one.Set_errhandler(self.mpi.ERRORS_RETURN)
        self.rank, self.size = world.Get_rank(), world.Get_size()

    # ------------------------------------------------------------------------------ the ranks

    def name_of(self, rank: int) -> str:
        return self._name(self._roll.present[rank])

    def _name(self, number: int) -> str:
        """That of a rank by its first number."""
        return f"rank {number} on {self._roll.processes[number][0]}"

    def wait_at_most(self, seconds: float) -> None:
        self._roll.timeout = seconds

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
        return self._agreed(self._world, worked)

    def _agreed(self, world: Any, worked: bool) -> bool:
        """Whether it worked on all; the answer is the same on all ranks of `world`."""
        flag = np.array([worked], np.int32)
        try:
            with self.lost_ranks():
                self.wait(world.Iagree(flag))
        except RanksLost:
            return False
        return bool(flag[0])

    def _go_on_without(self) -> None:
        """Connect the ranks that are left."""
        before, present = self._world.Get_group(), self._roll.present
        for one in self._all:
            one.Revoke()
        old, connected = self._world, False
        while not connected:
            world = old.Shrink()  # blocks; Open MPI 5's Ishrink fails with an internal error
            here = world.Get_group()
            left = here.Translate_ranks(list(range(here.Get_size())), before)
            try:
                self._connect(world)
                connected = True
            except RanksLost:
                world.Revoke()  # so that nobody waits for this rank
            connected = self._agreed(world, connected)
        gone = ", ".join(self._name(one) for i, one in enumerate(present) if i not in left)
        self._roll.present = [present[i] for i in left]
        every = enumerate(self._roll.processes)
        self.lost = [one for i, one in every if i not in self._roll.present]
        self.generation += 1
        text = f"lost {gone}: {self.size} go on with its share"
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
        results: list[T] = []  # it is done once, even if other ranks are lost meanwhile

        def once() -> T:
            if not results:
                results.append(work())
            return results[0]

        done, value = self.together(lambda: self._from_first(once))
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

    def link(self, backends: Sequence[Backend]) -> DeviceLink | None:
        # a lost rank would leave the others waiting on their devices for ever
        may = self.size > 1 and not self.fault_tolerant and len(backends) == 1
        key = backends[0].link_key() if may else None
        first, *others = self.gather(key)
        if first is None or None in others:
            return None
        return DeviceLink(backends[0], first, self.size, self.rank)

    def exchange(
        self,
        devices: Devices,
        shapes: dict[str, dict[str, tuple[int, ...]]],
        dtype: str,
        count: int,
        link: DeviceLink | None = None,
    ) -> Exchange | DeviceExchange:
        if link is not None:
            return DeviceExchange(self, link, shapes, dtype, count)
        through = self._scatter, self._gather
        self._exchanges.append(Exchange(self, devices, *through, shapes, dtype, count))
        return self._exchanges[-1]

    def wait(self, request: Any) -> None:
        """Wait for a request of MPI."""
        self.wait_until(request.Test)

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Wait; RanksLost if some ranks are gone. Ends the job if some hang."""
        start = time.perf_counter()
        self._roll.begin()
        with self.lost_ranks():
            while not done():
                if time.perf_counter() - start > _SPIN:
                    time.sleep(_PAUSE)
                    try:
                        self._roll.look()
                    except Hanging as error:
                        self._end_hanging(error.numbers)

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
        all_fail, speaks = self._roll.failed(text)
        if all_fail and speaks:
            error.__dict__["speaks"] = True  # the command line prints it
            return
        if speaks:
            self._complain(f"{self.name_of(self.rank)}: {text}")
        if not all_fail:
            if self.fault_tolerant:  # the others go on without it
                os.kill(os.getpid(), signal.SIGKILL)  # an exit would not be noticed
            self.mpi.COMM_WORLD.Abort(code)
        raise SystemExit(code) from None

    def _end_hanging(self, numbers: Sequence[int]) -> None:
        names = ", ".join(map(self._name, numbers))
        self._complain(f"{names} has not answered for {self._roll.timeout:g} s: all ranks end")
        self.mpi.COMM_WORLD.Abort(2)

    def _leave(self) -> None:
        """Wait for the other ranks, for a while: the process ends without MPI_Finalize."""
        with suppress(self.mpi.Exception):
            request, end = self._world.Ibarrier(), time.monotonic() + _LEAVING
            while not request.Test() and time.monotonic() < end:
                time.sleep(_PAUSE)

    def _complain(self, sentence: str) -> None:
        print(f"minialex: error: {sentence}", file=sys.stderr, flush=True)
