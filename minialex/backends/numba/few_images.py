"""Convolution of one image or a few: threads divide the output channels, not the images.

A single image has few Winograd tiles (see winograd.py), so a transformed kernel is used only a few
times. It is therefore not stored: a thread transforms the kernels of 64 input and 32 output
channels into its cache, multiplies all tiles by them, and goes on to the next 64. The sums of nine
tiles, a panel, stay in registers (see vectors.py). Every sum has a fixed order, so the bits do not
depend on the number of threads.

Letters: N batch, H W input, K channels out, P Q output, G groups, R the kernel's size; with a
stride of T, each block of T x T pixels is one pixel, whose T T C/G channels are called C here.
"""

from collections.abc import Callable
from math import prod

import numpy as np

from minialex.backends.base import Pair
from minialex.backends.numba import winograd
from minialex.backends.numba.elementwise import copy
from minialex.backends.numba.team import await_all, await_next, begin, claim_item, finish_item
from minialex.backends.numba.vectors import (
    DEPTH,
    LANES,
    ROWS,
    WIDE,
    input_tile,
    kernels_of_3,
    kernels_of_5,
    outputs_of_3,
    outputs_of_5,
    product,
    touch,
)
from minialex.backends.numba.winograd import POINTS, TILE
from minialex.utils.jit import compiled

IMAGES = 4  # with more, the tiles of whole images are faster
_BLOCK = 32  # output channels that a thread computes at once
_LINE = 16  # numbers of a cache line
_WHOLE = 16  # output channels: whole vectors, of 8 numbers or of 16
_PLANE = DEPTH * _BLOCK + _LINE  # of one point's kernels; without the line, all would share a set
_SUMS = POINTS * ROWS * _BLOCK  # of a panel
_PANEL = POINTS * ROWS * DEPTH  # numbers of its inputs
_PANELS = 9  # at once: the sums of more would not stay in the cache
_TRANSFORM = {3: 200, 5: 500}  # time of a kernel's transform, in multiplications


