"""Dense layers of a batch: the weights are read once, prefetched, and packed within the cache.

N batch, I inputs, O outputs. A BLAS packs both sides of a product before it multiplies. Each weight
is used only N times, so for a hundred images much of the time goes into waiting for the weights.
Here, while one block of them is multiplied, the next of the same strip is prefetched.

The images' side is packed beforehand, which is little: a product's left side as (blocks, groups of
rows, ROWS, ACROSS), its right side as (blocks, groups of columns, BLOCK, COLUMNS), with zeros for
rows and columns beyond the matrix. Sums are formed over BLOCK terms, and then added in
order, whatever the number of threads.

Weight gradients are not here: their sums over N terms are short, and a BLAS is as fast.
"""

import numpy as np
from numba import prange

from minialex.backends.base import Shape
from minialex.backends.numba import vectors
from minialex.backends.numba.claims import claim, new_claims
from minialex.backends.numba.dense_vectors import (
    ACROSS,
    BLOCK,
    COLUMNS,
    PREFETCHED,
    ROWS,
    add_product,
    pack,
    prefetch,
    set_product,
)
from minialex.backends.numba.elementwise import copy, finish
from minialex.utils.jit import compiled, threaded

MOST = 384  # images; with more, a BLAS's packing no longer matters
_NARROW = 128  # with fewer inputs or outputs, a BLAS is faster
_SMALL = 1 << 19  # with fewer weights too
_LEFT, _RIGHT = ROWS * ACROSS, BLOCK * COLUMNS  # numbers of a packed group
_GROUPS = 4  # of weights' columns in a strip, whose packed block and sums fit in the cache
_STRIP = _GROUPS * COLUMNS  # outputs
_ROWS = 8 * ROWS  # inputs in a strip
_SUMS = ROWS * COLUMNS


def worthwhile(images: int, weight: np.ndarray, *others: np.ndarray) -> bool:
    """Whether this is possible for more than a few images, and faster than a BLAS.

    Measured on AVX-512; with vectors of eight numbers, each one loaded serves only eight products.
    """
    if images > MOST or min(weight.shape) < _NARROW or weight.size < _SMALL:
        return False
    return vectors.LANES == 16 and vectors.usable(weight, *others)


