"""Inference with 8-bit weights and activations.

Convolutions and dense layers multiply integers; everything else stays float32. The weights of an
output channel w have one scale; the numbers of an image x have one scale and a zero, from their
range:

    w ≈ t w',  |w'| ≤ 127        x ≈ s (x' - z),  0 ≤ x' ≤ 255
    y = s t (Σ x' w' - z Σ w') + bias

The range is that of the image at hand, so nothing has to be calibrated, and the result for an image
does not depend on the others of its batch. Sums of integers are exact: these layers have the same
bits on every machine and for every number of threads.

Letters: N batch, H W input, C channels in, K channels out, G groups, R S kernel, P Q output;
L = R S C/G products of a sum, rounded up to whole lanes of four.
"""

import weakref
from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np
from numba import prange

from minialex.backends.base import Array, Pads, Pair, output_shape
from minialex.backends.numba.elementwise import copy
from minialex.backends.numba.execution import NumbaExecution
from minialex.backends.numba.integer_products import (
    ROWS,
    STRIP,
    TOGETHER,
    products_of_all,
    products_of_one,
)
from minialex.backends.numba.team import await_all, await_next, begin, claim_item, finish_item
from minialex.utils.jit import compiled, threaded

LONGEST = 60_000  # products of a sum, which int32 holds whatever the numbers are
_BLOCKS = 4  # of rows, that a worker multiplies by a strip of weights before the next strip
_ITEMS = 4  # at least, for each thread
_PIECES = 16  # of an image, whose ranges are found apart


class QuantizedWeight(NamedTuple):
    """Weights of a layer: strips of 32 output channels, each (L / 4, 32, 4)."""

    packed: np.ndarray  # int8, flat: (G, strips, L / 4, 32, 4)
    scales: np.ndarray  # float32 (K,)
    sums: np.ndarray  # int32 (K,)


