"""Vector instructions for products of matrices with few rows: tiles of sums in registers."""

from typing import Any

from minialex.backends.numba.vectors import INDEX, LANES, WIDE, function

HIGH, COLUMNS = 8, WIDE * LANES  # of a tile of the result
DEPTH = 512  # terms that a sum has before it is added to the result
ACROSS = DEPTH + 16  # from a row of a tile's left side to the next: not all in one set of the cache
FETCHED = 128  # numbers of a row that are called for at once


def _tile(adds: bool) -> Any:
    """c (HIGH, COLUMNS) = a (HIGH, depth) b (depth, COLUMNS), or c += a b.

    (a, i, b, j, depth, c, k, step): a from i, its rows ACROSS apart; b from j, without gaps; c from
    k, its rows `step` apart.
    """

    def build(code, a, i, b, j, depth, c, k, step) -> None:
        a, b, c = code.at(a, i), code.at(b, j), code.at(c, k)
        sums = [code.constant(0)] * (HIGH * WIDE)
        with code.loop(depth, sums) as (at, before, after):
            row = code.at(b, code.times(at, COLUMNS))
            vectors = [code.load(code.at(row, v * LANES)) for v in range(WIDE)]
            for m in range(HIGH):
                factor = code.same(code.builder.load(code.at(a, at, m * ACROSS)))
                after += [code.fma(factor, vectors[v], before[m * WIDE + v]) for v in range(WIDE)]
        for n, total in enumerate(sums):
            place = code.at(c, code.times(step, n // WIDE), n % WIDE * LANES)
            code.store(code.builder.fadd(code.load(place), total) if adds else total, place)

    return function("aiaiiaii", build)


set_tile, add_tile = map(_tile, (False, True))


def _fetch(code, w, j, step) -> None:
    w = code.at(w, j)
    with code.loop(INDEX(HIGH), []) as (row, _, _):
        start = code.at(w, code.times(step, row))
        for line in range(0, FETCHED, 16):
            code.prefetch(code.at(start, line))


# fetch(w, j, step): call for FETCHED numbers of HIGH rows, `step` apart, from w[j:]; j may lead
# beyond the end
fetch = function("aii", _fetch)


def _copy(code, x, i, across, rows, panel, to) -> None:
    x, panel = code.at(x, i), code.at(panel, to)
    with code.loop(rows, []) as (row, _, _):
        start, there = code.at(x, code.times(across, row)), code.at(panel, code.times(row, COLUMNS))
        for v in range(WIDE):
            code.store(code.load(code.at(start, v * LANES)), code.at(there, v * LANES))


# copy_panel(x, i, across, rows, panel, to): COLUMNS numbers of each of the rows of x from i on,
# `across` apart, to a panel
copy_panel = function("aiiiai", _copy)
