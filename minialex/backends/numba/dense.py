"""Dense layers: each thread multiplies a strip of the weights, whole batches at a time.

N batch, I inputs, O outputs. For few images the time is spent reading the weights, so they are read
once, row by row; many images are a matrix product.

At test time, threads divide the rows of the weights instead of the columns, so that each reads one
contiguous piece of memory; the sums of the pieces are added in order. Training keeps the columns,
and so its bits.
"""

import numpy as np
from numba import prange

from minialex.backends.base import Array, Shape
from minialex.backends.numba import vectors
from minialex.backends.numba.blas import multiply, multiply_by_transposed, multiply_transposed
from minialex.backends.numba.claims import claim, new_claims
from minialex.backends.numba.elementwise import add, copy, finish
from minialex.backends.numba.execution import NumbaExecution
from minialex.backends.numba.team import await_all, await_next, begin, claim_item, finish_item
from minialex.backends.numba.vectors import (
    LANES,
    TERMS,
    rows_of_1,
    rows_of_2,
    rows_of_3,
    rows_of_4,
)
from minialex.utils.jit import compiled, compiled_with_fma, threaded

_PIECES = 16  # of the weights at test time, and so the most threads; the bits depend on it
_COLUMNS = 512  # whose pieces are added at once
FEW = 4  # for up to this many images, reading the weights takes longer than multiplying


class NumbaDense(NumbaExecution):
    """Dense layers, and the gradient of every layer's bias."""

    def dense(self, x: Array, weight: Array, bias: Array | None, relu: bool = False) -> Array:
        x = np.ascontiguousarray(x).reshape(len(x), -1)
        y = self._new((len(x), weight.shape[1]), x)
        bias = np.zeros(y.shape[1], x.dtype) if bias is None else np.ascontiguousarray(bias)
        weight = np.ascontiguousarray(weight)
        if self._inference and len(x) <= FEW and vectors.usable(x, weight, bias):
            part = self._new((_PIECES, *y.shape), x)
            self._as_team(forward_by_pieces, x, weight, bias, y, relu, part)
            return y
        self._run(forward, x, weight, bias, y, relu, self._shares)
        return y

    def dense_input_gradient(self, dy: Array, weight: Array, input_shape: Shape) -> Array:
        dx = self._new((len(dy), weight.shape[0]), dy)
        if dx.size:
            dy, weight = np.ascontiguousarray(dy), np.ascontiguousarray(weight)
            self._run(input_gradient, dy, weight, dx, self._shares)
        return dx.reshape(input_shape)

    def dense_weight_gradient(self, x: Array, dy: Array) -> Array:
        x = np.ascontiguousarray(x).reshape(len(x), -1)
        dw = self._new((x.shape[1], dy.shape[1]), x)
        self._run(weight_gradient, x, np.ascontiguousarray(dy), dw, self._shares)
        return dw

    def bias_gradient(self, dy: Array) -> Array:
        k = dy.shape[-1]
        partial = self._new((self._shares, k), dy)
        self._run(row_sums, np.ascontiguousarray(dy).reshape(-1, k), partial)
        return partial.sum(axis=0)


@threaded
def forward(x, weight, bias, y, relu, threads):
    """y (N, O) = x (N, I) weight (I, O) + bias (O,)."""
    outputs, numbers = y.shape[1], y.reshape(-1)
    claimed = new_claims()
    for _ in prange(threads):
        t = claim(claimed)
        while t < threads:
            first, end = outputs * t // threads, outputs * (t + 1) // threads
            if y.shape[0] <= FEW:
                _by_rows(x, weight.reshape(-1), numbers, first, end, outputs)
            elif end > first:
                multiply(x, weight[:, first:end], y[:, first:end])
            for n in range(y.shape[0]):
                finish(numbers, n * outputs + first, end - first, bias, first, relu)
            t = claim(claimed)


@compiled
def _by_rows(x, weight, y, first, end, outputs):
    """Columns first … end - 1 of y = x weight, both flat; four rows of weights at a time."""
    n_size, i_size = x.shape
    for n in range(n_size):
        y[n * outputs + first : n * outputs + end] = 0
    count, whole = np.uint64(end - first), i_size // 4 * 4
    for i in range(0, whole, 4):
        a = np.uint64(i * outputs + first)
        b, c = a + np.uint64(outputs), a + np.uint64(2 * outputs)
        d = a + np.uint64(3 * outputs)
        for n in range(n_size):
            to = np.uint64(n * outputs + first)
            p, q, r, s = x[n, i], x[n, i + 1], x[n, i + 2], x[n, i + 3]
            for j in range(count):
                y[to + j] += (p * weight[a + j] + q * weight[b + j]) + (
                    r * weight[c + j] + s * weight[d + j]
                )
    for i in range(whole, i_size):
        a = np.uint64(i * outputs + first)
        for n in range(n_size):
            to, p = np.uint64(n * outputs + first), x[n, i]
            for j in range(count):
                y[to + j] += p * weight[a + j]


