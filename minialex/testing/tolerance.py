"""One table of tolerances, by dtype, scaled by the square root of the length of the longest sum."""

from typing import Any

import numpy as np

_UNIT = {"float64": 1e-14, "float32": 5e-6, "float16": 2e-3, "bfloat16": 1.6e-2}


def exact(x: Any) -> np.ndarray:
    """An array as float64, for the reference: NumPy's float32 scalars would round its sums."""
    return np.asarray(x, np.float64)


def assert_close(ours: Any, theirs: Any, dtype: str, reduction: int = 1, what: str = "") -> None:
    """Raise AssertionError unless both have the same shape and differ only by rounding.

    The limit is relative to the largest value; `reduction` is the length of the longest sum.

    An array of ours must also be of `dtype`: a promotion to float64 would be close, but wrong.
    """
    if isinstance(ours, np.ndarray):
        require(ours.dtype == dtype, f"{what}: {ours.dtype}, expected {dtype}")
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    require(ours.shape == theirs.shape, f"{what}: shape {ours.shape}, expected {theirs.shape}")
    scale = max(1.0, _largest(theirs))
    limit = _UNIT[dtype] * np.sqrt(max(1, reduction)) * scale
    worst = _largest(ours - theirs)
    require(worst <= limit, f"{what}: off by {worst:.3g}, allowed {limit:.3g} ({dtype})")


def _largest(x: np.ndarray) -> float:
    """max |x|, without a copy of gradients of tens of millions of numbers; NaN if one is."""
    return float(np.maximum(np.max(x, initial=0.0), -np.min(x, initial=0.0)))


def require(condition: bool, message: str) -> None:
    """Raise AssertionError(message) unless `condition` holds, under `python -O` too."""
    if not condition:
        raise AssertionError(message)
