"""CPU threads: how many, how long idle ones spin, and single-threaded BLAS inside them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from minialex.errors import InputError
from minialex.utils.cores import usable_cores


def choose(threads: int | None, most: int | None = None) -> int:
    """`threads` if given, else the usable cores; InputError if below 1 or above `most`."""
    if threads is None:
        return min(usable_cores(), most or usable_cores())
    if threads < 1:
        raise InputError(f"{threads} threads were asked for: at least 1 is needed")
    if most is not None and threads > most:
        raise InputError(
            f"{threads} threads were asked for, but this process may use {most} cores: ask for at "
            f"most {most}"
        )
    return threads


@cache
def load_blas() -> str:
    """Load SciPy's BLAS, which compiled code calls, with one thread; returns its kernels' name.

    One thread, because several of our threads call it at the same time. NumPy brings its own BLAS,
    which keeps its threads.
    """
    import scipy.linalg.cython_blas  # noqa: F401  loads the library
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas")
    own = [lib for lib in found.lib_controllers if _is_scipys(Path(lib.filepath))]
    own = own or found.lib_controllers  # NumPy and SciPy share one BLAS
    for lib in own:
        lib.set_num_threads(1)
    return ", ".join(sorted({str(lib.info().get("architecture")) for lib in own}))


@contextmanager
def short_waits() -> Iterator[None]:
    """OpenMP threads started in this context spin only briefly when they wait for work.

    By default GNU's OpenMP spins for milliseconds, which stalls other programs on the same cores.
    It reads the variable once, when it is loaded; a value that the user has set is kept.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = (
        "2000"  # some microseconds, about the time it takes to wake a thread
    )
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def _is_scipys(library: Path) -> bool:
    """Whether the library is SciPy's, judging by its folder; file names do not tell."""
    return any(part.startswith("scipy") for part in library.parts[:-1])
