"""Functions compiled by Numba, kept on disk where there is a place to keep them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def compiled(function: Callable) -> Any:
    """`function` as machine code, which lets other Python threads run."""
    return _compiled(function, parallel=False)


def threaded(function: Callable) -> Any:
    """The same, its `prange` loops dealt out to threads."""
    return _compiled(function, parallel=True)


def contracted(function: Callable) -> Any:
    """`function` as machine code in which a product and the sum it goes into are rounded once."""
    return _compiled(function, parallel=False, fastmath={"contract"})


def is_kept(function: Any) -> bool:
    """Whether something that was compiled of it lies on the disk."""
    folder = function.stats.cache_path
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}-*.nbi"
    return folder is not None and any(Path(folder).glob(name))


def _compiled(function: Callable, **options) -> Any:
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the home folder can be written to
        return numba.njit(**options)(function)
