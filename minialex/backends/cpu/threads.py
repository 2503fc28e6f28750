"""How many threads: the cores this process may use, and no BLAS threads inside ours."""

import os
from functools import cache
from pathlib import Path

from minialex.errors import InputError


def usable_cores() -> int:
    """Cores by affinity and by the limit of the container, at least one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _quota() or cores))


def _quota(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Whole cores of a control group's limit, if there is one."""
    try:
        quota, period = (root / "cpu.max").read_text(encoding="ascii").split()[:2]
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, round(int(quota) / int(period)))


def choose(threads: int | None) -> int:
    """`threads`, or as many as there are usable cores; raises InputError for none."""
    if threads is None:
        return usable_cores()
    if threads < 1:
        raise InputError(f"{threads} threads were asked for: at least 1 is needed")
    return threads


def limit_blas(threads: int) -> None:
    """One thread for the BLAS that Numba's products use, which run in threads of ours already.

    That is SciPy's own library; NumPy's, which multiplies large dense layers whole, gets `threads`.
    """
    inner, outer = _libraries()
    inner.limit(limits=1)
    outer.limit(limits=threads)


@cache
def _libraries():
    import scipy.linalg.cython_blas  # noqa: F401  loads the library
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController()
    blas = [lib.filepath for lib in controller.lib_controllers if lib.user_api == "blas"]
    inner = [path for path in blas if "scipy" in path.lower()]
    outer = [path for path in blas if path not in inner]
    return controller.select(filepath=inner), controller.select(filepath=outer)
