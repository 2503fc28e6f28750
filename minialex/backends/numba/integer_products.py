"""Products of 8-bit integers, four to a lane, in instructions that Numba cannot express (VNNI).

Without these instructions the same integers are multiplied as 32-bit numbers, which is slower.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minialex.backends.numba.vectors import has, loaded, repeated

STRIP = 32  # output channels of a product
TOGETHER = 4  # numbers of a lane
LANES = 16 if has("avx512vnni") else 8
ROWS = 9 if LANES == 16 else 3  # of a product: 18 sums stay in 32 registers, or 12 in 16
FAST = LANES == 16 or has("avxvnni")

_WIDE = STRIP // LANES
_WORD, _INDEX = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_WORD, LANES)


def _products(rows: int) -> Any:
    """c (rows, 32) = a (rows, 4 depth) b (depth, 32, 4): (a, i, step, b, j, depth, c).

    a holds unsigned bytes, rows `step` apart from a[i:]; b, from b[j:], signed ones; c int32.
    """
    unsigned, signed = types.Array(types.uint8, 1, "C"), types.Array(types.int8, 1, "C")
    sums, number = types.Array(types.int32, 1, "C"), types.int64
    signature = types.void(unsigned, number, number, signed, number, number, sums)

    def generate(context: Any, builder: ir.IRBuilder, _: Any, values: Any) -> Any:
        a, b, c = (
            context.make_array(signature.args[n])(context, builder, values[n]).data
            for n in (0, 3, 6)
        )
        _, i, step, _, j, depth, _ = values
        first = [
            builder.gep(a, [builder.add(i, builder.mul(step, _INDEX(m)))]) for m in range(rows)
        ]
        right = builder.gep(b, [j])
        nothing = ir.Constant(_VECTOR, [0] * LANES)
        totals = [cgutils.alloca_once(builder, _VECTOR) for _ in range(_WIDE * rows)]
        for total in totals:
            builder.store(nothing, total)
        with cgutils.for_range(builder, depth) as loop:
            row = builder.gep(right, [builder.mul(loop.index, _INDEX(STRIP * TOGETHER))])
            parts = [builder.gep(row, [_INDEX(v * LANES * TOGETHER)]) for v in range(_WIDE)]
            vectors = [loaded(builder, part, _VECTOR, 1) for part in parts]
            at = builder.mul(loop.index, _INDEX(TOGETHER))
            for m in range(rows):
                four = loaded(builder, builder.gep(first[m], [at]), _WORD, 1)
                for v, vector in enumerate(vectors):
                    total = totals[_WIDE * m + v]
                    builder.store(_add(builder, builder.load(total), four, vector), total)
        for m, total in enumerate(totals):
            pointer = builder.bitcast(builder.gep(c, [_INDEX(m * LANES)]), _VECTOR.as_pointer())
            builder.store(builder.load(total), pointer).align = 4
        return context.get_dummy_value()

    def typed(context, a, i, step, b, j, depth, c):
        return signature, generate

    return intrinsic(typed)


def _add(builder: ir.IRBuilder, total: Any, four: Any, vector: Any) -> Any:
    """total + the products of four unsigned bytes and each lane's four signed ones."""
    if FAST:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        name = f"llvm.x86.avx512.vpdpbusd.{32 * LANES}"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, [total, repeated(builder, four, _VECTOR), vector])
    for n in range(TOGETHER):
        byte = builder.and_(builder.lshr(four, _WORD(8 * n)), _WORD(255))
        up = ir.Constant(_VECTOR, [24 - 8 * n] * LANES)
        number = builder.ashr(builder.shl(vector, up), ir.Constant(_VECTOR, [24] * LANES))
        total = builder.add(total, builder.mul(repeated(builder, byte, _VECTOR), number))
    return total


products_of_one, products_of_all = _products(1), _products(ROWS)
