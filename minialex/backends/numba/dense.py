"""Dense layers: each thread multiplies a strip of the weights, whole batches at a time.

N batch, I inputs, O outputs. For few images the time is spent reading the weights, so they are read
once, row by row; many images are a matrix product.

At test time, for up to FEW images, threads divide the rows of the weights instead of the columns,
so that each reads one contiguous piece of memory; the sums of the pieces are added in order. A row
whose inputs are zero in all images, as half or more are after a ReLU, is not read, and has no
influence even if a weight in it is not finite.

For more images, up to SOME, each thread has a strip of columns, and multiplies a few rows of it by
all images. For larger batches, products with the weights of large layers are in dense_packed.py,
where the processor has AVX-512; all others are a BLAS's.
"""

from math import prod

import numpy as np
from numba import prange

from minialex.backends.base import Array, Shape
from minialex.backends.numba import dense_packed, vectors
from minialex.backends.numba.blas import multiply, multiply_by_transposed, multiply_transposed
from minialex.backends.numba.claims import claim, new_claims
from minialex.backends.numba.elementwise import add, copy, finish
from minialex.backends.numba.execution import NumbaExecution
from minialex.backends.numba.team import await_all, await_next, begin, claim_item, finish_item
from minialex.backends.numba.vectors import (
    DOTS,
    LANES,
    SUMS_OF_A_DOT,
    TERMS,
    dots_of_1,
    dots_of_2,
    dots_of_3,
    dots_of_4,
    rows_of_1,
    rows_of_2,
    rows_of_3,
    rows_of_4,
)
from minialex.utils.jit import compiled, compiled_with_fma, threaded

_PIECES = 16  # of the weights at test time, and so the most threads; the bits depend on it
_COLUMNS = 512  # whose pieces are added at once
_DEEP = 512  # rows, whose sums are formed apart
_ROWS = 64  # of the weights, that a thread multiplies at once
_NEAR = 1 << 21  # weights that a cache may still hold from the last batch
FEW = 4  # for up to this many images, reading the weights takes longer than multiplying
SOME = 16  # for up to this many, a BLAS would rearrange all weights for a few products


