"""Vector instructions for dense layers of a batch: a product's micro-kernel, and what feeds it."""

from typing import Any

from minialex.backends.numba.vectors import INDEX, LANES, WIDE, Code, add_products, function

ROWS, COLUMNS = 8, WIDE * LANES  # sums in registers
BLOCK = 512  # terms that are summed before they are added to the result
ACROSS = (
    BLOCK + 16
)  # from one of a product's packed rows to the next: not all in one set of a cache
PREFETCHED = 128  # numbers of a row at once


def _product(adds: bool) -> Any:
    """c (ROWS, COLUMNS) = a (ROWS, depth) b (depth, COLUMNS), or c += a b.

    (a, i, b, j, depth, c, k): a from i, its rows ACROSS apart; b from j and c from k, without gaps.
    """

    def build(code: Code, a: Any, i: Any, b: Any, j: Any, depth: Any, c: Any, k: Any) -> None:
        a, b, c = code.at(a, i), code.at(b, j), code.at(c, k)
        sums = [code.constant(0)] * (ROWS * WIDE)
        add_products(code, a, ACROSS, ROWS, b, depth, sums)
        for n, total in enumerate(sums):
            place = code.at(c, n * LANES)
            code.store(code.builder.fadd(code.load(place), total) if adds else total, place)

    return function("aiaiiai", build)


set_product, add_product = map(_product, (False, True))


def _prefetch(code: Code, w: Any, j: Any, step: Any) -> None:
    w = code.at(w, j)
    with code.loop(INDEX(ROWS), []) as (row, _, _):
        start = code.at(w, code.times(step, row))
        for line in range(0, PREFETCHED, 16):
            code.prefetch(code.at(start, line))


# prefetch(w, j, step): PREFETCHED numbers of ROWS rows, `step` apart, from w[j:]; j may lead beyond
# the end
prefetch = function("aii", _prefetch)


def _pack(code: Code, x: Any, i: Any, across: Any, rows: Any, packed: Any, to: Any) -> None:
    x, packed = code.at(x, i), code.at(packed, to)
    with code.loop(rows, []) as (row, _, _):
        start, place = (
            code.at(x, code.times(across, row)),
            code.at(packed, code.times(row, COLUMNS)),
        )
        for v in range(WIDE):
            code.store(code.load(code.at(start, v * LANES)), code.at(place, v * LANES))


# pack(x, i, across, rows, packed, to): COLUMNS numbers of some rows of x, `across` apart from i,
# one row after the other
pack = function("aiiiai", _pack)
