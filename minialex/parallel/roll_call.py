"""Finds ranks that hang, and tells the others of a rank that failed.

A rank that has waited too long asks all others; those that wait too, for whatever, answer. One that
does not answer hangs, or has computed for too long without waiting for anybody.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

TIMEOUT = 900.0  # seconds of waiting before a rank asks, if the user does not say
_EVERY = 0.1  # seconds between looks at the messages
_ANSWERING = 5.0  # seconds in which a rank that waits answers, even on a busy machine
_DYING = 30.0  # seconds in which MPI notices that a rank was killed
_ALL_FAIL = 3.0  # seconds in which ranks that fail of one cause all do
_LENGTH = 2000  # bytes of an error that ranks tell each other
_QUESTION, _ANSWER, _END_IT, _FAILED = range(1, 5)  # tags


class Hanging(Exception):
    """Some ranks do not answer, and nobody can end them: `numbers` are those of MPI's world."""

    def __init__(self, numbers: Sequence[int]):
        self.numbers = numbers


class RollCall:
    """The messages of one rank; `present` are the ranks that are left, by their first numbers.

    Its communicator connects all ranks that were ever there, and is never shrunk. If ranks may be
    lost, one that hangs is killed by another on its machine.
    """

    def __init__(self, mpi: Any, may_be_lost: bool):
        self._mpi, self._may_be_lost = mpi, may_be_lost
        self._to = mpi.COMM_WORLD.Dup()
        self._to.Set_errhandler(mpi.ERRORS_RETURN)
        self.rank: int = self._to.Get_rank()
        self.present = list(range(self._to.Get_size()))
        self.processes: list[tuple[str, int]] = []  # host and number of all ranks' processes
        self.timeout = TIMEOUT
        self._sent: list[tuple[Any, Any]] = []  # MPI reads the memory later
        self._since = self._next = self._quiet_until = 0.0
        self._asked: float | None = None
        self._question = 0
        self._missing: set[int] = set()
        self._killed: set[int] = set()

    # ------------------------------------------------------------------------------ waiting

    def begin(self) -> None:
        """Note that this rank begins to wait."""
        self._since, self._asked = time.monotonic(), None

    def look(self) -> None:
        """Answer, and ask if it is time; to be called again and again while the rank waits.

        Raises Hanging.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        for rank in self._others():
            for (number,) in self._received(rank, _QUESTION, np.int64):
                self._send(rank, _ANSWER, np.array([number]))
                if rank < self.rank or self._asked is None:  # one is enough to ask
                    self._since, self._asked = now, None
            for (number,) in self._received(rank, _ANSWER, np.int64):
                if number == self._question:
                    self._missing.discard(rank)
            for (number,) in self._received(rank, _END_IT, np.int64):
                self._kill(int(number))
        if self._asked is not None:
            self._missing &= set(self.present)
            if not self._missing:
                self.begin()  # all wait: what they wait for goes on
            elif now - self._asked > _ANSWERING:
                self._end_those(sorted(self._missing))
                self.begin()
        elif now - self._since > self.timeout and now > self._quiet_until:
            self._asked, self._missing = now, set(self._others())
            self._question += 1
            for rank in self._others():
                self._send(rank, _QUESTION, np.array([self._question]))

    def _end_those(self, hanging: list[int]) -> None:
        """Have ranks that hang killed by others on their machines; Hanging if that cannot be."""
        answered = [self.rank, *(r for r in self._others() if r not in hanging)]
        for number in hanging:
            near = [r for r in answered if self.processes[r][0] == self.processes[number][0]]
            if not self._may_be_lost or not near or number in self._killed:
                raise Hanging(hanging)
            self._killed.add(number)
            if near[0] == self.rank:
                self._kill(number)
            else:
                self._send(near[0], _END_IT, np.array([number]))
        self._quiet_until = time.monotonic() + _DYING

    def _kill(self, number: int) -> None:
        host, process = self.processes[number]
        if host == self.processes[self.rank][0] and _is_rank(process, number):
            os.kill(process, signal.SIGKILL)

    # ------------------------------------------------------------------------------ failing

    def failed(self, text: str) -> tuple[bool, bool]:
        """Tell all others that this rank failed, and why.

        -> whether all of them fail for the same reason, within seconds; and whether this is the
        first rank that does.
        """
        own = text.encode("utf-8", "backslashreplace")[:_LENGTH].ljust(_LENGTH)
        others = self._others()
        for rank in others:
            self._send(rank, _FAILED, np.frombuffer(own, np.uint8))
        same: set[int] = set()
        until = time.monotonic() + _ALL_FAIL
        while len(same) < len(others) and time.monotonic() < until:
            for rank in others:
                for one in self._received(rank, _FAILED, np.uint8, _LENGTH):
                    if one.tobytes() == own:
                        same.add(rank)
            time.sleep(0.01)
        return len(same) == len(others), all(self.rank < rank for rank in same)

    # ------------------------------------------------------------------------------ messages

    def _others(self) -> list[int]:
        return [rank for rank in self.present if rank != self.rank]

    def _send(self, rank: int, tag: int, data: np.ndarray) -> None:
        with self._unless_lost():
            self._sent.append((self._to.Isend(data, dest=rank, tag=tag), data))

    def _received(self, rank: int, tag: int, dtype: type, length: int = 1) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        with self._unless_lost():
            while self._to.Iprobe(source=rank, tag=tag):
                found.append(np.empty(length, dtype))
                self._to.Recv(found[-1], source=rank, tag=tag)
        return found

    @contextmanager
    def _unless_lost(self) -> Iterator[None]:
        """Ignore errors where ranks may be lost: whatever they wait for notices that."""
        try:
            yield
        except self._mpi.Exception:
            if not self._may_be_lost:
                raise


def _is_rank(process: int, number: int) -> bool:
    """Whether a process of this machine is that rank of the same job, as far as can be seen."""
    try:
        about = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    job = os.environb.get(b"PMIX_NAMESPACE", b"")
    return f"OMPI_COMM_WORLD_RANK={number}".encode() in about and b"PMIX_NAMESPACE=" + job in about
