"""Functions compiled by Numba, cached on disk if a cache folder is writable."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def compiled(function: Callable) -> Any:
    """`function` compiled; it releases the GIL."""
    return _compiled(function, parallel=False)


def threaded(function: Callable) -> Any:
    """The same, with `prange` loops divided among threads."""
    return _compiled(function, parallel=True)


def compiled_with_fma(function: Callable) -> Any:
    """The same, with fused multiply-adds, which round once."""
    return _compiled(function, parallel=False, fastmath={"contract"})


def is_cached(function: Any) -> bool:
    """Whether the disk cache has a compiled version of it."""
    folder = function.stats.cache_path
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}-*.nbi"
    return folder is not None and any(Path(folder).glob(name))


def _compiled(function: Callable, **options: Any) -> Any:
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package folder nor the home folder is writable
        return numba.njit(**options)(function)
