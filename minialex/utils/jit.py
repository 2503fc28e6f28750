"""Functions compiled by Numba, cached on disk if a cache folder is writable."""

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba

_LEAST_FREE = 32 << 20  # bytes; all kernels together take about ten million


def compiled(function: Callable) -> Any:
    """`function` compiled; it releases the GIL."""
    return _compiled(function, parallel=False)


def inlined(function: Callable) -> Any:
    """The same, always compiled into its caller: for calls that take longer than what they do."""
    return _compiled(function, parallel=False, forceinline=True)


def threaded(function: Callable) -> Any:
    """The same, with `prange` loops divided among threads."""
    return _compiled(function, parallel=True)


def compiled_with_fma(function: Callable) -> Any:
    """The same, with fused multiply-adds, which round once."""
    return _compiled(function, parallel=False, fastmath={"contract"})


def is_cached(function: Any) -> bool:
    """Whether the disk cache has a compiled version of the function."""
    folder = function.stats.cache_path
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}-*.nbi"
    return folder is not None and any(Path(folder).glob(name))


def can_be_cached(function: Any) -> bool:
    """Whether there is a writable folder for its disk cache, on a disk that is not full."""
    folder = function.stats.cache_path
    if folder is None:
        return False
    existing = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
    return os.access(existing, os.W_OK) and shutil.disk_usage(existing).free > _LEAST_FREE


def _compiled(function: Callable, **options: Any) -> Any:
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package folder nor the home folder is writable
        return numba.njit(**options)(function)
    if (kept := getattr(made, "_cache", None)) is not None:
        _stamp(kept, Path(function.__code__.co_filename).parent)
        _tolerate_failures(kept)
    return made


def _stamp(kept: Any, folder: Path) -> None:
    """A disk cache that is out of date when any module of the folder has changed.

    Numba looks only at the function's own file. Its code may come from others: constants, functions
    that it calls, and those that write instructions.
    """
    file: Any = getattr(kept, "_cache_file", None)
    if (own := getattr(file, "_source_stamp", None)) is not None:
        file._source_stamp = (own, _sources(folder))


@cache
def _sources(folder: Path) -> str:
    """A hash of the folder's modules and of this one, whose options change the code."""
    found = hashlib.sha256()
    for path in (Path(__file__), *sorted(folder.glob("*.py"))):
        with suppress(OSError):  # the modules may be in an archive
            text = path.read_bytes()
            found.update(f"{path.name} {len(text)} ".encode() + text)
    return found.hexdigest()


def _tolerate_failures(kept: Any) -> None:
    """A disk cache whose errors cost time but never end the run; Numba's own would raise them.

    The disk may be full, a folder may lose its permissions, a crash may truncate a file.
    """
    load, save = kept.load_overload, kept.save_overload

    def load_overload(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except OSError:
            return None  # as if it were not cached
        except Exception:  # a damaged pickle may raise anything: start a new index
            with suppress(OSError):
                kept.flush()
            return None

    def save_overload(*arguments: Any) -> None:
        with suppress(OSError):
            save(*arguments)

    kept.load_overload, kept.save_overload = load_overload, save_overload