def left_shape(rows: int, depth: int) -> Shape:
    """Of a product's packed left side."""
    return -(-depth // BLOCK), -(-rows // ROWS), _LEFT


def right_shape(columns: int, depth: int) -> Shape:
    """Of a product's packed right side."""
    return -(-depth // BLOCK), -(-columns // COLUMNS), _RIGHT


@threaded
def pack_left(x, packed):
    """x (N, I) as a product's left side."""
    n_size, i_size = x.shape
    blocks, groups, _ = packed.shape
    source, numbers = x.reshape(-1), packed.reshape(-1)
    for group in prange(groups):
        for block in range(blocks):
            depth = min(BLOCK, i_size - block * BLOCK)
            for row in range(ROWS):
                n, to = group * ROWS + row, (block * groups + group) * _LEFT + row * ACROSS
                if n < n_size:
                    copy(source, n * i_size + block * BLOCK, numbers, to, depth)
                else:
                    numbers[to : to + depth] = 0


@threaded
def pack_right(dy, packed):
    """dyᵀ, of dy (N, O), as a product's right side."""
    n_size, o_size = dy.shape
    blocks, groups, _ = packed.shape
    numbers = packed.reshape(-1)
    for group in prange(groups):
        for block in range(blocks):
            to, depth = (block * groups + group) * _RIGHT, min(BLOCK, o_size - block * BLOCK)
            for column in range(COLUMNS):
                n = group * COLUMNS + column
                if n < n_size:
                    for o in range(depth):
                        numbers[to + o * COLUMNS + column] = dy[n, block * BLOCK + o]
                else:
                    for o in range(depth):
                        numbers[to + o * COLUMNS + column] = 0


@compiled
def _pack_weights(w, across, row, depth, column, packed, to):
    """COLUMNS columns of `depth` rows of the flat w, `across` apart, as a product's right side."""
    wide = min(COLUMNS, across - column)
    if wide == COLUMNS:
        pack(w, row * across + column, across, depth, packed, to)
        return
    for k in range(depth):
        start = to + k * COLUMNS
        copy(w, (row + k) * across + column, packed, start, wide)
        packed[start + wide : start + COLUMNS] = 0


@compiled
def _multiply(first, left, i, right, j, depth, sums, k):
    """The sums of one block: set by the first, added to by the others."""
    if first:
        set_product(left, i, right, j, depth, sums, k)
    else:
        add_product(left, i, right, j, depth, sums, k)


@threaded
def forward(packed, weight, bias, y, relu, threads):
    """y (N, O) = x (N, I) weight (I, O) + bias (O,), from x packed as the left side."""
    (n_size, o_size), i_size, of_images = y.shape, weight.shape[0], packed.shape[1]
    left, w, out = packed.reshape(-1), weight.reshape(-1), y.reshape(-1)
    strips = (o_size + _STRIP - 1) // _STRIP
    claimed = new_claims()
    for _ in prange(threads):
        right = np.empty(_GROUPS * _RIGHT, y.dtype)
        sums = np.empty(_GROUPS * of_images * _SUMS, y.dtype)
        strip = claim(claimed)
        while strip < strips:
            first, wide = strip * _STRIP, min(_STRIP, o_size - strip * _STRIP)
            groups = (wide + COLUMNS - 1) // COLUMNS
            products = groups * of_images
            for i in range(0, i_size, BLOCK):
                depth = min(BLOCK, i_size - i)
                for group in range(groups):
                    _pack_weights(
                        w, o_size, i, depth, first + group * COLUMNS, right, group * _RIGHT
                    )
                next_rows, prefetched = min(BLOCK, i_size - i - depth), 0
                for item in range(products):
                    while prefetched * products < next_rows * (item + 1):
                        for column in range(first, first + wide, PREFETCHED):
                            prefetch(w, (i + BLOCK + prefetched) * o_size + column, o_size)
                        prefetched += ROWS
                    group, images = item // of_images, item % of_images
                    at = (i // BLOCK * of_images + images) * _LEFT
                    _multiply(i == 0, left, at, right, group * _RIGHT, depth, sums, item * _SUMS)
            for n in range(n_size):
                for group in range(groups):
                    column = group * COLUMNS
                    at, to = (group * of_images * ROWS + n) * COLUMNS, n * o_size + first + column
                    copy(sums, at, out, to, min(COLUMNS, wide - column))
                finish(out, n * o_size + first, wide, bias, first, relu)
            strip = claim(claimed)


@threaded
def input_gradient(packed, weight, dx, threads):
    """dx (N, I) = dy (N, O) weightᵀ, computed as dxᵀ, from dyᵀ packed as the right side."""
    (i_size, o_size), n_size, of_images = weight.shape, dx.shape[0], packed.shape[1]
    right, w = packed.reshape(-1), weight.reshape(-1)
    strips = (i_size + _ROWS - 1) // _ROWS
    claimed = new_claims()
    for _ in prange(threads):
        left = np.empty(_ROWS * ACROSS, dx.dtype)
        sums = np.empty(_ROWS // ROWS * of_images * _SUMS, dx.dtype)
        strip = claim(claimed)
        while strip < strips:
            first, rows = strip * _ROWS, min(_ROWS, i_size - strip * _ROWS)
            left[rows * ACROSS :] = 0
            groups = (rows + ROWS - 1) // ROWS
            products = groups * of_images
            for o in range(0, o_size, BLOCK):
                depth = min(BLOCK, o_size - o)
                for row in range(rows):
                    copy(w, (first + row) * o_size + o, left, row * ACROSS, depth)
                next_pieces = min(BLOCK, o_size - o - depth) * groups // PREFETCHED
                prefetched = 0
                for item in range(products):
                    while prefetched * products < next_pieces * (item + 1):
                        row, column = prefetched % groups * ROWS, prefetched // groups * PREFETCHED
                        prefetch(w, (first + row) * o_size + o + BLOCK + column, o_size)
                        prefetched += 1
                    images, group = item // groups, item % groups
                    at = (o // BLOCK * of_images + images) * _RIGHT
                    _multiply(o == 0, left, group * _LEFT, right, at, depth, sums, item * _SUMS)
            for n in range(n_size):
                at = n // COLUMNS * groups * _SUMS + n % COLUMNS
                for row in range(rows):
                    dx[n, first + row] = sums[at + row * COLUMNS]
            strip = claim(claimed)
