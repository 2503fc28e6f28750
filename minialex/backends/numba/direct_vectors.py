"""Vector instructions for direct convolution: pixels or weights by channels, in registers."""

from typing import Any

from minialex.backends.numba.vectors import LANES, WIDE, function


def _line(pixels: int) -> Any:
    """y (pixels, COLUMNS) = max(floor, windows x w + bias), for the windows of a row of pixels.

    (x, i, down, right, rows, depth, w, j, step, bias, k, floor, y, to, across): row r of window m
    is the `depth` numbers of x from i + r down + m right; the rows of w are `step` apart from j,
    those of y `across` apart from `to`. A NaN stays one.
    """

    def build(code, x, i, down, right, rows, depth, w, j, step, bias, k, floor, y, to, across):
        x, w, y, bias = code.at(x, i), code.at(w, j), code.at(y, to), code.at(bias, k)
        shifts, builder = [code.load(code.at(bias, v * LANES)) for v in range(WIDE)], code.builder
        sums = shifts * pixels
        with code.loop(rows, sums) as (r, of_row, after_row):
            first, inner = code.at(x, code.times(down, r)), list(of_row)
            starts = [code.at(first, code.times(right, m)) for m in range(pixels)]
            weights = code.at(w, code.times(step, code.times(depth, r)))
            with code.loop(depth, inner) as (at, before, after):
                row = code.at(weights, code.times(step, at))
                vectors = [code.load(code.at(row, v * LANES)) for v in range(WIDE)]
                for m, start in enumerate(starts):
                    factor = code.same(builder.load(code.at(start, at)))
                    after += [
                        code.fma(factor, vectors[v], before[m * WIDE + v]) for v in range(WIDE)
                    ]
            after_row += inner
        least = code.same(builder.load(floor))
        for n, total in enumerate(sums):
            place = code.at(y, code.times(across, n // WIDE), n % WIDE * LANES)
            code.store(code.at_least(total, least), place)

    return function("aiiiiiaiiaiaaii", build)


LINE, SHORT_LINE = 8, 7  # windows, or numbers of a window, at once
COLUMNS = WIDE * LANES  # channels at once
line_of_8, line_of_7 = map(_line, (LINE, SHORT_LINE))


def _slopes(code, x, i, down, right, dy, j, step, rows, columns, dw, to, across) -> None:
    x, dy, dw = code.at(x, i), code.at(dy, j), code.at(dw, to)
    sums = [code.constant(0)] * (LINE * WIDE)
    with code.loop(rows, sums) as (p, of_row, after_row):
        pixels, inner = code.at(x, code.times(down, p)), list(of_row)
        slopes = code.at(dy, code.times(step, code.times(columns, p)))
        with code.loop(columns, inner) as (q, before, after):
            window, row = (
                code.at(pixels, code.times(right, q)),
                code.at(slopes, code.times(step, q)),
            )
            vectors = [code.load(code.at(row, v * LANES)) for v in range(WIDE)]
            for m in range(LINE):
                factor = code.same(code.builder.load(code.at(window, m)))
                after += [code.fma(factor, vectors[v], before[m * WIDE + v]) for v in range(WIDE)]
        after_row += inner
    for n, total in enumerate(sums):
        place = code.at(dw, code.times(across, n // WIDE), n % WIDE * LANES)
        code.store(code.builder.fadd(code.load(place), total), place)


# dw (8, COLUMNS) += the sum over rows and columns of x[i + p down + q right:] times
# dy[j + (p columns + q) step:]: slopes_of_8(x, i, down, right, dy, j, step, rows, columns, dw, to,
# across); the rows of dw are `across` apart. The sum is formed apart: one of a whole batch would
# lose digits
slopes_of_8 = function("aiiiaiiiiaii", _slopes)
