"""Pillow's bicubic filter on whole rows of pixels, several times as fast.

The arithmetic is Pillow's: weights of 22 bits, horizontally first, rounded to bytes in between.
The result is bit for bit that of Pillow before version 13, which filters some tall images
vertically first. Only the vertical filter vectorises well, so an image is transposed, filtered, and
transposed back.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from minialex.utils.jit import compiled

_BITS = 22
_TILE = 16  # pixels on a side of a tile that is transposed within the L1 cache


def resize_and_crop(pixels: np.ndarray, size: int) -> np.ndarray:
    """Shorter side to `size`, then a centre crop: uint8 (H, W, 3) -> uint8 (size, size, 3).

    The filter reads pixels beyond the crop, as if the whole image had been resized before.
    """
    height, width, _ = pixels.shape
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return _resized(pixels, (left, left + side), (top, top + side), size)


def squash(pixels: np.ndarray, size: int) -> np.ndarray:
    """Both sides to `size`, whatever their ratio: uint8 (H, W, 3) -> uint8 (size, size, 3)."""
    height, width, _ = pixels.shape
    return _resized(pixels, (0, width), (0, height), size)


def bilinear(pixels: np.ndarray, size: int) -> np.ndarray:
    """As torchvision's Resize and CenterCrop on Pillow images: uint8 -> uint8 (size, size, 3).

    The longer side is rounded to whole pixels, which stretches it a little, and the crop starts at
    the pixel nearest to the exact offset (the even one if two are equally near).
    """
    shorter = min(pixels.shape[:2])
    found, first = [], []
    for side in pixels.shape[:2]:
        resized = size * side // shorter
        first.append(round((resized - size) / 2))
        step = side / resized
        found.append((first[-1] * step, (first[-1] + size) * step))
    if shorter == size:
        top, left = first
        return np.array(pixels[top : top + size, left : left + size])
    rows, columns = found
    return _resized(pixels, columns, rows, size, _triangle)


def _resized(
    pixels: np.ndarray,
    columns: tuple[float, float],
    rows: tuple[float, float],
    size: int,
    kernel: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """The part of the image between two columns and two rows, as a square; bicubic by default."""
    height, width, _ = pixels.shape
    x_first, *across = _weights(width, *columns, size, kernel or _cubic)
    y_first, *down = _weights(height, *rows, size, kernel or _cubic)
    read_x = slice(int(x_first[0]), int(x_first[-1] + across[0][-1]))
    read_y = slice(int(y_first[0]), int(y_first[-1] + down[0][-1]))
    transposed = _filter(_transpose(pixels[read_y, read_x]), x_first - read_x.start, *across)
    return _filter(_transpose(transposed), y_first - read_y.start, *down)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Pillow's bicubic filter as a function of the distance in output pixels."""
    return np.where(
        distance < 1.0,
        (1.5 * distance - 2.5) * distance * distance + 1.0,
        np.where(distance < 2.0, (((distance - 5) * distance + 8) * distance - 4) * -0.5, 0.0),
    )


def _triangle(distance: np.ndarray) -> np.ndarray:
    """Pillow's bilinear filter."""
    return np.where(distance < 1.0, 1.0 - distance, 0.0)


# in output pixels when an image is reduced
_SUPPORT: dict[Callable[..., np.ndarray], float] = {_cubic: 2.0, _triangle: 1.0}


@functools.lru_cache(maxsize=256)
def _weights(
    length: int, low: float, high: float, size: int, kernel: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each output pixel: its first input pixel, how many it reads, and their weights."""
    scale = (high - low) / size
    stretch = max(scale, 1.0)
    support = _SUPPORT[kernel] * stretch
    centre = low + (np.arange(size) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    count = np.minimum((centre + support + 0.5).astype(np.int64), length) - first
    taps = np.arange(int(count.max()))
    distance = np.abs((taps + first[:, None] - centre[:, None] + 0.5) * (1.0 / stretch))
    weight = kernel(distance)
    weight[taps >= count[:, None]] = 0.0
    total = np.zeros(size)
    for tap in range(len(taps)):  # in Pillow's order of summation
        total += weight[:, tap]
    weight /= total[:, None]
    fixed = np.trunc(weight * (1 << _BITS) + np.copysign(0.5, weight)).astype(np.int32)
    return first, count, fixed


@compiled
def _transpose(source: Any) -> Any:
    """uint8 (H, W, 3) -> (W, H, 3)."""
    height, width, _ = source.shape
    out = np.empty((width, height, 3), np.uint8)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            for y in range(top, min(top + _TILE, height)):
                for x in range(left, min(left + _TILE, width)):
                    out[x, y, 0] = source[y, x, 0]
                    out[x, y, 1] = source[y, x, 1]
                    out[x, y, 2] = source[y, x, 2]
    return out


@compiled
def _filter(source: Any, first: Any, count: Any, weight: Any) -> Any:
    """Vertically: uint8 (H, W, 3) -> (rows, W, 3)."""
    height, width, _ = source.shape
    lines, n = source.reshape(height, width * 3), width * 3
    out = np.empty((len(first), n), np.uint8)
    sums = np.empty(n, np.int32)
    half = np.int32(1 << (_BITS - 1))
    for y in range(len(first)):
        for x in range(n):
            sums[x] = half
        for tap in range(count[y]):
            w, row = weight[y, tap], first[y] + tap
            for x in range(n):
                sums[x] += np.int32(w) * np.int32(lines[row, x])
        for x in range(n):
            value = sums[x] >> _BITS
            out[y, x] = 0 if value < 0 else (255 if value > 255 else value)
    return out.reshape(len(first), width, 3)
