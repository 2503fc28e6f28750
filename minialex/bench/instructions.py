"""`python -m minialex.bench.instructions`: how fast a core multiplies float32, bf16 and int8.

The instructions alone, on numbers in the first cache: what a product in each type could reach.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from minialex.backends.numba.vectors import has, loaded
from minialex.utils.table import plain

_INDEX = ir.IntType(64)
_FLOATS, _WORDS = ir.VectorType(ir.FloatType(), 16), ir.VectorType(ir.IntType(32), 16)
_HALVES = ir.VectorType(ir.IntType(16), 32)
_SUMS = 18  # independent ones
_TURNS = 200_000

# name: instruction in LLVM, what the processor needs, products of one, sums' type, factors' type
KINDS = {
    "float32 (fused multiply-add)": ("llvm.fma.v16f32", "avx512f", 16, _FLOATS, _FLOATS),
    "bf16 (AVX512_BF16)": ("llvm.x86.avx512bf16.dpbf16ps.512", "avx512bf16", 32, _FLOATS, _HALVES),
    "int8 (VNNI)": ("llvm.x86.avx512.vpdpbusd.512", "avx512vnni", 64, _WORDS, _WORDS),
}


def rate(name: str) -> float | None:
    """Multiply-adds per second on one core; None if this processor has no such instruction."""
    instruction, feature, products, total, factor = KINDS[name]
    if not has(feature):
        return None
    run = _compiled(instruction, total, factor)
    numbers = np.zeros(16 * (_SUMS + 2), np.int32)
    run(numbers, 1)
    best = min(_seconds(lambda: run(numbers, _TURNS)) for _ in range(7))
    return products * _SUMS * _TURNS / best


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _compiled(instruction: str, total: ir.Type, factor: ir.Type) -> Any:
    """A function of (numbers, turns): `turns` times, each of the sums += two factors' products."""
    array = types.Array(types.int32, 1, "C")

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        first = context.make_array(array)(context, builder, values[0]).data

        def pointer(n: int) -> Any:
            return builder.gep(first, [_INDEX(16 * n)])

        def load(n: int, kind: ir.Type) -> Any:
            return loaded(builder, pointer(n), kind, 4)

        a, b = load(_SUMS, factor), load(_SUMS + 1, factor)
        # a fused multiply-add has its sum last, the others first
        last = instruction.startswith("llvm.fma")
        kinds = [factor, factor, total] if last else [total, factor, factor]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(total, kinds), instruction
        )
        sums = [cgutils.alloca_once(builder, total) for _ in range(_SUMS)]
        for n, one in enumerate(sums):
            builder.store(load(n, total), one)
        with cgutils.for_range(builder, values[1]):
            for one in sums:
                c = builder.load(one)
                builder.store(builder.call(function, [a, b, c] if last else [c, a, b]), one)
        for n, one in enumerate(sums):
            to = builder.bitcast(pointer(n), total.as_pointer())
            builder.store(builder.load(one), to).align = 4
        return context.get_dummy_value()

    def typed(typing_context, numbers, turns):
        return types.void(array, types.int64), generate

    turn: Any = intrinsic(typed)

    @njit
    def run(numbers, turns):
        turn(numbers, turns)

    return run


def main() -> None:
    """Print a table."""
    rates = {name: rate(name) for name in KINDS}
    [basis, *_] = rates.values()
    rows = [
        (name, "none here", "")
        if found is None
        else (name, f"{found / 1e9:,.0f}", f"{found / basis:.2f}" if basis else "")
        for name, found in rates.items()
    ]
    print(plain(("instruction", "10^9 products/s", "ratio"), rows, "<>>"))


if __name__ == "__main__":
    main()