def worthwhile(images: int, weight_shape, output, stride, groups: int) -> bool:
    """Whether this is possible, and faster than plain sums."""
    r, s, cg, k = weight_shape
    taps, channels = -(-r // stride[0]), cg * stride[0] ** 2
    if r != s or stride[0] != stride[1] or taps not in _TRANSFORM or k // groups % _WHOLE:
        return False
    tiles = images * prod(-(-extent // winograd.outputs(taps)) for extent in output)
    multiplied = -(-tiles // ROWS) * ROWS * POINTS + _TRANSFORM[taps]
    return 1.5 * multiplied * channels < images * prod(output) * r * s * cg


def convolution(
    run: Callable[..., None],
    new: Callable[..., np.ndarray],
    threads: int,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    y: np.ndarray,
    stride: int,
    corner: Pair,
    groups: int,
    relu: bool,
) -> None:
    """Into y, with `corner` zeros above and to the left; `run` starts a kernel, `new` an array."""
    weight = winograd.over_phases(weight, stride)
    (n, p, q, k), (taps, _, channels, _) = y.shape, weight.shape
    size = winograd.outputs(taps)
    high, wide = -(-p // size), -(-q // size)
    panels, depths = -(-n * high * wide // ROWS), -(-channels // DEPTH)
    blocks = groups * -(-k // groups // _BLOCK)
    parts = max(-(-panels // _PANELS), min(panels, -(-2 * threads // blocks)))
    chunk = -(-panels // parts)
    extents = size * (high - 1) + TILE, size * (wide - 1) + TILE
    padded = new((n, *extents, groups, depths * DEPTH), x)
    panel = new((groups * depths * panels * _PANEL,), x)
    u, m = new((threads, POINTS * _PLANE), x), new((threads, chunk * _SUMS), x)
    floor = np.array([0 if relu else -np.inf], x.dtype)
    run(forward, x, weight, bias, floor, y, stride, corner, groups, chunk, padded, panel, u, m)


@compiled
def forward(job, x, weight, bias, floor, y, stride, pad, groups, chunk, padded, v, u_all, m_all):
    """y (N, P, Q, K) from x (N, H, W, C) and weight (R, R, C, K), `chunk` panels at once.

    Outputs are at least `floor`: 0 for a ReLU, or minus infinity. The others are room: padded
    (N, H, W, G, C) for the input, v (G, C / 64, panels, 49, 9, 64) for its tiles, and for each
    worker one for kernels and one for the sums of its panels.
    """
    begin(job)
    n_size, p_size, q_size, k_size = y.shape
    taps, _, channels, _ = weight.shape
    size, kg = TILE + 1 - taps, k_size // groups
    high, wide = (p_size + size - 1) // size, (q_size + size - 1) // size
    tiles, depths = n_size * high * wide, padded.shape[4] // DEPTH
    panels = (tiles + ROWS - 1) // ROWS
    blocks, chunks = (kg + _BLOCK - 1) // _BLOCK, (panels + chunk - 1) // chunk
    kernels, out, height = weight.reshape(-1), y.reshape(-1), padded.shape[1]
    u, m = u_all[job.worker], m_all[job.worker]

    lines = n_size * height
    item = claim_item(job.counts[0])
    while item < lines:
        _pad(x, item // height, item % height, stride, pad, channels, padded)
        finish_item(job.counts[0])
        item = claim_item(job.counts[0])
    await_all(job.counts[0], lines)

    items = groups * depths * panels
    item = claim_item(job.counts[1])
    while item < items:
        # what follows reads a few columns at a time, which takes long from memory
        for k in range(len(kernels) * item // items, len(kernels) * (item + 1) // items, _LINE):
            touch(kernels, k)
        group, d, panel = item // panels // depths, item // panels % depths, item % panels
        for row in range(ROWS):
            tile = min(panel * ROWS + row, tiles - 1)  # the last panel may have fewer
            n, i, j = tile // (high * wide), tile // wide % high * size, tile % wide * size
            _tile(padded, n, i, j, group, d, channels, v, item * _PANEL + row * DEPTH)
        finish_item(job.counts[1])
        item = claim_item(job.counts[1])
    await_all(job.counts[1], items)

    items = groups * chunks * blocks
    item = claim_item(job.counts[2])
    while item < items:
        block, part, group = item % blocks, item // blocks % chunks, item // blocks // chunks
        k0, k1 = group * kg + block * _BLOCK, group * kg + min(kg, (block + 1) * _BLOCK)
        p0, p1 = part * chunk, min(panels, (part + 1) * chunk)
        m[: (p1 - p0) * _SUMS] = 0
        for d in range(depths):
            c0, c1 = d * DEPTH, min(channels, (d + 1) * DEPTH)
            _transform(kernels, taps, channels, c0, c1, k_size, k0, k1, u)
            for p in range(p0, p1):
                at = ((group * depths + d) * panels + p) * _PANEL
                _multiply(v, at, u, c1 - c0, m, (p - p0) * _SUMS)
        for tile in range(p0 * ROWS, min(tiles, p1 * ROWS)):
            n, i, j = tile // (high * wide) * p_size, tile // wide % high * size, tile % wide * size
            at = (tile // ROWS - p0) * _SUMS + tile % ROWS * _BLOCK
            to, inside = ((n + i) * q_size + j) * k_size, (p_size - i, q_size - j)
            _finish(m, at, taps, bias, k0, k1, floor, out, to, q_size * k_size, k_size, inside)
        finish_item(job.counts[2])
        item = claim_item(job.counts[2])
    await_all(job.counts[2], items)
    await_next(job)


@compiled
def _pad(x, n, i, stride, pad, channels, padded):
    """Row i of image n in blocks of T x T pixels, each group's channels together, zeros outside."""
    _, h_size, w_size, c_size = x.shape
    _, height, width, groups, room = padded.shape
    cg, numbers, there = c_size // groups, x.reshape(-1), padded.reshape(-1)
    run = stride * cg
    for j in range(width):
        w = j * stride - pad[1]
        for group in range(groups):
            first = (((n * height + i) * width + j) * groups + group) * room
            there[first + channels : first + room] = 0
            for below in range(stride):
                h, to = i * stride + below - pad[0], first + below * run
                start = ((n * h_size + h) * w_size + w) * c_size + group * cg
                if h < 0 or h >= h_size:
                    there[to : to + run] = 0
                elif groups == 1 and w >= 0 and w + stride <= w_size:
                    copy(numbers, start, there, to, run)
                else:
                    for s in range(stride):
                        if 0 <= w + s < w_size:
                            copy(numbers, start + s * c_size, there, to + s * cg, cg)
                        else:
                            there[to + s * cg : to + (s + 1) * cg] = 0


@compiled
def _tile(padded, n, i, j, group, d, channels, v, to):
    """The tile of image n at row i and column j, 64 of its channels, into one row of a panel."""
    _, height, width, groups, room = padded.shape
    pixel = groups * room
    at = ((n * height + i) * width + j) * pixel + group * room + d * DEPTH
    for c in range(0, min(DEPTH, channels - d * DEPTH), LANES):
        step = ROWS * DEPTH
        input_tile(padded.reshape(-1), at + c, width * pixel, pixel, v, to + c, step)


@compiled
def _transform(kernels, taps, channels, c0, c1, k_size, k0, k1, u):
    """u (49, strips, 64, channels of a strip): the kernels of some channels."""
    plane = channels * k_size
    for c in range(c0, c1):
        for k in range(k0, k1, LANES):
            strip, lane = (k - k0) // (WIDE * LANES), (k - k0) % (WIDE * LANES)
            at, to = c * k_size + k, (strip * DEPTH + c - c0) * WIDE * LANES + lane
            if taps == 3:
                kernels_of_3(kernels, at, 3 * plane, plane, u, to, _PLANE)
            else:
                kernels_of_5(kernels, at, 5 * plane, plane, u, to, _PLANE)


@compiled
def _multiply(v, at, u, depth, m, to):
    """m (49, 9, 32) += v (49, 9, 64) u (49, 64, 32), for each of the 49 points."""
    for point in range(POINTS):
        a, c = at + point * ROWS * DEPTH, to + point * ROWS * _BLOCK
        for k in range(0, _BLOCK, WIDE * LANES):
            product(v, a, u, point * _PLANE + k * DEPTH, depth, m, c + k, _BLOCK)


@compiled
def _finish(m, at, taps, bias, k0, k1, floor, y, to, down, right, inside):
    """The outputs of one tile that are inside the image."""
    step, (rows, columns) = ROWS * _BLOCK, inside
    for k in range(k0, k1, LANES):
        first = at + k - k0
        if taps == 3:
            outputs_of_3(m, first, step, bias, k, floor, y, to + k, down, right, rows, columns)
        else:
            outputs_of_5(m, first, step, bias, k, floor, y, to + k, down, right, rows, columns)