@compiled
def forward_by_pieces(job, x, weight, bias, y, relu, part):
    """y (N, O) = x (N, I) weight (I, O) + bias (O,); part (pieces, N, O) is room."""
    begin(job)
    (inputs, outputs), pieces, n_size = weight.shape, len(part), len(x)
    item = claim_item(job.counts[0])
    while item < pieces:
        first, end = inputs * item // pieces, inputs * (item + 1) // pieces
        _rows_by_vectors(x, weight, part[item], first, end)
        finish_item(job.counts[0])
        item = claim_item(job.counts[0])
    await_all(job.counts[0], pieces)

    strips = (outputs + _COLUMNS - 1) // _COLUMNS
    sums, numbers = part.reshape(-1), y.reshape(-1)
    item = claim_item(job.counts[1])
    while item < strips * n_size:
        n, first = item // strips, item % strips * _COLUMNS
        count, to = min(_COLUMNS, outputs - first), n * outputs + first
        copy(sums, to, numbers, to, count)
        for piece in range(1, pieces):
            add(sums, piece * y.size + to, numbers, to, count)
        finish(numbers, to, count, bias, first, relu)
        finish_item(job.counts[1])
        item = claim_item(job.counts[1])
    await_all(job.counts[1], strips * n_size)
    await_next(job)


@compiled
def _rows_by_vectors(x, weight, y, first, end):
    """y (N, O) = the rows first … end - 1 of the product x weight, for up to four images."""
    (n_size, i_size), o_size, count = x.shape, y.shape[1], y.shape[1] // LANES
    numbers, rows, sums = x.reshape(-1), weight.reshape(-1), y.reshape(-1)
    whole = first + (end - first) // TERMS * TERMS if count else first
    sums[:] = 0
    for i in range(first, whole, TERMS):
        if n_size == 1:
            rows_of_1(numbers, i, i_size, rows, i * o_size, o_size, sums, 0, count)
        elif n_size == 2:
            rows_of_2(numbers, i, i_size, rows, i * o_size, o_size, sums, 0, count)
        elif n_size == 3:
            rows_of_3(numbers, i, i_size, rows, i * o_size, o_size, sums, 0, count)
        else:
            rows_of_4(numbers, i, i_size, rows, i * o_size, o_size, sums, 0, count)
    _rows_by_numbers(x, weight, y, first, whole, count * LANES)
    _rows_by_numbers(x, weight, y, whole, end, 0)


@compiled_with_fma
def _rows_by_numbers(x, weight, y, first, end, column):
    """The same for what is left: some rows, the columns from `column`."""
    for i in range(first, end):
        for n in range(len(x)):
            for j in range(column, y.shape[1]):
                y[n, j] += x[n, i] * weight[i, j]


@threaded
def input_gradient(dy, weight, dx, threads):
    """dx (N, I) = dy (N, O) weightᵀ."""
    inputs = dx.shape[1]
    claimed = new_claims()
    for _ in prange(threads):
        t = claim(claimed)
        while t < threads:
            first, end = inputs * t // threads, inputs * (t + 1) // threads
            if end > first:
                multiply_by_transposed(dy, weight[first:end], dx[:, first:end])
            t = claim(claimed)


@threaded
def weight_gradient(x, dy, dw, threads):
    """dw (I, O) = xᵀ dy."""
    inputs = dw.shape[0]
    claimed = new_claims()
    for _ in prange(threads):
        t = claim(claimed)
        while t < threads:
            first, end = inputs * t // threads, inputs * (t + 1) // threads
            if end > first:
                multiply_transposed(x[:, first:end], dy, dw[first:end])
            t = claim(claimed)


@threaded
def row_sums(x, partial):
    """partial (threads, K): sums over each thread's share of the rows of x (M, K), in order."""
    threads, k_size = partial.shape
    rows = x.shape[0]
    for t in prange(threads):
        total = partial[t]
        for k in range(k_size):
            total[k] = 0
        for i in range(rows * t // threads, rows * (t + 1) // threads):
            for k in range(k_size):
                total[k] += x[i, k]
