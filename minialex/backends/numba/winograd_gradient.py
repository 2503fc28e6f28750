"""The weight gradient by Winograd tiles (see winograd.py), with its sums in registers.

    du = Σ (B d Bᵀ)ᵀ (G dy Gᵀ)

For each of the 49 points this is a product of two matrices with a row per tile, and the gradient is
A du Aᵀ. The tiles of some images at a time are written in the order in which the products read
them, so that no BLAS has to rearrange them. Their sums are formed apart before they are added to
du, which loses fewer digits than one running sum. Every sum has a fixed order, whatever the number
of threads.

Letters as in winograd.py.
"""

from typing import Any

import numpy as np
from numba import prange

from minialex.backends.base import Pair
from minialex.backends.numba import winograd
from minialex.backends.numba.claims import claim, new_claims
from minialex.backends.numba.vectors import (
    LANES,
    OUTER_ROWS,
    STRIP,
    input_tile,
    kernels_of_3,
    kernels_of_5,
    outer_product,
)
from minialex.backends.numba.winograd import POINTS, TILE
from minialex.utils.jit import compiled, threaded

_BLOCK = 2 * OUTER_ROWS  # input channels whose tiles are neighbours in memory: of two products
_WHOLE = 32  # output channels: whole strips, of 8 numbers or of 32
_LEAST = 2e7  # multiplications for which threads are started
_LINE = 16  # numbers of a cache line: without it, all points of a tile would share a set
SIZES = (3, 5)  # outputs of a tile on an axis


def suitable(shape, stride: int, groups: int) -> bool:
    """Whether this is possible for weights of this shape (R, S, C/G, K)."""
    r, _, cg, k = shape
    taps = -(-r // stride)
    whole = not (stride**2 * cg % _BLOCK or k // groups % _WHOLE)
    return whole and winograd.outputs(taps) in SIZES


def gradient(
    backend: Any,
    x: np.ndarray,
    dy: np.ndarray,
    du: np.ndarray,
    stride: int,
    corner: Pair,
    size: int,
    groups: int,
) -> None:
    """du (49, T T C/G, K) by the threads of `backend`; tiles have `size` x `size` outputs."""
    (n, p, q, k), channels = dy.shape, du.shape[1]
    high, wide, kg, threads = -(-p // size), -(-q // size), k // groups, backend.threads
    # twice as many numbers of tiles as sums: both have to be read and written for each slice
    enough = max(2 * channels * k / (groups * channels + k), _LEAST / (POINTS * channels * k))
    rows = min(n, max(1, round(enough / (high * wide)))) * high
    tiles, new = rows * wide, backend._new
    room = (
        new((groups, POINTS, channels * tiles + _LINE), x),
        new((groups, POINTS, kg * tiles + _LINE), x),
        new((threads, TILE, size * (wide - 1) + TILE, channels), x),
        new((threads, size, size * wide, kg), x),
    )
    backend._run(weight_gradient, x, dy, du, stride, corner, size, groups, rows, room)


@threaded
def weight_gradient(x, dy, du, stride, pad, size, groups, rows, room):
    """du (49, T T C/G, K) from x (N, H, W, C) and dy (N, P, Q, K), `rows` of tiles at a time.

    `room` has the tiles of x and of dy, and for each thread the inputs of a row of each.
    """
    n_size, p_size, q_size, k_size = dy.shape
    high, wide = (p_size + size - 1) // size, (q_size + size - 1) // size
    v, w, strips, strips_below = room
    lines, tiles = n_size * high, rows * wide
    for first in range(0, lines, rows):
        count = min(rows, lines - first)
        claimed = new_claims()
        for t in prange(len(strips)):
            item = claim(claimed)
            while item < count * groups:
                group, i = item % groups, item // groups
                n, row = (first + i) // high, (first + i) % high
                winograd.cut(x, n, row * size, stride, pad, group, groups, strips[t])
                _tiles(strips[t], size, wide, tiles, _BLOCK, True, v[group], i * wide)
                winograd.cut(dy, n, row * size, 1, (0, 0), group, groups, strips_below[t])
                _tiles(strips_below[t], size, wide, tiles, STRIP, False, w[group], i * wide)
                item = claim(claimed)
        claimed = new_claims()
        for _ in prange(len(strips)):
            item = claim(claimed)
            while item < POINTS * groups:
                group, point = item % groups, item // groups
                start = group * (k_size // groups)
                _products(
                    v[group, point],
                    w[group, point],
                    tiles,
                    count * wide,
                    du[point],
                    start,
                    k_size // groups,
                    first > 0,
                )
                item = claim(claimed)


@compiled
def _tiles(strip, size, wide, tiles, block, of_x, v, first):
    """v (49, C / block, tiles, block): the transformed tiles of a row, from tile `first` on."""
    _, columns, channels = strip.shape
    numbers, out, down = strip.reshape(-1), v.reshape(-1), columns * channels
    for column in range(wide):
        for c in range(0, channels, LANES):
            at = column * size * channels + c
            to = (c // block * tiles + first + column) * block + c % block
            if of_x:
                input_tile(numbers, at, down, channels, out, to, v.shape[1])
            elif size == 3:
                kernels_of_3(numbers, at, down, channels, out, to, v.shape[1])
            else:
                kernels_of_5(numbers, at, down, channels, out, to, v.shape[1])


@compiled
def _products(v, w, tiles, count, du, start, columns, add):
    """du (C, K)[:, start:] = vᵀ w over the first `count` tiles, or += that."""
    out, k_size = du.reshape(-1), du.shape[1]
    for k in range(0, columns, STRIP):
        for c in range(0, len(du), OUTER_ROWS):
            at = c // _BLOCK * tiles * _BLOCK + c % _BLOCK
            to = c * k_size + start + k
            outer_product(v, at, w, k * tiles, count, out, to, k_size, add)