class NumbaDense(NumbaExecution):
    """Dense layers, and the gradient of every layer's bias."""

    def dense(self, x: Array, weight: Array, bias: Array | None, relu: bool = False) -> Array:
        x = np.ascontiguousarray(x).reshape(len(x), prod(x.shape[1:]))
        y = self._new((len(x), weight.shape[1]), x)
        bias = np.zeros(y.shape[1], x.dtype) if bias is None else np.ascontiguousarray(bias)
        weight = np.ascontiguousarray(weight)
        if self._inference and len(x) <= FEW and vectors.usable(x, weight, bias):
            part = self._new((_PIECES, *y.shape), x)
            chosen = np.empty((self.threads, 2 * TERMS), np.int64)
            self._as_team(forward_by_pieces, x, weight, bias, y, relu, part, chosen)
            return y
        if len(x) > SOME and dense_packed.worthwhile(len(x), weight, x, bias):
            packed = self._new(dense_packed.left_shape(*x.shape), x)
            self._run(dense_packed.pack_left, x, packed)
            self._run(dense_packed.forward, packed, weight, bias, y, relu, self._shares)
            return y
        some = FEW < len(x) <= SOME and vectors.usable(x, weight, bias)
        self._run(forward_of_some if some else forward, x, weight, bias, y, relu, self._shares)
        return y

    def dense_input_gradient(self, dy: Array, weight: Array, input_shape: Shape) -> Array:
        dx = self._new((len(dy), weight.shape[0]), dy)
        if dx.size:
            dy, weight = np.ascontiguousarray(dy), np.ascontiguousarray(weight)
            if len(dy) > SOME and dense_packed.worthwhile(len(dy), weight, dy):
                packed = self._new(dense_packed.right_shape(*dy.shape), dy)
                self._run(dense_packed.pack_right, dy, packed)
                self._run(dense_packed.input_gradient, packed, weight, dx, self._shares)
                return dx.reshape(input_shape)
            some = len(dy) <= SOME and vectors.usable(dy, weight)
            self._run(
                input_gradient_of_some if some else input_gradient, dy, weight, dx, self._shares
            )
        return dx.reshape(input_shape)

    def dense_weight_gradient(self, x: Array, dy: Array) -> Array:
        x = np.ascontiguousarray(x).reshape(len(x), prod(x.shape[1:]))
        dw = self._new((x.shape[1], dy.shape[1]), x)
        if not len(x):
            dw[:] = 0  # a BLAS refuses sums of nothing
            return dw
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
def forward_by_pieces(job, x, weight, bias, y, relu, part, chosen):
    """y (N, O) = x (N, I) weight (I, O) + bias (O,); part (pieces, N, O) and chosen are room."""
    begin(job)
    (inputs, outputs), pieces, n_size = weight.shape, len(part), len(x)
    item = claim_item(job.counts[0])
    while item < pieces:
        first, end = inputs * item // pieces, inputs * (item + 1) // pieces
        _rows_by_vectors(x, weight, part[item], first, end, chosen[job.worker])
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
def _rows_by_vectors(x, weight, y, first, end, chosen):
    """y (N, O) = the rows first … end - 1 of the product x weight, for up to four images.

    Rows whose inputs are all zero are not read; `chosen` collects eight others, and eight more that
    come next.
    """
    (n_size, i_size), o_size, count = x.shape, y.shape[1], y.shape[1] // LANES
    numbers, rows, sums = x.reshape(-1), weight.reshape(-1), y.reshape(-1)
    found = 0
    sums[:] = 0
    for i in range(first, end):
        if not _is_used(numbers, i, i_size, n_size):
            continue
        chosen[found] = i
        found += 1
        if found == 2 * TERMS:
            _eight_rows(x, numbers, weight, rows, y, sums, chosen, count)
            found = TERMS
    whole = found // TERMS * TERMS
    if whole:
        chosen[found:] = chosen[0]  # a row that is read now, and not worth calling for
        _eight_rows(x, numbers, weight, rows, y, sums, chosen, count)
    for t in range(found - whole):
        _rows_by_numbers(x, weight, y, chosen[t], chosen[t] + 1, 0, o_size)


@compiled
def _eight_rows(x, numbers, weight, rows, y, sums, chosen, count):
    """The first eight of the chosen rows; the others move up. The arrays come whole and flat."""
    (n_size, i_size), o_size, far = x.shape, y.shape[1], rows.size > _NEAR
    if count:
        _some_rows(numbers, 0, i_size, rows, 0, o_size, chosen, sums, 0, o_size, count, far, n_size)
    for t in range(TERMS):
        if count * LANES < o_size:
            _rows_by_numbers(x, weight, y, chosen[t], chosen[t] + 1, count * LANES, o_size)
        chosen[t] = chosen[TERMS + t]


@compiled
def _is_used(x, i, across, images):
    """Whether one of x[i], x[i + across] … is not zero."""
    used = False
    for n in range(images):
        used |= x[i + n * across] != 0
    return used


