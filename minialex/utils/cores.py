"""How many CPU cores this process may use."""

import os
from pathlib import Path


def usable_cores() -> int:
    """The smaller of CPU affinity and the container's CPU limit, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _quota() or cores))


def core_numbers() -> frozenset[int]:
    """The numbers of the cores that the system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _quota(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The CPU limit of the control group (cgroup v2) in cores, or None."""
    try:
        quota, period = (root / "cpu.max").read_text(encoding="ascii").split()[:2]
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, round(int(quota) / int(period)))
