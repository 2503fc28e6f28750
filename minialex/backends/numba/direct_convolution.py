"""Direct convolution, with its sums in registers, for layers of few channels.

Tiles save no multiplications in a first layer of three channels, and columns copy each number 25
times for a kernel of 5 x 5. Here an image is copied once, into a frame of zeros, so that a row of
any window is contiguous and is multiplied where it lies. Every sum has a fixed order, with fused
multiply-adds, so the bits do not depend on the width of the vectors.

Letters as in convolution.py.
"""

from math import prod

import numpy as np
from numba import prange

from minialex.backends.base import Pair
from minialex.backends.numba.claims import claim, new_claims
from minialex.backends.numba.direct_vectors import (
    COLUMNS,
    LINE,
    SHORT_LINE,
    line_of_7,
    line_of_8,
    slopes_of_8,
)
from minialex.backends.numba.elementwise import copy
from minialex.utils.jit import compiled, inlined, threaded

_LONGEST = 1024  # numbers of a window; longer ones were not compared with columns
IMAGES = 8  # fewest, which threads divide
AT_ONCE = 1 << 16  # numbers of dy that stay in the cache while those of a window pass
_WHOLE = 32  # channels out, whatever a vector holds: the same layers everywhere


def worthwhile(images: int, weight_shape: tuple[int, ...], output: Pair, groups: int) -> bool:
    """Whether channels out are whole vectors, rows long enough, and windows small."""
    r, s, cg, k = weight_shape
    whole = k % groups == 0 and k // groups % _WHOLE == 0
    return images >= IMAGES and whole and output[1] >= SHORT_LINE and r * s * cg <= _LONGEST


def frame_shape(kernel: Pair, stride: Pair, output: Pair, channels: int) -> tuple[int, int, int]:
    """The rows and columns that windows see, with their padding, and a group's channels."""
    rows, columns = (
        (count - 1) * step + extent
        for count, step, extent in zip(output, stride, kernel, strict=True)
    )
    return rows, columns, channels


def frames(count: int, shape: tuple[int, int, int], like: np.ndarray) -> np.ndarray:
    """Frames of zeros (count, numbers); the last line of a window may end behind its frame."""
    return np.zeros((count, prod(shape) + LINE), like.dtype)


def window_row(kernel: Pair, channels: int) -> int:
    """Numbers of a window's row, in whole lines."""
    return -(-kernel[1] * channels // LINE) * LINE


@threaded
def forward(x, weights, bias, floor, y, frames, shape, kernel, stride, pad, groups):
    """y (N, P, Q, K) from x (N, H, W, C) and weights (L, K), in frames of this shape."""
    n_size, p_size, q_size, k_size = y.shape
    _, wide, cg = shape
    kg, depth = k_size // groups, kernel[1] * cg
    numbers, flat, right = y.reshape(-1), weights.reshape(-1), stride[1] * cg
    short = _is_short(q_size)
    block = SHORT_LINE if short else LINE
    claimed = new_claims()
    for t in prange(len(frames)):
        frame = frames[t]
        item = claim(claimed)
        while item < n_size * groups:
            n, g = item // groups, item % groups
            _fill(x[n], g * cg, frame, shape, pad)
            for p in range(p_size):
                for q in range(0, q_size, block):
                    first = min(q, q_size - block)  # some twice rather than fewer at once
                    at = (p * stride[0] * wide + first * stride[1]) * cg
                    to = ((n * p_size + p) * q_size + first) * k_size
                    for k in range(g * kg, (g + 1) * kg, COLUMNS):
                        _compute(
                            short,
                            frame,
                            at,
                            wide * cg,
                            right,
                            kernel[0],
                            depth,
                            flat,
                            k,
                            k_size,
                            bias,
                            floor,
                            numbers,
                            to + k,
                        )
            item = claim(claimed)


@threaded
def weight_gradient(x, dy, dw, frames, shape, kernel, stride, pad, groups, at_once):
    """dw (shares, R, numbers of a window's row, K), partial sums, of some rows of dy at once."""
    n_size, p_size, q_size, k_size = dy.shape
    _, wide, cg = shape
    kg, across = k_size // groups, dw.shape[2]
    slopes = dy.reshape(-1)
    for t in prange(len(dw)):
        frame, sums = frames[t], dw[t].reshape(-1)
        sums[:] = 0
        for item in range(t, n_size * groups, len(dw)):
            n, g = item // groups, item % groups
            _fill(x[n], g * cg, frame, shape, pad)
            for p in range(0, p_size, at_once):
                count = min(at_once, p_size - p)
                start = (n * p_size + p) * q_size * k_size
                for r in range(kernel[0]):
                    at = (p * stride[0] + r) * wide * cg
                    for j in range(0, across, LINE):
                        for k in range(g * kg, (g + 1) * kg, COLUMNS):
                            slopes_of_8(
                                frame,
                                at + j,
                                stride[0] * wide * cg,
                                stride[1] * cg,
                                slopes,
                                start + k,
                                k_size,
                                count,
                                q_size,
                                sums,
                                (r * across + j) * k_size + k,
                                k_size,
                            )


@inlined
def _compute(short, x, i, down, right, rows, depth, w, k, step, bias, floor, y, to):
    """y[to:] for 8 or 7 pixels of a row, see `vectors`."""
    if short:
        line_of_7(x, i, down, right, rows, depth, w, k, step, bias, k, floor, y, to, step)
    else:
        line_of_8(x, i, down, right, rows, depth, w, k, step, bias, k, floor, y, to, step)


@compiled
def _is_short(q_size):
    """Whether lines of seven compute fewer pixels of a row twice."""
    in_lines = (q_size + LINE - 1) // LINE * LINE
    return q_size < LINE or (q_size + SHORT_LINE - 1) // SHORT_LINE * SHORT_LINE < in_lines


@compiled
def _fill(x, c0, frame, shape, pad):
    """The pixels of x (H, W, C) that a frame of this shape has, from channel c0 on."""
    h_size, w_size, c_size = x.shape
    rows, wide, cg = shape
    numbers = x.reshape(-1)
    first, end = max(0, -pad[1]), min(w_size, wide - pad[1])
    for h in range(max(0, -pad[0]), min(h_size, rows - pad[0])):
        start, to = (h * w_size + first) * c_size + c0, ((h + pad[0]) * wide + first + pad[1]) * cg
        if cg == c_size:
            copy(numbers, start, frame, to, (end - first) * cg)
        else:
            for w in range(end - first):
                copy(numbers, start + w * c_size, frame, to + w * cg, cg)