class QuantizedWeights:
    """Those of all arrays that still exist; an array must not change once it is in use."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], QuantizedWeight] = {}

    def __reduce__(self) -> tuple:
        """A copy, or one in another process, knows none: its arrays have other addresses."""
        return type(self), ()

    def of(self, weight: np.ndarray, groups: int, run: Callable[..., None]) -> QuantizedWeight:
        """Quantize (..., K) by `run`, which starts a kernel, or find what was made of it before."""
        key = (id(weight), groups)
        if key not in self._known:
            self._known[key] = _quantized(weight, groups, run)
            weakref.finalize(weight, _forget, weakref.ref(self), key).atexit = False
        return self._known[key]


def _forget(weights: "weakref.ref[QuantizedWeights]", key: tuple[int, int]) -> None:
    if (found := weights()) is not None:
        found._known.pop(key, None)


class NumbaInt8(NumbaExecution):
    """Convolutions and dense layers at the precision "int8"; only for inference."""

    _weights: QuantizedWeights

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._weights = QuantizedWeights()

    def convolution(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        pads: Pads,
        groups: int,
        relu: bool = False,
    ) -> Array:
        if not self._in_integers(x, weight):
            return super().convolution(x, weight, bias, stride, pads, groups, relu)  # type: ignore[misc]
        return self._product(x, weight, bias, stride, pads, groups, relu)

    def dense(self, x: Array, weight: Array, bias: Array | None, relu: bool = False) -> Array:
        if not self._in_integers(x, weight):
            return super().dense(x, weight, bias, relu)  # type: ignore[misc]
        pixel = x.reshape(len(x), 1, 1, -1)
        none: Pads = ((0, 0), (0, 0))
        return self._product(pixel, weight, bias, (1, 1), none, 1, relu).reshape(len(x), -1)

    def _in_integers(self, x: Array, weight: Array) -> bool:
        if not (self._inference and self.precision.int8 and x.size):
            return False
        return x.dtype == weight.dtype == np.float32 and prod(weight.shape[:-1]) <= LONGEST

    def _product(self, x, weight, bias, stride, pads, groups, relu) -> Array:
        """A convolution; a weight of two axes is that of a single pixel."""
        x = np.ascontiguousarray(x)
        n, h, w, c = x.shape
        r, s = weight.shape[:2] if weight.ndim == 4 else (1, 1)
        k, cg = weight.shape[-1], c // groups
        p, q = output_shape((h, w), (r, s), stride, pads)
        y = self._new((n, p, q, k), x)
        own = self._weights.of(weight, groups, self._run)
        bias = np.zeros(k, x.dtype) if bias is None else np.ascontiguousarray(bias)
        padded = (h + sum(pads[0]), w + sum(pads[1]))
        length, strips = _lanes(r * s * cg) * TOGETHER, -(-k // groups // STRIP)
        rows = n * p * q
        blocks = max(1, min(_BLOCKS, rows // (ROWS * _ITEMS * self.threads)))
        chunks = -(-rows // (ROWS * blocks))
        parts = max(1, min(strips, _ITEMS * self.threads // (chunks * groups)))
        geometry = ((r, s), tuple(stride), (pads[0][0], pads[1][0]), groups)
        memory = (
            self._new((n, _PIECES, 2), x),
            self._new((n, 2), x),
            self._new((n, padded[0], groups, padded[1] * cg), np.uint8),
            (
                self._new((self.threads, blocks * ROWS * length), np.uint8),
                self._new((self.threads, ROWS * STRIP), np.int32),
            ),
        )
        self._as_team(multiply, x, own, bias, y, geometry, (blocks, parts), relu, *memory)
        return y


def _lanes(length: int) -> int:
    return -(-length // TOGETHER)


def _quantized(weight: np.ndarray, groups: int, run: Callable[..., None]) -> QuantizedWeight:
    k = weight.shape[-1]
    rows = np.ascontiguousarray(weight).reshape(-1, k)
    strips, lanes = -(-k // groups // STRIP), _lanes(len(rows))
    packed = np.zeros((groups, strips, lanes, STRIP, TOGETHER), np.int8)
    scales, sums = np.empty(k, np.float32), np.empty(k, np.int32)
    run(pack, rows, packed, scales, sums)
    return QuantizedWeight(packed.reshape(-1), scales, sums)


@threaded
def pack(weight, packed, scales, sums):
    """Quantize weight (L, K) into packed (G, strips, L / 4, 32, 4), scales (K,) and sums (K,)."""
    length, k_size = weight.shape
    groups, strips = packed.shape[:2]
    kg = k_size // groups
    for item in prange(groups * strips):
        group, strip = item // strips, item % strips
        first, count = group * kg + strip * STRIP, min(STRIP, kg - strip * STRIP)
        largest = np.zeros(STRIP, np.float32)
        for i in range(length):
            for j in range(count):
                size = abs(weight[i, first + j])
                if not size <= largest[j] and largest[j] == largest[j]:  # a NaN stays
                    largest[j] = size
        for j in range(count):
            scales[first + j] = largest[j] / np.float32(127)
            sums[first + j] = 0
        for i in range(length):
            for j in range(count):
                if largest[j] > 0:
                    number = np.rint(weight[i, first + j] / largest[j] * np.float32(127))
                    packed[group, strip, i // TOGETHER, j, i % TOGETHER] = np.int8(number)
                    sums[first + j] += np.int32(number)


@compiled
def multiply(job, x, weight, bias, y, geometry, divided, relu, ranges, scales, numbers, room):
    """y (N, P, Q, K) from x (N, H, W, C).

    `weight` is a QuantizedWeight; `divided` is how many blocks of rows an item has, and into how
    many parts the strips are divided. The rest is memory: ranges (N, 16, 2) of pieces, scales
    (N, 2), numbers (N, height, G, width C/G) for the quantized image with its padding, and for each
    worker some of `room`, for rows of columns and for the sums of a block.
    """
    begin(job)
    (n_size, _, _, c_size), (_, p_size, q_size, k_size) = x.shape, y.shape
    size, stride, pad, groups = geometry
    (blocks, parts), height, out = divided, numbers.shape[1], y.reshape(-1)
    columns, sums = room[0][job.worker], room[1][job.worker]

    item, image = claim_item(job.counts[0]), x[0].size
    while item < n_size * _PIECES:
        n, piece = item // _PIECES, item % _PIECES
        first, end = image * piece // _PIECES, image * (piece + 1) // _PIECES
        _range(x[n].reshape(-1)[first:end], ranges[n, piece])
        finish_item(job.counts[0])
        item = claim_item(job.counts[0])
    await_all(job.counts[0], n_size * _PIECES)

    item = claim_item(job.counts[1])
    while item < n_size * height:
        n, i = item // height, item % height
        scale, zero = _scale(ranges[n])
        if i == 0:
            scales[n, 0], scales[n, 1] = scale, zero
        _quantize(x[n], i - pad[0], pad[1], scale, zero, numbers[n, i])
        finish_item(job.counts[1])
        item = claim_item(job.counts[1])
    await_all(job.counts[1], n_size * height)

    cg, kg, rows, chunk = (
        c_size // groups,
        k_size // groups,
        n_size * p_size * q_size,
        blocks * ROWS,
    )
    strips, run = (kg + STRIP - 1) // STRIP, size[1] * cg
    depth = (size[0] * run + TOGETHER - 1) // TOGETHER
    items, length = (rows + chunk - 1) // chunk * groups * parts, depth * TOGETHER
    item = claim_item(job.counts[2])
    while item < items:
        part, group, first = item % parts, item // parts % groups, item // (parts * groups) * chunk
        end = min(rows, first + chunk)
        for row in range(first, end):
            n, pq = row // (p_size * q_size), row % (p_size * q_size)
            corner = pq // q_size * stride[0], pq % q_size * stride[1] * cg
            _fill(numbers[n], corner, group, size[0], run, columns, (row - first) * length, length)
        for strip in range(strips * part // parts, strips * (part + 1) // parts):
            k0, k1 = group * kg + strip * STRIP, group * kg + min(kg, (strip + 1) * STRIP)
            at = (group * strips + strip) * length * STRIP
            for row in range(first, end, ROWS):
                start, count = (row - first) * length, min(ROWS, end - row)
                if count == 1:
                    products_of_one(columns, start, length, weight.packed, at, depth, sums)
                else:
                    products_of_all(columns, start, length, weight.packed, at, depth, sums)
                own, row_size = (scales, p_size * q_size), (k0, k1 - k0, k_size)
                _finish(sums, row, count, own, weight, bias, relu, row_size, out)
        finish_item(job.counts[2])
        item = claim_item(job.counts[2])
    await_all(job.counts[2], items)
    await_next(job)


@compiled
def _range(numbers, found):
    """The smallest of these numbers and 0, and the largest.

    They are compared as integers, which is vectorised; and so a NaN is beyond an infinity.
    """
    bits, low, high, rest = numbers.view(np.int32), np.int32(0), np.int32(0), np.int32(2**31 - 1)
    for j in range(len(bits)):
        key = bits[j] ^ ((bits[j] >> 31) & rest)  # in the order of the numbers
        low, high = min(low, key), max(high, key)
    ends = found.view(np.int32)
    ends[0], ends[1] = low ^ ((low >> 31) & rest), high


@compiled
def _scale(ranges):
    """The scale of an image, NaN if a number is not finite, and its zero; from its ranges."""
    low, high, wrong = np.float32(0), np.float32(0), np.float32(0)
    for i in range(len(ranges)):
        low, high = min(low, ranges[i, 0]), max(high, ranges[i, 1])
        wrong += np.float32(0) * ranges[i, 0] + np.float32(0) * ranges[i, 1]
    scale = (high - low) / np.float32(255) + wrong
    return scale, np.rint(-low / scale) if scale > 0 else np.float32(0)


@compiled
def _quantize(x, i, left, scale, zero, numbers):
    """Row i of the image x (H, W, C) into numbers (G, width C/G), with `left` pixels before it."""
    h_size, w_size, c_size = x.shape
    groups = len(numbers)
    numbers[:] = np.uint8(zero)
    if i < 0 or i >= h_size or not scale > 0:
        return
    cg, row, most = c_size // groups, x[i].reshape(-1), np.float32(255)
    inverse = np.float32(1) / scale
    for group in range(groups):
        there = numbers[group]
        for w in range(1 if groups == 1 else w_size):
            run = w_size * cg if groups == 1 else cg
            start, to = np.uint64(w * c_size + group * cg), np.uint64((left + w) * cg)
            for j in range(np.uint64(run)):
                number = np.rint(row[start + j] * inverse) + zero
                there[to + j] = np.uint8(min(max(number, np.float32(0)), most))


@compiled
def _fill(numbers, corner, group, height, run, columns, to, length):
    """One output pixel's window from `corner`, `height` runs, into columns[to : to + length]."""
    for r in range(height):
        copy(numbers[corner[0] + r, group], corner[1], columns, to + r * run, run)
    columns[to + height * run : to + length] = 0


@compiled
def _finish(sums, row, count, own, weight, bias, relu, channels, y):
    """Scale the sums of `count` rows from `row` on, add the bias, apply the ReLU.

    `own` is each image's (scale, zero) and its number of rows; `channels` is the first one, how
    many, and how many a row has.
    """
    (scales, rows), (k0, k_count, k_size), nothing = own, channels, np.float32(0)
    n = row // rows
    for m in range(count):
        if row + m >= (n + 1) * rows:
            n += 1
        scale, zero = scales[n, 0], np.int32(scales[n, 1])
        # unsigned: see `elementwise.finish`
        first, to, k = np.uint64(m * STRIP), np.uint64((row + m) * k_size + k0), np.uint64(k0)
        for j in range(np.uint64(k_count)):
            total = np.int32(sums[first + j] - zero * weight.sums[k + j])
            v = np.float32(total) * (scale * weight.scales[k + j]) + bias[k + j]
            y[to + j] = nothing if relu and v < nothing else v
