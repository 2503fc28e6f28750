"""The processor cores that are there for this process."""

import os
from pathlib import Path


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
