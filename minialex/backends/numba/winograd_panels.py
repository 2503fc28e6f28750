"""Winograd tiles in panels of nine, whose kernels are transformed in the cache.

A single image has few tiles (see winograd.py), so a transformed kernel is used only a few times.
It is therefore not stored: a thread transforms the kernels of 64 input and 32 output channels into
its cache, multiplies all tiles by them, and goes on to the next 64. The sums of nine tiles, a
panel, stay in registers (see vectors.py). Every sum has a fixed order, so the bits do not depend on
the number of threads.

Of one image or a few, threads divide the output channels. Of more, each thread takes some images
at a time, as many as its caches hold the tiles of: this is faster than the products of a BLAS,
which need all transformed kernels and sums in memory, except for 5 x 5 kernels.

Letters: N batch, H W input, K channels out, P Q output, G groups, R the kernel's size; with a
stride of T, each block of T x T pixels is one pixel, whose T T C/G channels are called C here.
"""

from math import prod
from typing import Any

import numpy as np
from numba import prange

from minialex.backends.base import Pair
from minialex.backends.numba import winograd
from minialex.backends.numba.claims import claim, new_claims
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
from minialex.utils.jit import compiled, threaded

FEW = 4  # images at test time, up to which `worthwhile` decides; else it is `suitable`
_BLOCK = 32  # output channels that a thread computes at once
_LINE = 16  # numbers of a cache line
_WHOLE = 16  # output channels: whole vectors, of 8 numbers or of 16
_PLANE = DEPTH * _BLOCK + _LINE  # of one point's kernels; without the line, all would share a set
_SUMS = POINTS * ROWS * _BLOCK  # of a panel
_PANEL = POINTS * ROWS * DEPTH  # numbers of its inputs
_PANELS = 9  # at once: the sums of more would not stay in the cache
_BUSY = 0.8  # the least share of the threads' time for which each takes images of its own
_MOST = {
    3: 2**31 if LANES == 16 else 16,
    5: 8,
}  # images, beyond which tiles of whole ones are faster
_FEWEST, _FILLED = 32, 0.8  # channels, and their share of several panels, that are worth the others
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


