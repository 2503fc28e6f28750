"""Augmentation beyond the paper's, on the host: warped crops, colours, erasing, MixUp.

The random draws are in `warp_draws.py`. Sampling is bilinear without an anti-aliasing filter: a
crop is at most as large as the resized image, which is hardly larger than the network's input.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from minialex.data.augment.warp_draws import Mixing, Warps
from minialex.utils.cores import usable_cores
from minialex.utils.jit import compiled

_HALF, _ONE, _MOST = np.float32(0.5), np.float32(1), np.float32(255)
_THREADED = 1 << 17  # batches of at least this many pixels are split among threads


def warp(images: np.ndarray, warps: Warps, crop: int, fill: np.ndarray) -> np.ndarray:
    """Crops of `images` according to `warps`: uint8 (N, S, S, 3) -> uint8 (N, crop, crop, 3).

    Pixels outside an image and in an erased rectangle get the colour `fill`, uint8 (3,). A warp by
    whole pixels without a colour change copies the bytes.
    """
    images = np.ascontiguousarray(images)
    out = np.empty((len(images), crop, crop, 3), np.uint8)
    drawn = (warps.affines, warps.colours, warps.holes)

    def some(rows: slice) -> None:
        _warp(images[rows], *(x[rows] for x in drawn), fill, out[rows])

    parts = 1 if out.size // 3 < _THREADED else usable_cores()
    if parts == 1:
        some(slice(0, len(images)))
        return out
    cuts = np.linspace(0, len(images), parts + 1).astype(int).tolist()
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(some, map(slice, cuts[:-1], cuts[1:])))
    return out


def mix(images: np.ndarray, mixing: Mixing) -> np.ndarray:
    """MixUp: each image of uint8 (N, ...) times its share, plus its partner times the rest."""
    out = np.empty_like(images)
    flat = (len(images), -1)
    _mix(images.reshape(flat), mixing.partner, mixing.share, out.reshape(flat))
    return out


@compiled
def _sum(pixels: Any, corners: Any, weights: Any, channel: int) -> Any:
    """The weighted sum of four pixels' values in one channel."""
    total = np.float32(0)
    for corner, weight in zip(corners, weights):  # noqa: B905  Numba has no strict
        total += weight * np.float32(pixels[np.uint64(corner + channel)])  # unsigned: no wrapping
    return total


@compiled
def _byte(value: Any) -> Any:
    """Rounded to the nearest byte."""
    return np.uint8(min(max(value + _HALF, _HALF), _MOST))


@compiled
def _mix(images: Any, partner: Any, share: Any, out: Any) -> None:
    for n in range(len(images)):
        own, other = share[n], np.float32(1) - share[n]
        mine, theirs, mixed = images[n], images[partner[n]], out[n]
        for j in range(len(mine)):
            value = own * np.float32(mine[j]) + other * np.float32(theirs[j])
            mixed[j] = np.uint8(value + np.float32(0.5))


@compiled
def _warp(images: Any, affines: Any, colours: Any, holes: Any, fill: Any, out: Any) -> None:
    """Bilinear samples at the mapped pixel centres, put through the colour matrix and rounded."""
    n_size, side, _, channels = images.shape
    crop, last, line_size = out.shape[1], side - 1, channels * side
    for n in range(n_size):
        pixels, affine, colour = images[n].reshape(-1), affines[n], colours[n]
        rr, rg, rb, r1 = colour[0]
        gr, gg, gb, g1 = colour[1]
        br, bg, bb, b1 = colour[2]
        top, left, bottom, right = holes[n]
        for v in range(crop):
            line = out[n, v].reshape(-1)
            down = np.float32(v) + _HALF
            x_line = affine[0, 1] * down + affine[0, 2]
            y_line = affine[1, 1] * down + affine[1, 2]
            hole = top <= v < bottom
            for u in range(crop):
                across = np.float32(u) + _HALF
                x, y = affine[0, 0] * across + x_line, affine[1, 0] * across + y_line
                outside = x < 0 or x > side or y < 0 or y > side
                if outside or (hole and left <= u < right):
                    for c in range(3):
                        line[3 * u + c] = fill[c]
                    continue
                x, y = x - _HALF, y - _HALF  # pixel centres lie at whole numbers now
                column, row = np.int64(x + _ONE) - 1, np.int64(y + _ONE) - 1  # rounded down
                x, y = x - np.float32(column), y - np.float32(row)
                west, east = channels * max(column, 0), channels * min(column + 1, last)
                north, south = line_size * max(row, 0), line_size * min(row + 1, last)
                se = x * y
                sw, ne = y - se, x - se
                nw = _ONE - x - sw
                corners = north + west, north + east, south + west, south + east
                weights = nw, ne, sw, se
                red = _sum(pixels, corners, weights, 0)
                green = _sum(pixels, corners, weights, 1)
                blue = _sum(pixels, corners, weights, 2)
                line[3 * u] = _byte(rr * red + rg * green + rb * blue + r1)
                line[3 * u + 1] = _byte(gr * red + gg * green + gb * blue + g1)
                line[3 * u + 2] = _byte(br * red + bg * green + bb * blue + b1)
