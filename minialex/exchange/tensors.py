"""Arrays in a file that are not read yet, and conversion from other programs' layouts to ours."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from minialex.errors import InputError
from minialex.utils.plain_pickle import Sealed

_ROWS = 16  # rows of a dense weight transposed at a time, so that they stay in the L2 cache
_READ = 64  # rows of a dense weight read at a time


@dataclass(frozen=True)
class StoredTensor(Sealed):
    """An array in a file: its description, and how to read it as float32.

    `rows`, if the file allows it, reads a part: rows `first` to `end` of the first axis.
    """

    shape: tuple[int, ...]
    itemsize: int
    load: Callable[[], np.ndarray]
    rows: Callable[[int, int], np.ndarray] | None = None

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.itemsize


def require_room(path: Path, tensors: Iterable[StoredTensor]) -> None:
    """Raise InputError if arrays are larger than the file in total, as views can be."""
    total, size = sum(tensor.nbytes for tensor in tensors), path.stat().st_size
    if total > size:
        raise InputError(f"{path} claims arrays of {total:,} bytes but has {size:,}: it is damaged")


def from_bfloat16(numbers: np.ndarray) -> np.ndarray:
    """float32 of bfloat16 numbers given as unsigned integers of 16 bits."""
    return (numbers.astype(np.uint32) << 16).view(np.float32)


def convolution_weight(weight: np.ndarray) -> np.ndarray:
    """K C/G R S -> R S C/G K."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))


def dense_weight(weight: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray:
    """K I -> I K, with I in C H W order before and in H W C order after.

    `input_shape` is the layer's input shape in our layout, (H, W, C) or (I,).
    """
    return _by_pixels([weight], len(weight), input_shape)


def stored_as_dense_weight(tensor: StoredTensor, input_shape: tuple[int, ...]) -> np.ndarray:
    """The same for a tensor (K, ...) in a file; only a few of its rows are in memory at a time."""
    units, read = tensor.shape[0], tensor.rows
    if read is None:
        return dense_weight(tensor.load(), input_shape)
    parts = (read(k, min(k + _READ, units)) for k in range(0, units, _READ))
    return _by_pixels(parts, units, input_shape)


def _by_pixels(parts: Iterable[np.ndarray], units: int, input_shape: tuple[int, ...]) -> np.ndarray:
    """Rows (K, I) in parts, one after the other -> I K."""
    *pixels, channels = input_shape
    out = np.empty((prod(pixels), channels, units), np.float32)
    first = 0
    for part in parts:
        given = part.reshape(len(part), channels, prod(pixels))
        for k in range(0, len(part), _ROWS):
            rows = given[k : k + _ROWS]
            out[:, :, first + k : first + k + len(rows)] = rows.transpose(2, 1, 0)
        first += len(part)
    return out.reshape(-1, units)  # (I, K)


def stored_convolution_weight(weight: np.ndarray) -> np.ndarray:
    """R S C/G K -> K C/G R S: the inverse of `convolution_weight`."""
    return np.ascontiguousarray(weight.transpose(3, 2, 0, 1))


def stored_dense_weight(weight: np.ndarray, input_shape: tuple[int, ...]) -> np.ndarray:
    """I K -> K I: the inverse of `dense_weight`."""
    units = weight.shape[1]
    *pixels, channels = input_shape
    given = weight.reshape(prod(pixels), channels, units)
    out = np.empty((units, channels, prod(pixels)), weight.dtype)
    for k in range(0, units, _ROWS):
        out[k : k + _ROWS] = given[:, :, k : k + _ROWS].transpose(2, 1, 0)
    return out.reshape(units, -1)  # (K, I)


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation at test time: (x - mean) / √(variance + epsilon) · scale + shift."""

    scale: np.ndarray
    shift: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Factor and shift (K,), float64: it computes factor x + shift."""
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            factor = self._factor()
            return factor, self.shift - self.mean * factor

    def folded(self, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight (K, ...) and bias (K,) of the layer before it, which then computes both."""
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            factor = self._factor()
            folded = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
            moved = (bias - self.mean) * factor + self.shift
            return folded.astype(np.float32), moved.astype(np.float32)

    def _factor(self) -> np.ndarray:
        return self.scale / np.sqrt(self.variance.astype(np.float64) + self.epsilon)
