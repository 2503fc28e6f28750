"""Vector instructions that Numba cannot express: LLVM code for products and transforms.

A compiler decides for itself which numbers of a loop it keeps in registers. Here it is told: each
function is straight code on vectors of float32, with all sums in registers. Every output is a sum
in a fixed order with fused multiply-adds, so the bits do not depend on the width of the vectors.
The other modules named *_vectors make their functions of the same `Code`.
"""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

from minialex.backends.numba import winograd


def has(feature: str) -> bool:
    """Whether Numba compiles for a processor with this feature: this one's, unless told others."""
    given = numba.config.CPU_FEATURES  # type: ignore[attr-defined]
    return f"+{feature}" in (get_host_cpu_features() if given is None else given).split(",")


def _is_fused(machine: str) -> bool:
    """Whether a fused multiply-add is an instruction; without it, LLVM calls a slow function."""
    return machine not in ("x86_64", "AMD64", "i386", "i686", "x86") or has("fma")


FUSED = _is_fused(platform.machine())
LANES = 16 if has("avx512f") else 8  # numbers of a vector
ROWS = 9  # of a product: 9 tiles cover the 13 x 13 pixels of the paper's last convolutions
WIDE = 2 if LANES == 16 else 1  # vectors of a product's row: 18 sums in 32 registers, or 9 in 16
DEPTH = 64  # distance of a product's rows

_FLOAT, INDEX, LANE = ir.FloatType(), ir.IntType(64), ir.IntType(32)
_ARRAY, _INDICES = types.Array(types.float32, 1, "C"), types.Array(types.int64, 1, "C")
_COUNT = types.int64


def function(arguments: str, build: Callable[..., None]) -> Any:
    """An intrinsic of flat arrays of float32 ("a") or int64 ("n") and integers ("i").

    `build` writes its code.
    """
    kinds = [{"a": _ARRAY, "n": _INDICES, "i": _COUNT}[kind] for kind in arguments]

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        given = [
            value if kind is _COUNT else context.make_array(kind)(context, builder, value).data
            for kind, value in zip(kinds, values, strict=True)
        ]
        build(Code(builder), *given)
        return context.get_dummy_value()

    return with_arguments(len(kinds), lambda *_: (types.void(*kinds), generate))


def with_arguments(count: int, typed: Callable[..., Any]) -> Any:
    """An intrinsic of `count` arguments: (signature, code) = typed(their types)."""
    names = ", ".join(f"_{i}" for i in range(count))
    space: dict[str, Any] = {"typed": typed}
    exec(f"def declared(context, {names}): return typed({names})", space)  # Numba counts them
    return intrinsic(space["declared"])


def usable(*operands: np.ndarray) -> bool:
    """Whether the functions below are fast here, and made for these arrays."""
    return FUSED and all(operand.dtype == np.float32 for operand in operands)


def loaded(builder: Any, pointer: Any, kind: Any, align: int) -> Any:
    """The vector or number of this type at `pointer`, which may point to another type."""
    found = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    found.align = align
    return found


