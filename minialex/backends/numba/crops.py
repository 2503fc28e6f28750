"""From stored images to network input (paper, sections 2 and 4.1)."""

import numpy as np
from numba import prange

from minialex.backends.base import Array
from minialex.backends.numba.execution import NumbaExecution
from minialex.utils.jit import threaded


class NumbaCrops(NumbaExecution):
    """Augmentation."""

    def crops(
        self,
        images: Array,
        top: np.ndarray,
        left: np.ndarray,
        flip: np.ndarray,
        crop: int,
        mean: np.ndarray,
        mean_top: int | None,
        mean_left: int | None,
        shift: np.ndarray | None,
        scale: float,
        dtype: str,
    ) -> Array:
        images, kind = np.ascontiguousarray(images), np.dtype(dtype).type
        n, c = len(top), images.shape[3]
        out = self._new((n, crop, crop, c), dtype)
        mean = np.ascontiguousarray(mean, dtype)
        shift = np.zeros((n, c), dtype) if shift is None else np.ascontiguousarray(shift, dtype)
        corner = (-1, -1) if mean_top is None or mean_left is None else (mean_top, mean_left)
        for offsets, array in ((top, images[0]), (left, images[0].swapaxes(0, 1)), (corner, mean)):
            if n and not -1 <= min(offsets) <= max(offsets) <= len(array) - crop:
                raise ValueError(
                    f"a crop of {crop} at {max(offsets)} extends beyond an image of {len(array)}"
                )
        where = np.asarray(top, np.int64), np.asarray(left, np.int64), np.asarray(flip, bool)
        self._run(
            crops,
            images,
            where[0],
            where[1],
            where[2],
            mean,
            corner[0],
            corner[1],
            shift,
            kind(scale),
            out,
        )
        return out


@threaded
def crops(images, top, left, flip, mean, mean_top, mean_left, shift, scale, out):
    """Resized images to network input: crop, subtract the mean, mirror, shift colour, scale.

    A row of pixels is one run of numbers, which vectorises; mirrored rows are reversed.
    """
    n_size, crop, _, c_size = out.shape
    run = crop * c_size
    for n in prange(n_size):
        shifts, line = np.empty(run, out.dtype), np.empty(run, out.dtype)
        for j in range(run):
            shifts[j] = shift[n, j % c_size]
        x, y = left[n], left[n] if mean_left < 0 else mean_left
        for h in range(crop):
            row = images[n, top[n] + h].reshape(-1)[x * c_size : x * c_size + run]
            average = mean[(top[n] if mean_top < 0 else mean_top) + h].reshape(-1)
            average = average[y * c_size : y * c_size + run]
            there = out[n, h].reshape(-1)
            into = line if flip[n] else there
            for j in range(run):
                into[j] = (out.dtype.type(row[j]) - average[j] + shifts[j]) * scale
            if flip[n]:
                for w in range(crop):
                    for c in range(c_size):
                        there[w * c_size + c] = line[(crop - 1 - w) * c_size + c]
