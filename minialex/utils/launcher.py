"""What an MPI launcher (`mpirun`, `mpiexec`, `srun`) says of the processes it started."""

import os

from minialex.errors import InputError

_OPEN_MPI = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
_PMI = ("PMI_SIZE", "PMI_RANK")  # MPICH, Intel MPI
_SLURM = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID")


def launched_as() -> tuple[int, int]:
    """(number of processes, number of this one); (1, 0) without a launcher."""
    for names in (_OPEN_MPI, _PMI, _SLURM):
        size, rank = (os.environ.get(name, "") for name in names)
        if size.isdecimal() and rank.isdecimal():
            return int(size), int(rank)
    return 1, 0


def launched() -> bool:
    """Whether an MPI launcher started this process; a shell that srun started is none."""
    return launched_as()[0] > 1 or any(size in os.environ for size, _ in (_OPEN_MPI, _PMI))


def launched_by_srun() -> bool:
    """Whether SLURM started this process itself, and not an `mpirun` in one of its jobs."""
    return "SLURM_STEP_NUM_TASKS" in os.environ and _OPEN_MPI[0] not in os.environ


def require_one_process(what: str) -> None:
    """Raise InputError if a launcher started several."""
    count, _ = launched_as()
    if count > 1:
        raise InputError(f"{what} runs in one process, not in {count}: start it without mpirun")
