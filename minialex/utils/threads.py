"""How many threads, how they wait, and no BLAS threads inside ours."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from minialex.errors import InputError
from minialex.utils.cores import usable_cores


def choose(threads: int | None, most: int | None = None) -> int:
    """`threads`, or as many as there are usable cores; raises InputError for none or too many."""
    if threads is None:
        return min(usable_cores(), most or usable_cores())
    if threads < 1:
        raise InputError(f"{threads} threads were asked for: at least 1 is needed")
    if most is not None and threads > most:
        raise InputError(
            f"{threads} threads were asked for, and this process may use {most} cores: ask for at "
            f"most {most}"
        )
    return threads


@cache
def load_blas() -> str:
    """Load SciPy's BLAS, which our compiled products use, for one thread; its kernels' name.

    One, because our own threads call it side by side; NumPy's is another library and keeps its
    threads.
    """
    import scipy.linalg.cython_blas  # noqa: F401  loads the library
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas")
    own = [lib for lib in found.lib_controllers if _is_scipys(Path(lib.filepath))]
    own = own or found.lib_controllers  # one library for all
    for lib in own:
        lib.set_num_threads(1)
    return ", ".join(sorted({str(lib.info().get("architecture")) for lib in own}))


@contextmanager
def short_waits() -> Iterator[None]:
    """The threads that are started within wait briefly for work before they leave their core.

    GNU's OpenMP lets them wait for milliseconds, in which a second program on the same cores gets
    no further. It reads this once, when it is loaded; whoever has set it is left alone.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "2000"  # some microseconds, as a thread takes to be woken
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def _is_scipys(library: Path) -> bool:
    """Whether SciPy brought it, by the folder it lies in: the files' names are alike."""
    return any(part.startswith("scipy") for part in library.parts[:-1])
