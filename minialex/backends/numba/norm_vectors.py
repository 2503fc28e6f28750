"""Vector instructions for response normalisation over five channels with β = 3/4.

The sums of five neighbours are made in registers, of vectors moved by one or two lanes. Squares
that are written to memory are read across the borders of what was written, for which the processor
waits. The operations are those of the plain loops, in their order.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError

from minialex.backends.numba.vectors import (
    INDEX,
    LANE,
    LANES,
    Code,
    loaded,
    repeated,
    with_arguments,
)
from minialex.utils.jit import inlined

_WIDE = 4 * LANES  # bytes of a vector
_NARROW = 32  # of one where groups of channels are not whole wide ones
_BYTE, _BIT = ir.IntType(8), ir.IntType(1)


class _Channels(Code):
    """Vectors of channels, and what is done with them."""

    def some(self, kind: Any) -> Any:
        """The type of as many others."""
        return ir.VectorType(kind, self.lanes)

    def numbers(self, number: Any, kind: Any) -> Any:
        """A vector of one integer, as another type."""
        return repeated(self.builder, self.builder.trunc(number, kind), self.some(kind))

    def vector(self, pointer: Any, number: Any) -> Any:
        """The pointer to the vector with this number."""
        return self.at(pointer, self.times(number, self.lanes))

    def following(self, pointer: Any, number: Any, count: Any) -> Any:
        """The vector behind the one with this number; zeros behind the last of `count`."""
        builder, next_one = self.builder, self.builder.add(number, INDEX(1))
        more = builder.icmp_signed("<", next_one, count)
        found = self.load(self.vector(pointer, builder.select(more, next_one, number)))
        return builder.select(more, found, self.constant(0))

    def sum_of_five(self, before: Any, here: Any, behind: Any) -> Any:
        """For each lane of `here`, the sum of it and two neighbours on each side, in order."""
        builder, lanes = self.builder, self.lanes

        def moved(left: Any, right: Any, first: int) -> Any:
            chosen = ir.Constant(self.some(LANE), list(range(first, first + lanes)))
            return builder.shuffle_vector(left, right, chosen)

        total = builder.fadd(moved(before, here, lanes - 2), moved(before, here, lanes - 1))
        for vector in (here, moved(here, behind, 1), moved(here, behind, 2)):
            total = builder.fadd(total, vector)
        return total

    def scale(self, squares: tuple, k: Any, alpha: Any) -> Any:
        """k + α times the sum of five squares."""
        return self.builder.fadd(k, self.builder.fmul(alpha, self.sum_of_five(*squares)))

    def power(self, scale: Any) -> Any:
        """scale^-3/4"""
        sqrt = self.instruction("sqrt", 1)
        root = self.builder.call(sqrt, [scale])
        roots = self.builder.fmul(root, self.builder.call(sqrt, [root]))
        return self.builder.fdiv(self.constant(1), roots)


def _function(build: Callable[..., None], arguments: str, vector: int) -> Any:
    """An intrinsic of the given arguments and a count of channels, which are whole vectors.

    For each letter: "a": a flat array and the place in it where the channels begin, "b": the same
    of uint8, "f": a number of the arrays' type, repeated in a vector, "i": an integer. `vector` is
    the number of bytes of a vector.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds, values = list(signature.args), list(values)
        size = kinds[0].dtype.bitwidth // 8
        code = _Channels(builder, size, vector // size)
        given = []
        for kind in arguments:
            first, value = kinds.pop(0), values.pop(0)
            if kind in "ab":
                data = context.make_array(first)(context, builder, value).data
                kinds.pop(0)
                value = builder.gep(data, [values.pop(0)])
            given.append(code.same(value) if kind == "f" else value)
        build(code, *given, builder.udiv(values[0], INDEX(code.lanes)))
        return context.get_dummy_value()

    def typed(x: Any, *_: Any) -> Any:
        if not (isinstance(x, types.Array) and x.ndim == 1 and x.layout == "C"):
            raise TypingError(f"not a flat array: {x}")
        flat = [types.Array(kind, 1, "C") for kind in (x.dtype, types.uint8)]
        kinds = {
            "a": [flat[0], types.int64],
            "b": [flat[1], types.int64],
            "f": [x.dtype],
            "i": [types.int64],
        }
        signature = types.void(
            *(kind for letter in arguments for kind in kinds[letter]), types.int64
        )
        return signature, generate

    return with_arguments(len(arguments) + sum(a in "ab" for a in arguments) + 1, typed)


def _normalise(code: _Channels, x: Any, y: Any, k: Any, alpha: Any, count: Any) -> None:
    builder, first = code.builder, code.load(x)
    start = [code.constant(0), builder.fmul(first, first), first]
    with code.loop(count, start) as (at, (before, squares, here), after):
        behind = code.following(x, at, count)
        its_squares = builder.fmul(behind, behind)
        power = code.power(code.scale((before, squares, its_squares), k, alpha))
        code.store(builder.fmul(here, power), code.vector(y, at))
        after += [squares, its_squares, behind]


def _gradient(
    code: _Channels,
    dy: Any,
    x: Any,
    dx: Any,
    k: Any,
    alpha: Any,
    factor: Any,
    relu: Any,
    count: Any,
) -> None:
    """Each step stores the vector before its own, whose neighbours it completes."""
    builder, zero, first = code.builder, code.constant(0), code.load(x)
    linear = builder.icmp_signed("==", relu, INDEX(0))
    linear = repeated(builder, linear, code.some(_BIT))

    def store(number: Any, ratios: tuple, slope: Any, here: Any) -> None:
        part = builder.fmul(builder.fmul(factor, here), code.sum_of_five(*ratios))
        found = builder.fsub(slope, part)
        passes = builder.or_(linear, builder.fcmp_ordered(">", here, zero))
        found = builder.select(passes, found, builder.fmul(found, zero))
        code.store(found, code.vector(dx, number))

    carried = [zero, builder.fmul(first, first), first, zero, zero, zero, zero]
    with code.loop(count, carried) as (at, now, after):
        before, squares, here, ratio_2, ratio_1, slope_1, here_1 = now
        behind = code.following(x, at, count)
        its_squares = builder.fmul(behind, behind)
        scale = code.scale((before, squares, its_squares), k, alpha)
        slope = builder.fmul(code.load(code.vector(dy, at)), code.power(scale))
        ratio = builder.fdiv(builder.fmul(slope, here), scale)
        is_first = builder.icmp_signed("==", at, INDEX(0))
        place = builder.select(is_first, at, builder.sub(at, INDEX(1)))  # the next writes there too
        store(place, (ratio_2, ratio_1, ratio), slope_1, here_1)
        after += [squares, its_squares, behind, ratio_1, ratio, slope, here]
    *_, ratio_2, ratio_1, slope, here = carried
    store(builder.sub(count, INDEX(1)), (ratio_2, ratio_1, zero), slope, here)


def _largest(code: _Channels, x: Any, *given: Any) -> None:
    builder, (*places, y, argmax, with_taps, count) = code.builder, given
    places, taps = places[:9], [code.numbers(number, LANE) for number in places[9:]]
    with code.loop(count, []) as (at, _, _):
        values = [code.load(code.vector(code.at(x, place), at)) for place in places]
        found, tap = values[0], taps[0]
        for value, number in zip(values[1:], taps[1:], strict=True):
            larger = builder.fcmp_unordered(">", value, found)  # or one of them is a NaN
            wins = builder.and_(larger, builder.fcmp_ordered("ord", found, found))
            found, tap = builder.select(wins, value, found), builder.select(wins, number, tap)
        code.store(found, code.vector(y, at))
        with builder.if_then(builder.icmp_signed("!=", with_taps, INDEX(0))):
            kind = code.some(_BYTE)
            place = builder.bitcast(code.vector(argmax, at), kind.as_pointer())
            builder.store(builder.trunc(tap, kind), place).align = 1


def _gathered(code: _Channels, dy: Any, argmax: Any, slope: Any, *given: Any) -> None:
    builder, zero = code.builder, code.constant(0)
    places, taps = given[:4], [code.numbers(number, _BYTE) for number in given[4:8]]
    with code.loop(given[8], []) as (at, _, _):
        total = zero
        for place, number in zip(places, taps, strict=True):
            value = code.load(code.vector(code.at(dy, place), at))
            pointer = code.vector(code.at(argmax, place), at)
            tap = loaded(builder, pointer, code.some(_BYTE), 1)
            chosen = builder.icmp_unsigned("==", tap, number)
            total = builder.fadd(total, builder.select(chosen, value, zero))
        code.store(total, code.vector(slope, at))


def _both(build: Callable[..., None], arguments: str) -> tuple[Any, Any]:
    """The function for wide vectors and for narrow ones."""
    wide, narrow = (_function(build, arguments, vector) for vector in (_WIDE, _NARROW))
    return wide, narrow


_normalise_wide, _normalise_narrow = _both(_normalise, "aaff")
_gradient_wide, _gradient_narrow = _both(_gradient, "aaafffi")
_largest_wide, _largest_narrow = _both(_largest, "a" + 18 * "i" + "abi")
_gathered_wide, _gathered_narrow = _both(_gathered, "aba" + 8 * "i")


@inlined
def is_whole(x, group):
    """Whether the functions below apply: the group's channels are whole vectors."""
    return group * x.itemsize % _NARROW == 0


@inlined
def normalise_five(x, i, y, j, k, alpha, group):
    """y[j:] = x[i:] s^-3/4 for a group of a pixel's channels."""
    if group * x.itemsize % _WIDE == 0:
        _normalise_wide(x, i, y, j, k, alpha, group)
    else:
        _normalise_narrow(x, i, y, j, k, alpha, group)


@inlined
def gradient_of_five(dy, h, x, i, dx, j, k, alpha, factor, relu, group):
    """dx[j:] from dy[h:] and x[i:]; factor = 2αβ; with `relu`, also through one that gave x."""
    if group * x.itemsize % _WIDE == 0:
        _gradient_wide(dy, h, x, i, dx, j, k, alpha, factor, relu, group)
    else:
        _gradient_narrow(dy, h, x, i, dx, j, k, alpha, factor, relu, group)


@inlined
def largest_of_nine(x, places, numbers, y, argmax, to, with_taps, count):
    """y[to:] = the maxima of x at nine places; argmax[to:] is the number of the first, if asked.

    A NaN wins over all but another.
    """
    if count * x.itemsize % _WIDE == 0:
        _largest_wide(x, 0, *places, *numbers, y, to, argmax, to, with_taps, count)
    else:
        _largest_narrow(x, 0, *places, *numbers, y, to, argmax, to, with_taps, count)


@inlined
def gather(dy, argmax, slope, places, numbers, count):
    """slope = the sum of dy at four places, each where argmax is its number."""
    if count * dy.itemsize % _WIDE == 0:
        _gathered_wide(dy, 0, argmax, 0, slope, 0, *places, *numbers, count)
    else:
        _gathered_narrow(dy, 0, argmax, 0, slope, 0, *places, *numbers, count)
