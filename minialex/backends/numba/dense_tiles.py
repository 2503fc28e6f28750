"""Dense layers of a batch: the weights go through the caches once, and are called for in time.

N batch, I inputs, O outputs. A BLAS rearranges both sides of a product before it multiplies. For a
hundred images that costs a sixth of the time or more, as most of it goes into waiting for the
weights, of which each is used only N times. Here, while one block of the weights is multiplied, the
next is called for; it is then rearranged within the cache. The images' side is rearranged
beforehand, which is little.

A product's left side is stored as tiles (blocks of the depth, tiles, HIGH, ACROSS), its right side
as panels (blocks, panels, DEPTH, COLUMNS); beyond the edges of the matrices are zeros. Every sum is
formed in the same order whatever the number of threads: DEPTH terms at a time, then these sums.
"""

from collections.abc import Callable

import numpy as np
from numba import prange

from minialex.backends.numba import vectors
from minialex.backends.numba.claims import claim, new_claims
from minialex.backends.numba.dense_vectors import (
    ACROSS,
    COLUMNS,
    DEPTH,
    FETCHED,
    HIGH,
    add_tile,
    copy_panel,
    fetch,
    set_tile,
)
from minialex.backends.numba.elementwise import copy, finish
from minialex.utils.jit import compiled, threaded

_IMAGES = range(17, 385)  # with more, what a BLAS does beforehand no longer matters
_NARROW, _SMALL = (
    128,
    1 << 19,
)  # rows or columns, and numbers, of weights for which a BLAS is faster
_TILE, _PANEL = HIGH * ACROSS, DEPTH * COLUMNS  # numbers
_PANELS = FETCHED // COLUMNS  # of weights at once: with their sums, they stay in the cache
_TILES = 8  # the same for rows of weights
_SUMS = HIGH * COLUMNS

Run = Callable[..., None]
New = Callable[..., np.ndarray]


def worthwhile(images: int, weight: np.ndarray, *others: np.ndarray) -> bool:
    """Whether tiles are made for these arrays, and faster than a BLAS.

    With vectors of eight numbers, there are too few registers for it.
    """
    if images not in _IMAGES or min(weight.shape) < _NARROW or weight.size < _SMALL:
        return False
    return vectors.LANES == 16 and vectors.usable(weight, *others)


