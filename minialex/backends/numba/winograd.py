"""Convolution with fewer multiplications: Winograd tiles of 7 x 7.

A tile of 7 x 7 inputs gives 5 x 5 outputs of a 3 x 3 kernel, or 3 x 3 outputs of a 5 x 5 kernel,
with 49 multiplications instead of 225 (Lavin & Gray, 2015):

    Y = A [ (G g Gᵀ) * (B d Bᵀ) ] Aᵀ

The rows of A, G and B belong to seven points: a row of outputs is the product of two polynomials,
which is determined by its values at seven points, infinity among them. The products over the
channels of all tiles are 49 matrix products; the weight gradient has the same form, with tiles of
dy in place of the kernel and the kernel in place of the outputs.

Each output is a sum of numbers larger than itself, so the rounding error in float32 is about ten
times that of the plain sum, 3e-6 of the outputs' standard deviation (see the bound in
tests/backends/numba/test_convolution.py). Of simple fractions, these points round least.

A tile's outputs are all computed from all of its inputs: an input X far from the others leaves an
error of up to 6e-5 X (for weights of deviation 1) in outputs of its tiles that do not see it, and
an infinite one makes them all NaN or infinite. The same test file has these bounds. The numpy
backend uses plain sums, which have neither.

Letters: N batch, H W input, C channels in, K channels out, P Q output, G groups, R the kernel's
size, 8 - R that of a tile's output.

With a stride of T, each block of T x T pixels is treated as one pixel of T T C channels: an 11 x 11
kernel with stride 4 becomes 3 x 3 over 48 channels, with zeros for the twelfth row and column.
"""

from fractions import Fraction
from functools import cache

import numpy as np
from numba import prange

from minialex.backends.numba.blas import multiply, multiply_transposed
from minialex.backends.numba.claims import claim, new_claims
from minialex.backends.numba.elementwise import copy, finish
from minialex.utils.jit import compiled, compiled_with_fma, threaded

TILE = 7
POINTS = TILE * TILE
_POINTS = tuple(map(Fraction, ("0", "1", "-1", "-1/2", "-2", "3/2")))  # and infinity


def outputs(taps: int) -> int:
    """The number of outputs of a tile in each direction."""
    return TILE + 1 - taps