def repeated(builder: Any, number: Any, kind: Any) -> Any:
    """A vector of one number."""
    undefined, lanes = ir.Constant(kind, ir.Undefined), ir.VectorType(LANE, kind.count)
    first = builder.insert_element(undefined, number, LANE(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(lanes, [0] * kind.count))


class Code:
    """The instructions that functions are made of: on vectors of numbers of `size` bytes."""

    def __init__(self, builder: Any, size: int = 4, lanes: int = LANES):
        self.builder, self.size, self.lanes = builder, size, lanes
        self.kind = ir.VectorType(_FLOAT if size == 4 else ir.DoubleType(), lanes)

    def instruction(self, name: str, operands: int) -> Any:
        """A function of vectors that LLVM knows."""
        kind = ir.FunctionType(self.kind, [self.kind] * operands)
        name = f"llvm.{name}.v{self.lanes}f{8 * self.size}"
        return cgutils.get_or_insert_function(self.builder.module, kind, name)

    def at(self, pointer: Any, *steps: Any) -> Any:
        """The pointer moved by the sum of some numbers of elements."""
        for step in steps:
            pointer = self.builder.gep(pointer, [INDEX(step) if isinstance(step, int) else step])
        return pointer

    def times(self, a: Any, b: Any) -> Any:
        return self.builder.mul(a, INDEX(b) if isinstance(b, int) else b)

    def load(self, pointer: Any) -> Any:
        return loaded(self.builder, pointer, self.kind, self.size)

    def store(self, vector: Any, pointer: Any) -> None:
        place = self.builder.bitcast(pointer, self.kind.as_pointer())
        self.builder.store(vector, place).align = self.size

    def prefetch(self, pointer: Any) -> None:
        """Fetch a cache line into the second-level cache; the pointer may lead anywhere."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, LANE, LANE, LANE])
        fetch = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0i8")
        to_read, second_level, data = LANE(0), LANE(2), LANE(1)
        place = self.builder.bitcast(pointer, byte)
        self.builder.call(fetch, [place, to_read, second_level, data])

    def constant(self, number: float) -> Any:
        return ir.Constant(self.kind, [number] * self.lanes)

    def same(self, number: Any) -> Any:
        """A vector of one number."""
        return repeated(self.builder, number, self.kind)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c, rounded once."""
        return self.builder.call(self.instruction("fma", 3), [a, b, c])

    def at_least(self, vector: Any, least: Any) -> Any:
        """The larger of two vectors; a NaN in the first stays one."""
        below = self.builder.fcmp_ordered("<", vector, least)
        return self.builder.select(below, least, vector)

    def total(self, vectors: list) -> Any:
        """The sum of all numbers of some vectors, halves added to halves."""
        builder = self.builder
        while len(vectors) > 1:
            half = len(vectors) // 2
            vectors = [
                builder.fadd(*pair) for pair in zip(vectors[:half], vectors[half:], strict=True)
            ]
        [vector], lanes = vectors, self.lanes
        while lanes > 1:
            lanes //= 2
            undefined = ir.Constant(vector.type, ir.Undefined)
            low, high = (
                builder.shuffle_vector(
                    vector,
                    undefined,
                    ir.Constant(ir.VectorType(LANE, lanes), list(range(first, first + lanes))),
                )
                for first in (0, lanes)
            )
            vector = builder.fadd(low, high)
        return builder.extract_element(vector, LANE(0))

    def sum(self, factors: Any, vectors: list) -> Any:
        """The sum of constant factors times vectors; a factor of 0 costs nothing."""
        total = None
        for factor, vector in zip(factors, vectors, strict=True):
            if factor == 0:
                continue
            constant = self.constant(float(factor))
            if total is None:
                total = vector if factor == 1 else self.builder.fmul(constant, vector)
            else:
                total = self.fma(constant, vector, total)
        return total

    @contextmanager
    def loop(self, count: Any, sums: list) -> Iterator[tuple[Any, list, list]]:
        """Repeat the code `count` times, at least once: (counter, sums before, sums after).

        The code sets "after"; when it has ended, `sums` are the last ones.
        """
        builder, before = self.builder, self.builder.block
        inside, behind = (builder.append_basic_block(name) for name in ("inside", "behind"))
        builder.branch(inside)
        builder.position_at_end(inside)
        counter = builder.phi(INDEX)
        phis, after = [builder.phi(self.kind) for _ in sums], list[Any]()
        yield counter, phis, after
        following, end = builder.add(counter, INDEX(1)), builder.block
        for phi, first, last in (
            (counter, INDEX(0), following),
            *zip(phis, sums, after, strict=True),
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(last, end)
        builder.cbranch(builder.icmp_signed("<", following, count), inside, behind)
        builder.position_at_end(behind)
        sums[:] = after


def add_products(
    code: Code, a: Any, across: int, rows: int, b: Any, depth: Any, sums: list[Any]
) -> None:
    """sums (rows, WIDE LANES) += a (rows, depth) b (depth, WIDE LANES), all sums in registers.

    The rows of a are `across` apart; b has no gaps.
    """
    with code.loop(depth, sums) as (at, before, after):
        row = code.at(b, code.times(at, WIDE * LANES))
        vectors = [code.load(code.at(row, v * LANES)) for v in range(WIDE)]
        for m in range(rows):
            factor = code.same(code.builder.load(code.at(a, at, m * across)))
            after += [code.fma(factor, vectors[v], before[m * WIDE + v]) for v in range(WIDE)]


def _product(code: Code, a: Any, i: Any, b: Any, j: Any, depth: Any, c: Any, k: Any, step: Any):
    a, b, c = code.at(a, i), code.at(b, j), code.at(c, k)
    places = [code.at(c, code.times(step, m), v * LANES) for m in range(ROWS) for v in range(WIDE)]
    sums = [code.load(place) for place in places]
    add_products(code, a, DEPTH, ROWS, b, depth, sums)
    for total, place in zip(sums, places, strict=True):
        code.store(total, place)


# c (9, WIDE LANES) += a (9, depth) b (depth, WIDE LANES): product(a, i, b, j, depth, c, k, step)
# from a[i:], whose rows are DEPTH apart, and b[j:], to c[k:], whose rows are `step` apart
product = function("aiaiiaii", _product)


def _outer_product(
    code: Code, a: Any, i: Any, b: Any, j: Any, depth: Any, c: Any, k: Any, step: Any, add: Any
):
    a, b, c = code.at(a, i), code.at(b, j), code.at(c, k)
    sums = [code.constant(0)] * (OUTER_ROWS * WIDE)
    with code.loop(depth, sums) as (at, before, after):
        row, column = code.at(b, code.times(at, STRIP)), code.at(a, code.times(at, 2 * OUTER_ROWS))
        vectors = [code.load(code.at(row, v * LANES)) for v in range(WIDE)]
        for m in range(OUTER_ROWS):
            factor = code.same(code.builder.load(code.at(column, m)))
            after += [code.fma(factor, vectors[v], before[m * WIDE + v]) for v in range(WIDE)]
    add = code.builder.icmp_signed("!=", add, INDEX(0))
    for m in range(OUTER_ROWS):
        for v in range(WIDE):
            place = code.at(c, code.times(step, m), v * LANES)
            known = code.builder.select(add, code.load(place), code.constant(0))
            code.store(code.builder.fadd(known, sums[m * WIDE + v]), place)


STRIP = WIDE * LANES  # numbers of a product's row
OUTER_ROWS = 8

# c (8, STRIP) = aᵀ b from a (depth, 8) and b (depth, STRIP), or += that if `add`:
# outer_product(a, i, b, j, depth, c, k, step, add) from a[i:], whose rows are 16 apart, and b[j:],
# which has no gaps, to c[k:], whose rows are `step` apart
outer_product = function("aiaiiaiii", _outer_product)


def _add_rows(images: int) -> Any:
    """y (images, columns) += x (images, 8) w (8, columns), for eight chosen terms.

    (x, i, across, w, j, step, terms, y, k, down, count, far): term t of x is at x[i + t:], with
    rows `across` apart; that of w is the row w[j + t step:]; rows of y are `down` apart from y[k:];
    a row has `count` whole vectors. The second eight of `terms` come next: the processor cannot
    foresee which rows are chosen, so they are prefetched here if w is `far`, not in a cache.
    """

    def build(code: Code, x, i, across, w, j, step, terms, y, k, down, count, far) -> None:
        x, w, y = code.at(x, i), code.at(w, j), code.at(y, k)
        far = code.builder.icmp_signed("!=", far, INDEX(0))
        chosen = [code.builder.load(code.at(terms, term)) for term in range(2 * TERMS)]
        starts = [code.at(w, code.times(step, term)) for term in chosen]
        factors = [
            [
                code.same(code.builder.load(code.at(x, code.times(across, n), term)))
                for term in chosen[:TERMS]
            ]
            for n in range(images)
        ]
        with code.loop(count, []) as (at, _, _):
            column = code.times(at, LANES)
            with code.builder.if_then(far):
                for start in starts[TERMS:]:
                    code.prefetch(code.at(start, column))
            rows = [code.load(code.at(start, column)) for start in starts[:TERMS]]
            for n in range(images):
                place = code.at(y, code.times(down, n), column)
                total = code.load(place)
                for factor, row in zip(factors[n], rows, strict=True):
                    total = code.fma(factor, row, total)
                code.store(total, place)

    return function("aiiaiinaiiii", build)


TERMS = 8  # each number of w is loaded once for all images
rows_of_1, rows_of_2, rows_of_3, rows_of_4 = map(_add_rows, range(1, 5))


def _dots(images: int) -> Any:
    """Products of some rows of w with rows of x: (w, j, step, x, i, across, y, k, down, count).

    y[k + n down + r] = the sum over 16 count numbers of w[j + r step:] times x[i + n across:], for
    DOTS rows r and each image n. Sixteen partial sums are added in pairs, whatever a vector holds.
    """

    def build(code: Code, w, j, step, x, i, across, y, k, down, count) -> None:
        w, x, y = code.at(w, j), code.at(x, i), code.at(y, k)
        parts = range(SUMS_OF_A_DOT // LANES)
        which = [(r, n, v) for r in range(DOTS) for n in range(images) for v in parts]
        sums = [code.constant(0)] * len(which)
        with code.loop(count, sums) as (at, before, after):
            column = code.times(at, SUMS_OF_A_DOT)

            def load(row: Any, v: int) -> Any:
                return code.load(code.at(row, column, v * LANES))

            left = [[load(code.at(w, code.times(step, r)), v) for v in parts] for r in range(DOTS)]
            right = [
                [load(code.at(x, code.times(across, n)), v) for v in parts] for n in range(images)
            ]
            after += [
                code.fma(left[r][v], right[n][v], total)
                for (r, n, v), total in zip(which, before, strict=True)
            ]
        of_dot = dict(zip(which, sums, strict=True))
        for r in range(DOTS):
            for n in range(images):
                total = code.total([of_dot[r, n, v] for v in parts])
                code.builder.store(total, code.at(y, code.times(down, n), r))

    return function("aiiaiiaiii", build)


DOTS = 4 if LANES == 16 else 2  # rows of w at once: their sums for four images stay in registers
SUMS_OF_A_DOT = 16
dots_of_1, dots_of_2, dots_of_3, dots_of_4 = map(_dots, range(1, 5))


def _touch(code: Code, x: Any, at: Any) -> None:
    number = code.builder.bitcast(code.at(x, at), LANE.as_pointer())
    code.builder.load_atomic(number, "monotonic", 4)  # unlike another, it is not optimised away


touch = function("ai", _touch)  # touch(x, i) reads the cache line of x[i], which is needed soon


def _transform(matrix: np.ndarray) -> Any:
    """matrix x matrixᵀ: (x, i, down, right, y, j, step), one vector for each of its numbers.

    Row r, column s of x is at x[i + r down + s right:]; number n of the result is at
    y[j + n step:].
    """
    rows, terms = matrix.shape

    def build(code: Code, x: Any, i: Any, down: Any, right: Any, y: Any, j: Any, step: Any):
        x, y = code.at(x, i), code.at(y, j)
        given = [
            [code.load(code.at(x, code.times(down, r), code.times(right, s))) for s in range(terms)]
            for r in range(terms)
        ]
        for m in range(rows):
            line = [code.sum(matrix[m], [row[s] for row in given]) for s in range(terms)]
            for n in range(rows):
                place = code.at(y, code.times(step, m * rows + n))
                code.store(code.sum(matrix[n], line), place)

    return function("aiiiaii", build)


def _finished(matrix: np.ndarray) -> Any:
    """max(floor, matrix x matrixᵀ + bias): (x, i, step, bias, k, floor, y, j, down, right, p, q).

    The 49 vectors of x are `step` apart from x[i:]; of the result, the first p rows and q columns
    are stored from y[j:]. A NaN stays one.
    """
    rows, terms = matrix.shape

    def build(code, x, i, step, bias, k, floor, y, j, down, right, p, q):
        builder = code.builder
        x, y, shift = code.at(x, i), code.at(y, j), code.load(code.at(bias, k))
        least = code.same(builder.load(floor))
        given = [
            [code.load(code.at(x, code.times(step, r * terms + s))) for s in range(terms)]
            for r in range(terms)
        ]
        for m in range(rows):
            with builder.if_then(builder.icmp_signed("<", INDEX(m), p)):
                line = [code.sum(matrix[m], [row[s] for row in given]) for s in range(terms)]
                for n in range(rows):
                    total = code.at_least(builder.fadd(code.sum(matrix[n], line), shift), least)
                    with builder.if_then(builder.icmp_signed("<", INDEX(n), q)):
                        place = code.at(y, code.times(down, m), code.times(right, n))
                        code.store(total, place)

    return function("aiiaiaaiiiii", build)


def _matrices(taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, g, b = winograd.matrices(taps, "float32")
    return a[: winograd.outputs(taps)], g[:, :taps], b


_A3, _G3, _B = _matrices(3)
_A5, _G5, _ = _matrices(5)
input_tile = _transform(_B)
kernels_of_3, kernels_of_5 = _transform(_G3), _transform(_G5)
outputs_of_3, outputs_of_5 = _finished(_A3), _finished(_A5)
