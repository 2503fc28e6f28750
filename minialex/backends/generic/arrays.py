"""Transfers of arrays, slices and concatenation, tests and sums."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minialex.backends.base import Array
from minialex.backends.generic.execution import GenericExecution


class GenericArrays(GenericExecution):
    """Arrays of the namespace `xp` on `device`."""

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """A host array (or a number) as an array of this backend; `dtype` by name."""
        kind = None if dtype is None else getattr(self.xp, dtype)
        return self.xp.asarray(np.asarray(x, dtype), dtype=kind, device=self.device)

    def to_numpy(self, x: Array) -> np.ndarray:
        """An array of this backend as a NumPy array; waits for the device."""
        return np.asarray(x)

    def all_finite(self, *arrays: Array) -> bool:
        """Whether no array holds NaN or infinity; waits for the device."""
        return all(bool(self.xp.all(self.xp.isfinite(x))) for x in arrays)

    def sum_of_squares(self, x: Array) -> float:
        """Σ x², on the host; waits for the device."""
        return float(self.xp.sum(x * x))

    def zeros_like(self, x: Array) -> Array:
        """Zeros with the shape and type of x."""
        return self._zeros(x.shape, x)

    def narrow(self, x: Array, axis: int, start: int, stop: int) -> Array:
        """A contiguous copy of the entries start … stop - 1 along an axis."""
        index = [slice(None)] * x.ndim
        index[axis] = slice(start, stop)
        return self.xp.asarray(x[tuple(index)], copy=True)

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        """Concatenate arrays along an axis."""
        return self.xp.concat(tuple(parts), axis=axis)

    def scale(self, x: Array, factor: float) -> Array:
        """x times a number."""
        return x * factor

    def scale_channels(self, x: Array, factors: Sequence[float]) -> Array:
        """x (N, H, W, C) with each channel multiplied by its factor; there are C factors."""
        n, h, w, c = x.shape
        # long rows: an inner loop over C alone is slow
        row = self.asarray(np.tile(factors, w), str(x.dtype).rpartition(".")[2])
        rows = self.xp.reshape(x, (n * h, w * c))
        return self.xp.reshape(rows * row, (n, h, w, c))

    def add(self, x: Array, y: Array) -> Array:
        """x + y."""
        return x + y

    def _empty(self, shape: Sequence[int], like: Array) -> Array:
        return self.xp.empty(shape, dtype=like.dtype, device=self.device)

    def _zeros(self, shape: Sequence[int], like: Array) -> Array:
        return self.xp.zeros(shape, dtype=like.dtype, device=self.device)
