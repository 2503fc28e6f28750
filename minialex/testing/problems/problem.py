"""The sizes and numbers of a random problem, and the difference between two answers."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from minialex import rng
from minialex.backends.base import Backend, Pads, Pair, output_shape
from minialex.backends.generic.backend import GenericBackend

GENERIC = GenericBackend("generic", np)


class Problem:
    """Random sizes and numbers that depend only on the case number and the order of the calls.

    Numbers are rounded to `dtype` and given to backend `b` as `compute`, so that a float32 answer
    can be compared with the float64 answer for the same inputs.
    """

    def __init__(self, b: Backend, case: int, dtype: str = "float64", compute: str = "float64"):
        self.b, self.case, self.dtype, self.compute = b, case, dtype, compute
        self._calls = 0

    def _words(self, count: int) -> np.ndarray:
        self._calls += 1
        return rng.words(0, rng.Stream.TEST, self.case, [self._calls], count)[0]

    def integers(self, low: int, high: int, count: int = 1) -> np.ndarray:
        """`count` integers, low … high."""
        return low + rng.integers(self._words(count), high + 1 - low)

    def integer(self, low: int, high: int) -> int:
        """One of them."""
        return int(self.integers(low, high)[0])

    def normal(self, shape: Sequence[int]) -> np.ndarray:
        """A host array from N(0, 1), float64."""
        count = prod(shape)
        return rng.normal(self._words(count + count % 2))[:count].reshape(shape)

    def apart(self, shape: Sequence[int]) -> np.ndarray:
        """A host array in -2 … 2 without two values, or a value and zero, close to each other."""
        count = prod(shape)
        return (4 * (np.argsort(self._words(count)) + 0.25) / count - 2).reshape(shape)

    def given(self, values: ArrayLike) -> Any:
        """A host array of reals, rounded, on the backend."""
        return self.b.asarray(np.asarray(values, self.dtype), self.compute)

    def parameter(self, values: ArrayLike) -> Any:
        """Like `given`, for what stays float32 in half precision: biases, targets, weights."""
        half = self.compute in ("float16", "bfloat16")
        return self.b.asarray(np.asarray(values, self.dtype), "float32" if half else self.compute)

    def window(self) -> tuple[Pair, Pair, Pads, Pair]:
        """(R, S), stride, pads (each less than the window) and an (H, W) in which it fits."""
        (r, s), strides = self.integers(1, 4, 2), self.integers(1, 4, 2)
        top, bottom = self.integers(0, int(r) - 1, 2)
        left, right = self.integers(0, int(s) - 1, 2)
        h = max(1, int(r - top - bottom)) + self.integer(0, 6)
        w = max(1, int(s - left - right)) + self.integer(0, 6)
        pads = ((int(top), int(bottom)), (int(left), int(right)))
        return (int(r), int(s)), (int(strides[0]), int(strides[1])), pads, (h, w)

    def pooling(self) -> tuple[np.ndarray, np.ndarray, tuple[Pair, Pair, Pads]]:
        """x and dy on the host, and (window, stride, pads)."""
        window, stride, pads, size = self.window()
        # the last case's channels can be read 16 bytes at a time
        channels = 16 if self.case % 6 == 5 else self.integer(1, 4)
        x = self.apart((self.integer(1, 3), *size, channels))
        dy = self.normal((x.shape[0], *output_shape(size, window, stride, pads), x.shape[3]))
        return x, dy, (window, stride, pads)

    def shape(self, most: int, least: int = 1) -> tuple[int, ...]:
        """A shape whose last extent is 1 … `most`, with `least` … 5 axes: all within six cases."""
        axes = least + self.case % (6 - least)
        extents = [int(e) for e in self.integers(1, 4, max(0, axes - 1))]
        return (*extents, self.integer(1, most)) if axes else ()

    def pair(self, least: int = 0) -> tuple[Any, Any]:
        """Two arrays of one shape on the backend, with `least` … 5 axes."""
        shape = self.shape(40, least)
        return self.given(self.normal(shape)), self.given(self.normal(shape))


def difference(found: np.ndarray, expected: np.ndarray) -> tuple[float, str]:
    """The largest difference relative to the largest expected value, and a sentence about it."""
    if found.shape != expected.shape:
        return float("inf"), f"its shape is {found.shape}, not {expected.shape}"
    if found.size == 0:
        return 0.0, "nothing"
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    apart = np.nan_to_num(np.abs(ours - theirs), nan=np.inf, posinf=np.inf)
    index = np.unravel_index(np.argmax(apart), apart.shape)
    error = float(apart[index] / max(float(np.max(np.abs(theirs))), 1e-30))
    at = tuple(map(int, index))
    return error, f"{ours[index]:.9g} at {at} of {found.shape}, not {theirs[index]:.9g}"