def over_phases(w: np.ndarray, stride: int) -> np.ndarray:
    """Kernels (R, R, C/G, K) of stride T as kernels of stride 1 over T T C/G channels."""
    w = np.ascontiguousarray(w)
    if stride == 1:
        return w
    r, _, cg, k = w.shape
    taps = -(-r // stride)
    phases = np.empty((taps, taps, stride * stride * cg, k), w.dtype)
    _to_phases(w, stride, phases)
    return phases


@compiled
def _to_phases(w, stride, phases):
    r_size, _, cg, k_size = w.shape
    taps, run = len(phases), cg * k_size
    numbers, there = w.reshape(-1), phases.reshape(-1)
    for row in range(taps * stride):
        for column in range(taps * stride):
            phase = row % stride * stride + column % stride
            to = ((row // stride * taps + column // stride) * stride * stride + phase) * run
            if row < r_size and column < r_size:
                copy(numbers, (row * r_size + column) * run, there, to, run)
            else:
                there[to : to + run] = 0


def of_phases(w: np.ndarray, stride: int, shape: tuple[int, int, int, int]) -> np.ndarray:
    """The inverse of `over_phases`: the kernels (R, R, C/G, K) = shape that `w` was made from."""
    r, _, cg, k = shape
    taps = len(w)
    w = w.reshape(taps, taps, stride, stride, cg, k).transpose(0, 2, 1, 3, 4, 5)
    return np.ascontiguousarray(w.reshape(taps * stride, taps * stride, cg, k)[:r, :r])


@cache
def matrices(taps: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (7, 7), G (7, 7) and B (7, 7) for kernels of `taps` numbers, by seven points.

    A has 8 - taps nonzero rows, and G has `taps` nonzero columns.
    """
    a, g, b = (np.zeros((TILE, TILE)) for _ in range(3))
    for k, point in enumerate(_POINTS):
        others = [_POINTS[i] for i in range(len(_POINTS)) if i != k]
        b[k, : TILE - 1] = _polynomial(others)
        # shift a power of two between the factors, so that numbers have similar sizes
        scale = 2.0 ** np.round(np.log2(np.abs(b[k]).sum()) - 1)
        b[k] /= scale
        a[: outputs(taps), k] = [point**i for i in range(outputs(taps))]
        g[k, :taps] = [scale * float(point**i / _value(others, point)) for i in range(taps)]
    b[TILE - 1] = _polynomial(_POINTS)
    a[outputs(taps) - 1, TILE - 1] = g[TILE - 1, taps - 1] = 1
    return a.astype(dtype), g.astype(dtype), b.astype(dtype)


def _polynomial(roots) -> list[float]:
    """Coefficients of the product of all (x - root), constant term first."""
    found = [Fraction(1)]
    for root in roots:
        found = [
            low - root * high for low, high in zip([Fraction(0), *found], [*found, 0], strict=True)
        ]
    return [float(value) for value in found]


def _value(roots, x: Fraction) -> Fraction:
    product = Fraction(1)
    for root in roots:
        product *= x - root
    return product


@threaded
def weights(w, g, u):
    """u (49, rows, columns) = G w Gᵀ from w (R, R, rows, columns)."""
    taps, _, rows, columns = w.shape
    numbers, out, plane = w.reshape(-1), u.reshape(-1), rows * columns
    for row in prange(rows):
        room = np.empty(TILE * columns, w.dtype)  # for G w, one column at a time
        for a in range(TILE):
            for s in range(taps):
                at = s * plane + row * columns
                _sum(numbers, at, taps * plane, taps, g, a, room, s * columns, columns)
            for b in range(TILE):
                to = (TILE * a + b) * plane + row * columns
                _sum(room, 0, columns, taps, g, b, out, to, columns)


@threaded
def forward(x, u, a, b, bias, y, stride, pad, size, groups, relu, together, room):
    """y (N, P, Q, K) from x (N, H, W, C) and u (49, T T C/G, K), `together` rows of tiles at once.

    A tile has `size` x `size` outputs. `room` has, for each thread, the inputs of a row of tiles,
    tiles, their products, and sums (fresh memory would cost page faults in every call).
    """
    n_size, p_size, q_size, k_size = y.shape
    kg = k_size // groups
    high, columns = (p_size + size - 1) // size, (q_size + size - 1) // size  # tiles of an image
    lines = n_size * high  # rows of tiles
    blocks = (lines + together - 1) // together
    strips, vs, ms, all_sums = room
    claimed = new_claims()
    for t in prange(len(strips)):
        strip, v, m, sums = strips[t], vs[t], ms[t], all_sums[t]
        item = claim(claimed)
        while item < blocks * groups:
            group, first = item % groups, item // groups * together
            count = min(together, lines - first)
            for i in range(count):
                n, row = (first + i) // high, (first + i) % high
                cut(x, n, row * size, stride, pad, group, groups, strip)
                _input(strip, size, columns, b, v, i * columns, sums)
            for point in range(POINTS):
                multiply(
                    v[point, : count * columns],
                    u[point, :, group * kg : (group + 1) * kg],
                    m[point, : count * columns],
                )
            for i in range(count):
                n, row = (first + i) // high, (first + i) % high
                _output(m, i * columns, columns, size, a, sums)
                _place(sums, y, n, size, row, columns, kg, group, a, bias, relu)
            item = claim(claimed)


@threaded
def weight_gradient(x, dy, b, g, du, stride, pad, size, groups, together, room):
    """du (49, T T C/G, K) = the sum of (B d Bᵀ)ᵀ (G dy Gᵀ), a block of tiles at a time.

    For types and channels that winograd_gradient.py, which is faster, does not take. All threads
    fill the tiles of a block, then share its products. `room` has the tiles of a block, of x and of
    dy, then for each thread the inputs of a row of each, and sums.
    """
    n_size, p_size, q_size, k_size = dy.shape
    kg = k_size // groups
    high, columns = (p_size + size - 1) // size, (q_size + size - 1) // size
    lines = n_size * high
    v, w, strips, strips_below, all_sums = room
    threads = len(strips)
    for block in range((lines + together - 1) // together):
        first = block * together
        count = min(together, lines - first)
        claimed = new_claims()
        for t in prange(threads):
            strip, below, sums = strips[t], strips_below[t], all_sums[t]
            item = claim(claimed)
            while item < count * groups:
                group, i = item % groups, item // groups
                n, row = (first + i) // high, (first + i) % high
                cut(x, n, row * size, stride, pad, group, groups, strip)
                _input(strip, size, columns, b, v[group], i * columns, sums)
                cut(dy, n, row * size, 1, (0, 0), group, groups, below)
                _input(below, size, columns, g, w[group], i * columns, sums)
                item = claim(claimed)
        claimed = new_claims()
        for _ in prange(threads):
            item = claim(claimed)
            while item < POINTS * groups:
                group, point = item % groups, item // groups
                multiply_transposed(
                    v[group, point, : count * columns],
                    w[group, point, : count * columns],
                    du[point, :, group * kg : (group + 1) * kg],
                    block > 0,
                )
                item = claim(claimed)


@threaded
def gathered(du, a, dw):
    """dw (R, R, rows, columns) = A du Aᵀ from du (49, rows, columns)."""
    taps, _, rows, columns = dw.shape
    numbers, out, plane = du.reshape(-1), dw.reshape(-1), rows * columns
    for row in prange(rows):
        room = np.empty(TILE * columns, du.dtype)
        for r in range(taps):
            for point in range(TILE):
                at, to = point * plane + row * columns, point * columns
                _sum(numbers, at, TILE * plane, TILE, a, r, room, to, columns)
            for s in range(taps):
                to = (taps * r + s) * plane + row * columns
                _sum(room, 0, columns, TILE, a, s, out, to, columns)


@compiled
def cut(x, n, top, stride, pad, group, groups, strip):
    """strip (rows, columns, T T C/G) from row T `top` of the padded image n, zeros outside it."""
    _, h_size, w_size, c_size = x.shape
    rows, wide, length = strip.shape
    cg = c_size // groups
    run = stride * cg
    numbers, there = x.reshape(-1), strip.reshape(-1)
    for i in range(rows):
        for below in range(stride):
            h = (top + i) * stride + below - pad[0]
            for j in range(wide):
                w, to = j * stride - pad[1], (i * wide + j) * length + below * run
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
def _input(strip, size, columns, b, v, tile, room):
    """B d Bᵀ of a row of tiles, `size` apart in a strip of 7 rows or `size`, into v[:, tile:]."""
    terms, _, cg = strip.shape
    d, out, plane, line = strip.reshape(-1), v.reshape(-1), v.shape[1] * cg, strip[0].size
    for i in range(TILE):
        _sum(d, 0, line, terms, b, i, room, i * line, line)
    for i in range(TILE):
        for j in range(TILE):
            to = (TILE * i + j) * plane + tile * cg
            for column in range(columns):
                at = i * line + column * size * cg
                _sum(room, at, cg, terms, b, j, out, to + column * cg, cg)


@compiled
def _output(m, tile, columns, size, a, room):
    """A m of a row of tiles: room (size, 7, columns, K)."""
    kg = m.shape[2]
    numbers, plane, run = m.reshape(-1), m.shape[1] * kg, columns * kg
    for i in range(size):
        for j in range(TILE):
            at, to = j * plane + tile * kg, (i * TILE + j) * run
            _sum(numbers, at, TILE * plane, TILE, a, i, room, to, run)


@compiled
def _place(room, y, n, size, row, columns, kg, group, a, bias, relu):
    """(A m) Aᵀ to the outputs that exist; then the bias and the ReLU."""
    _, p_size, q_size, k_size = y.shape
    out, run = y.reshape(-1), columns * kg
    for i in range(min(size, p_size - row * size)):
        for column in range(columns):
            for j in range(min(size, q_size - column * size)):
                p, q = row * size + i, column * size + j
                to = ((n * p_size + p) * q_size + q) * k_size + group * kg
                _sum(room, i * TILE * run + column * kg, run, TILE, a, j, out, to, kg)
                finish(out, to, kg, bias, group * kg, relu)


@compiled_with_fma
def _sum(x, start, step, terms, factors, row, out, to, count):
    """out[to:] = the sum of factors[row, i] x[start + i step:] over the first `terms`, up to 7.

    Missing terms are the last one, times zero. For unsigned counters see `elementwise.finish`.
    """
    last = terms - 1
    i0 = np.uint64(start)
    i1 = np.uint64(start + min(1, last) * step)
    i2 = np.uint64(start + min(2, last) * step)
    i3 = np.uint64(start + min(3, last) * step)
    i4 = np.uint64(start + min(4, last) * step)
    i5 = np.uint64(start + min(5, last) * step)
    i6 = np.uint64(start + min(6, last) * step)
    f0, f1, f2, f3 = factors[row, 0], factors[row, 1], factors[row, 2], factors[row, 3]
    f4, f5, f6 = factors[row, 4], factors[row, 5], factors[row, 6]
    o = np.uint64(to)
    for c in range(np.uint64(count)):
        out[o + c] = (
            (f0 * x[i0 + c] + f1 * x[i1 + c])
            + (f2 * x[i2 + c] + f3 * x[i3 + c])
            + (f4 * x[i4 + c] + f5 * x[i5 + c])
            + f6 * x[i6 + c]
        )
