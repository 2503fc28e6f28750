"""The processes that train together: one, or the ranks that `mpirun` or `srun` started.

Every rank runs the same program. What must be the same on all goes through these methods, which all
ranks call in the same order; files and output are the first rank's alone.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np

from minialex.backends.base import Backend
from minialex.errors import InputError
from minialex.parallel.devices import Devices
from minialex.parallel.partition import split
from minialex.utils.launcher import launched, launched_as

T = TypeVar("T")


class World:
    """One process. `launched` tells whether an MPI launcher started it, alone or not."""

    rank, size = 0, 1
    generation = 0  # how often ranks were lost
    launched = False
    threads: int | None = None  # for each rank; None: this process has the machine to itself
    host = ""
    node_rank = 0  # the number of the rank on its machine
    machines = 1
    bytes_sent = 0  # by this rank, in sums of gradients
    lost: Sequence[tuple[str, int]] = ()  # the processes of lost ranks: host and number

    @property
    def first(self) -> bool:
        """Whether this rank writes and prints."""
        return self.rank == 0

    def share(self, count: int, rank: int | None = None) -> range:
        """The ones of `count` items in a row that are this rank's, or another's."""
        return range(*split(count, self.size)[self.rank if rank is None else rank])

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in order."""
        return [value]

    def gather_numbers(self, values: np.ndarray) -> np.ndarray:
        """The numbers (K,) of all ranks: float64 (ranks, K)."""
        return np.asarray(values, np.float64)[None]

    def first_does(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises on the first rank, on all ranks."""
        return work()

    def link(self, backends: Sequence[Backend]) -> Any:
        """A `DeviceLink` of all ranks' devices; None if they cannot be linked."""
        return None

    def exchange(
        self,
        devices: Devices,
        shapes: dict[str, dict[str, tuple[int, ...]]],
        dtype: str,
        count: int,
        link: Any = None,
    ) -> Any:
        """The exchange of a step's gradients on `devices`; None on one rank.

        It is an `Exchange`, through the host, or with a `link` a `DeviceExchange`.
        """
        return None

    def together(self, work: Callable[[], T]) -> T:
        """What `work` returns, which all ranks do at the same time.

        If a rank is lost meanwhile and MPI can go on without it, the others do the work anew; their
        numbers and shares are others then, and `generation` is higher.
        """
        return work()

    def wait_at_most(self, seconds: float) -> None:
        """Set how long ranks wait before they ask whether one of them hangs."""

    def telling(self, tell: Callable[[str], object]) -> AbstractContextManager:
        """A context in which `tell` is called with a sentence whenever ranks were lost."""
        return nullcontext()

    def ending_together(self) -> AbstractContextManager:
        """A context in which an error on one rank ends them all, with one sentence."""
        return nullcontext()

    def name_of(self, rank: int) -> str:
        """The rank and its machine."""
        return f"rank {rank}"

    def describe(self) -> str:
        """How many ranks on how many machines."""
        return "1"


def open_world() -> World:
    """The ranks that were started together with this process.

    Raises InputError if a launcher started several and they cannot find each other.
    """
    if not launched():
        return World()
    count, _ = launched_as()
    from minialex.parallel.mpi import open_mpi

    try:
        return open_mpi(count)
    except ImportError as error:
        if count == 1:
            return World()
        raise InputError(
            f"{count} processes were started together, but mpi4py, which connects them, cannot be "
            f"imported ({error}): pip install 'minialex[mpi]'"
        ) from None


def threads_of_share(rank: int, ranks: Sequence[tuple[frozenset[int], int]]) -> int:
    """The CPU threads of one of a machine's ranks, from all ranks' cores and core limits.

    Ranks that are bound to different cores have them to themselves; others divide them.
    """
    cores, limit = ranks[rank]
    share = sum(1 / sum(core in other for other, _ in ranks) for core in cores)
    if limit < len(cores):  # a limit of the container, which holds all of them
        share = min(share, limit / len(ranks))
    return max(1, int(share + 1e-9))