@threaded
def forward_of_some(x, weight, bias, y, relu, threads):
    """`forward` for up to SOME images: a few rows of a strip of weights at a time, for all images.

    The rows stay in the cache from one group of four images to the next; the sums of some hundred
    rows are kept together, where they do not displace them, before they are added to y.
    """
    (n_size, i_size), outputs = x.shape, y.shape[1]
    strips = (outputs + _COLUMNS - 1) // _COLUMNS
    numbers, rows, totals = x.reshape(-1), weight.reshape(-1), y.reshape(-1)
    step, far = _COLUMNS + 16, rows.size > _NEAR
    claimed = new_claims()
    for _ in prange(threads):
        sums = np.empty(n_size * step, x.dtype)
        terms = np.arange(2 * TERMS)
        strip = claim(claimed)
        while strip < strips:
            first = strip * _COLUMNS
            wide = min(_COLUMNS, outputs - first)
            count = wide // 16 * 16 // LANES  # the same columns, whatever a vector holds
            whole = i_size // TERMS * TERMS if count else 0
            for n in range(n_size):
                totals[n * outputs + first : n * outputs + first + wide] = 0
            for begun in range(0, whole, _DEEP):
                sums[:] = 0
                for i in range(begun, min(whole, begun + _DEEP), TERMS):
                    for n in range(0, n_size, 4):
                        at, w = n * i_size + i, i * outputs + first
                        _some_rows(
                            numbers,
                            at,
                            i_size,
                            rows,
                            w,
                            outputs,
                            terms,
                            sums,
                            n * step,
                            step,
                            count,
                            far and n == 0,
                            n_size - n,
                        )
                for n in range(n_size):
                    add(sums, n * step, totals, n * outputs + first, count * LANES)
            _rows_by_numbers(x, weight, y, 0, whole, first + count * LANES, first + wide)
            _rows_by_numbers(x, weight, y, whole, i_size, first, first + wide)
            for n in range(n_size):
                finish(totals, n * outputs + first, wide, bias, first, relu)
            strip = claim(claimed)


@compiled
def _some_rows(x, i, across, w, j, step, terms, y, k, down, count, far, images):
    """y += x w for eight rows of w and up to four images, see `vectors`."""
    if images == 1:
        rows_of_1(x, i, across, w, j, step, terms, y, k, down, count, far)
    elif images == 2:
        rows_of_2(x, i, across, w, j, step, terms, y, k, down, count, far)
    elif images == 3:
        rows_of_3(x, i, across, w, j, step, terms, y, k, down, count, far)
    else:
        rows_of_4(x, i, across, w, j, step, terms, y, k, down, count, far)


@compiled_with_fma
def _rows_by_numbers(x, weight, y, first, end, column, last):
    """The same for what is left: the rows first … end - 1, the columns column … last - 1."""
    for i in range(first, end):
        for n in range(len(x)):
            for j in range(column, last):
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


@compiled
def _some_dots(w, j, step, x, i, across, y, k, down, count, images):
    """Products of DOTS rows of w with up to four of x, see `vectors`."""
    if images == 1:
        dots_of_1(w, j, step, x, i, across, y, k, down, count)
    elif images == 2:
        dots_of_2(w, j, step, x, i, across, y, k, down, count)
    elif images == 3:
        dots_of_3(w, j, step, x, i, across, y, k, down, count)
    else:
        dots_of_4(w, j, step, x, i, across, y, k, down, count)


@threaded
def input_gradient_of_some(dy, weight, dx, threads):
    """`input_gradient` for up to SOME images: each row of the weights is read once for all."""
    (n_size, o_size), inputs = dy.shape, dx.shape[1]
    slopes, rows, sums = dy.reshape(-1), weight.reshape(-1), dx.reshape(-1)
    count = o_size // SUMS_OF_A_DOT
    blocks = (inputs + _ROWS - 1) // _ROWS
    claimed = new_claims()
    for _ in prange(threads):
        block = claim(claimed)
        while block < blocks:
            first, end = block * _ROWS, min(inputs, (block + 1) * _ROWS)
            # a multiple of every DOTS: the same sums, whatever a vector holds
            whole = first + (end - first) // 4 * 4 if count else first
            for i in range(first, whole, DOTS):
                for n in range(0, n_size, 4):
                    w, at, to = i * o_size, n * o_size, n * inputs + i
                    _some_dots(
                        rows, w, o_size, slopes, at, o_size, sums, to, inputs, count, n_size - n
                    )
            for n in range(n_size):
                for i in range(first, end):
                    total, begun = (
                        (dx[n, i], count * SUMS_OF_A_DOT) if i < whole else (dx.dtype.type(0), 0)
                    )
                    for j in range(begun, o_size):
                        total += dy[n, j] * weight[i, j]
                    dx[n, i] = total
            block = claim(claimed)


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