def suitable(images: int, weight_shape, output, stride: int, groups: int) -> bool:
    """Whether these beat products of tiles by a BLAS (winograd.py), which are possible."""
    r, _, cg, k = weight_shape
    taps, channels = -(-r // stride), cg * stride**2
    room = -(-channels // DEPTH) * DEPTH
    filled = _FEWEST <= channels <= DEPTH or channels >= _FILLED * room
    if taps not in _MOST or k // groups % _WHOLE or not filled:
        return False
    tiles = prod(-(-extent // winograd.outputs(taps)) for extent in output)
    return images <= _MOST[taps] and tiles <= 2 * _PANELS * ROWS


def convolution(
    backend: Any,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    y: np.ndarray,
    stride: int,
    corner: Pair,
    groups: int,
    relu: bool,
) -> None:
    """Into y by the threads of `backend`, with `corner` zeros above and to the left."""
    weight, threads = winograd.over_phases(weight, stride), backend.threads
    (n, p, q, k), (taps, _, channels, _) = y.shape, weight.shape
    size = winograd.outputs(taps)
    tiles, depths = -(-p // size) * -(-q // size), -(-channels // DEPTH)
    height, width = (size * (-(-extent // size) - 1) + TILE for extent in (p, q))
    floor = np.array([0 if relu else -np.inf], x.dtype)
    at_once = max(1, _PANELS * ROWS // tiles)
    rounds = -(-n // (at_once * threads))
    share = -(-n // (rounds * threads))
    by_images = n >= at_once * threads and n >= _BUSY * share * rounds * threads
    at_once = share if by_images else n
    panels, blocks = -(-at_once * tiles // ROWS), groups * -(-k // groups // _BLOCK)
    parts = -(-panels // _PANELS)
    if not by_images:
        parts = max(parts, min(panels, -(-2 * threads // blocks)))
    chunk, workers = -(-panels // parts), threads if by_images else 1
    padded = backend._new((workers, at_once, height, width, groups, depths * DEPTH), x)
    v = backend._new((workers, groups * depths * panels * _PANEL), x)
    u, m = (backend._new((threads, count), x) for count in (POINTS * _PLANE, chunk * _SUMS))
    given = (x, weight, bias, floor, y, stride, corner, groups, chunk)
    if by_images:
        backend._run(forward_by_images, *given, at_once, padded, v, u, m)
    else:
        backend._as_team(forward, *given, padded[0], v[0], u, m)


@compiled
def forward(job, x, weight, bias, floor, y, stride, pad, groups, chunk, padded, v, u, m):
    """y (N, P, Q, K) from x (N, H, W, C) and weight (R, R, C, K), `chunk` panels at once.

    Outputs are at least `floor`: 0 for a ReLU, or minus infinity. The others are room: padded
    (N, H, W, G, C) for the input, v (G, C / 64, panels, 49, 9, 64) for its tiles, and for each
    worker one for kernels and one for the sums of its panels.
    """
    begin(job)
    lines, items, blocks = _counts(len(x), weight.shape, y.shape, groups, chunk, padded.shape)
    item = claim_item(job.counts[0])
    while item < lines:
        _pad(x, item, stride, pad, weight.shape[2], padded)
        finish_item(job.counts[0])
        item = claim_item(job.counts[0])
    await_all(job.counts[0], lines)

    kernels = weight.reshape(-1)
    item = claim_item(job.counts[1])
    while item < items:
        # what follows reads a few columns at a time, which takes long from memory
        for k in range(len(kernels) * item // items, len(kernels) * (item + 1) // items, _LINE):
            touch(kernels, k)
        _panel(padded, weight.shape, y.shape, groups, v, item)
        finish_item(job.counts[1])
        item = claim_item(job.counts[1])
    await_all(job.counts[1], items)

    item = claim_item(job.counts[2])
    while item < blocks:
        _block(v, weight, bias, floor, y, groups, chunk, u[job.worker], m[job.worker], item)
        finish_item(job.counts[2])
        item = claim_item(job.counts[2])
    await_all(job.counts[2], blocks)
    await_next(job)


@threaded
def forward_by_images(
    x, weight, bias, floor, y, stride, pad, groups, chunk, at_once, padded, v, u, m
):
    """The same for many images, `at_once` by a thread, with room for each thread."""
    slices = (len(x) + at_once - 1) // at_once
    claimed = new_claims()
    for t in prange(len(padded)):
        part = claim(claimed)
        while part < slices:
            first, end = part * at_once, min(len(x), (part + 1) * at_once)
            images, outputs, frame = x[first:end], y[first:end], padded[t, : end - first]
            counts = _counts(len(images), weight.shape, outputs.shape, groups, chunk, frame.shape)
            for item in range(counts[0]):
                _pad(images, item, stride, pad, weight.shape[2], frame)
            for item in range(counts[1]):
                _panel(frame, weight.shape, outputs.shape, groups, v[t], item)
            for item in range(counts[2]):
                _block(v[t], weight, bias, floor, outputs, groups, chunk, u[t], m[t], item)
            part = claim(claimed)


@compiled
def _geometry(weight_shape, y_shape):
    """The outputs of a tile on an axis, tiles above each other, tiles of an image, panels."""
    n_size, p_size, q_size, _ = y_shape
    size = TILE + 1 - weight_shape[0]
    high, wide = (p_size + size - 1) // size, (q_size + size - 1) // size
    return size, high, wide, (n_size * high * wide + ROWS - 1) // ROWS


@compiled
def _counts(images, weight_shape, y_shape, groups, chunk, padded_shape):
    """How many lines are padded, panels filled and blocks of outputs computed."""
    panels = _geometry(weight_shape, y_shape)[3]
    depths, blocks = padded_shape[4] // DEPTH, (y_shape[3] // groups + _BLOCK - 1) // _BLOCK
    chunks = (panels + chunk - 1) // chunk
    return images * padded_shape[1], groups * depths * panels, groups * chunks * blocks


@compiled
def _panel(padded, weight_shape, y_shape, groups, v, item):
    """Fill a panel with tiles; item: group, 64 channels, panel."""
    size, high, wide, panels = _geometry(weight_shape, y_shape)
    depths, channels, tiles = padded.shape[4] // DEPTH, weight_shape[2], y_shape[0] * high * wide
    group, d, panel = item // panels // depths, item // panels % depths, item % panels
    for row in range(ROWS):
        tile = min(panel * ROWS + row, tiles - 1)  # the last panel may have fewer
        n, i, j = tile // (high * wide), tile // wide % high * size, tile % wide * size
        _tile(padded, n, i, j, group, d, channels, v, item * _PANEL + row * DEPTH)


@compiled
def _block(v, weight, bias, floor, y, groups, chunk, u, m, item):
    """Some outputs of some panels; item: group, chunk, 32 output channels."""
    _, p_size, q_size, k_size = y.shape
    taps, _, channels, _ = weight.shape
    size, high, wide, panels = _geometry(weight.shape, y.shape)
    kg, tiles, depths = k_size // groups, y.shape[0] * high * wide, (channels + DEPTH - 1) // DEPTH
    blocks, chunks = (kg + _BLOCK - 1) // _BLOCK, (panels + chunk - 1) // chunk
    kernels, out = weight.reshape(-1), y.reshape(-1)
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


@compiled
def _pad(x, item, stride, pad, channels, padded):
    """A line of an image in blocks of T x T pixels, a group's channels together, zeros outside."""
    _, h_size, w_size, c_size = x.shape
    _, height, width, groups, room = padded.shape
    n, i = item // height, item % height
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