def forward(run: Run, new: New, x, weight, bias, y, relu: bool, threads: int) -> None:
    """y (N, O) = x (N, I) weight (I, O) + bias (O,)."""
    tiles = new((_blocks(x.shape[1]), -(-len(x) // HIGH), _TILE), x)
    run(tiles_of_rows, x, tiles)
    run(_forward, tiles, weight, bias, y, relu, threads)


def input_gradient(run: Run, new: New, dy, weight, dx, threads: int) -> None:
    """dx (N, I) = dy (N, O) weightᵀ."""
    panels = new((_blocks(dy.shape[1]), -(-len(dy) // COLUMNS), _PANEL), dy)
    run(panels_of_columns, dy, panels)
    run(_input_gradient, panels, weight, dx, threads)


def _blocks(depth: int) -> int:
    return -(-depth // DEPTH)


@threaded
def tiles_of_rows(x, tiles):
    """The rows of x (R, K)."""
    rows, depth = x.shape
    blocks, count, _ = tiles.shape
    source, there = x.reshape(-1), tiles.reshape(-1)
    for t in prange(count):
        for block in range(blocks):
            some = min(DEPTH, depth - block * DEPTH)
            for m in range(HIGH):
                row, to = t * HIGH + m, (block * count + t) * _TILE + m * ACROSS
                if row < rows:
                    copy(source, row * depth + block * DEPTH, there, to, some)
                else:
                    there[to : to + some] = 0


@threaded
def panels_of_columns(x, panels):
    """Columns that are the rows of x (C, K)."""
    columns, depth = x.shape
    blocks, count, _ = panels.shape
    there = panels.reshape(-1)
    for p in prange(count):
        for block in range(blocks):
            to = (block * count + p) * _PANEL
            for c in range(COLUMNS):
                column = p * COLUMNS + c
                for k in range(min(DEPTH, depth - block * DEPTH)):
                    inside = column < columns
                    there[to + k * COLUMNS + c] = x[column, block * DEPTH + k] if inside else 0


@compiled
def _panel(x, across, row, depth, column, panels, to):
    """The columns from `column` of `depth` rows of the flat x, `across` apart, as one panel."""
    some = min(COLUMNS, across - column)
    if some == COLUMNS:
        copy_panel(x, row * across + column, across, depth, panels, to)
        return
    for k in range(depth):
        start = to + k * COLUMNS
        copy(x, (row + k) * across + column, panels, start, some)
        panels[start + some : start + COLUMNS] = 0


@compiled
def _multiply(first, tiles, i, panels, j, depth, sums, k, step):
    """A tile of sums of one block: set by the first, added to by the others."""
    if first:
        set_tile(tiles, i, panels, j, depth, sums, k, step)
    else:
        add_tile(tiles, i, panels, j, depth, sums, k, step)


@threaded
def _forward(tiles, weight, bias, y, relu, threads):
    (n_size, outputs), inputs, count = y.shape, weight.shape[0], tiles.shape[1]
    left, w, out = tiles.reshape(-1), weight.reshape(-1), y.reshape(-1)
    strips = (outputs + FETCHED - 1) // FETCHED
    claimed = new_claims()
    for _ in prange(threads):
        panels, sums = (
            np.empty(_PANELS * _PANEL, y.dtype),
            np.empty(_PANELS * count * _SUMS, y.dtype),
        )
        strip = claim(claimed)
        while strip < strips:
            begun, wide = strip * FETCHED, min(FETCHED, outputs - strip * FETCHED)
            there = (wide + COLUMNS - 1) // COLUMNS
            for k in range(0, inputs, DEPTH):
                depth = min(DEPTH, inputs - k)
                for p in range(there):
                    _panel(w, outputs, k, depth, begun + p * COLUMNS, panels, p * _PANEL)
                called, following = 0, min(DEPTH, inputs - k - depth)
                for item in range(there * count):
                    while called * there * count < following * (item + 1):
                        fetch(w, (k + DEPTH + called) * outputs + begun, outputs)
                        called += HIGH
                    p, t = item // count, item % count
                    at = (k // DEPTH * count + t) * _TILE
                    _multiply(
                        k == 0, left, at, panels, p * _PANEL, depth, sums, item * _SUMS, COLUMNS
                    )
            for n in range(n_size):
                for p in range(there):
                    to, some = n * outputs + begun + p * COLUMNS, min(COLUMNS, wide - p * COLUMNS)
                    copy(sums, (p * count * HIGH + n) * COLUMNS, out, to, some)
                finish(out, n * outputs + begun, wide, bias, begun, relu)
            strip = claim(claimed)


@threaded
def _input_gradient(panels, weight, dx, threads):
    (inputs, outputs), n_size, count = weight.shape, dx.shape[0], panels.shape[1]
    right, w = panels.reshape(-1), weight.reshape(-1)
    strips = (inputs + _TILES * HIGH - 1) // (_TILES * HIGH)
    claimed = new_claims()
    for _ in prange(threads):
        tiles, sums = np.empty(_TILES * _TILE, dx.dtype), np.empty(_TILES * count * _SUMS, dx.dtype)
        strip = claim(claimed)
        while strip < strips:
            begun = strip * _TILES * HIGH
            rows = min(_TILES * HIGH, inputs - begun)
            tiles[rows * ACROSS :] = 0
            there = (rows + HIGH - 1) // HIGH
            for k in range(0, outputs, DEPTH):
                depth = min(DEPTH, outputs - k)
                for row in range(rows):
                    copy(w, (begun + row) * outputs + k, tiles, row * ACROSS, depth)
                called, following = 0, min(DEPTH, outputs - k - depth) * there // FETCHED
                for item in range(there * count):
                    while called * there * count < following * (item + 1):
                        row, column = called % there * HIGH, called // there * FETCHED
                        fetch(w, (begun + row) * outputs + k + DEPTH + column, outputs)
                        called += 1
                    p, t = item // there, item % there
                    at = (k // DEPTH * count + p) * _PANEL
                    _multiply(
                        k == 0, tiles, t * _TILE, right, at, depth, sums, item * _SUMS, COLUMNS
                    )
            for n in range(n_size):
                at = n // COLUMNS * there * _SUMS + n % COLUMNS
                for row in range(rows):
                    dx[n, begun + row] = sums[at + row * COLUMNS]
            strip = claim(claimed)
