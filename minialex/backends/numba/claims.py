"""Items of work that threads claim when they are ready for another.

Work that is divided in advance takes as long as its slowest thread, which other programs or a slow
core delay. Each item is computed in the same way whichever thread claims it, so the results have
the same bits. Only for items with outputs of their own: a sum over items would depend on which
thread computes which.

    claimed = new_claims()
    for _ in prange(threads):
        item = claim(claimed)
        while item < count:
            ...
            item = claim(claimed)
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from minialex.utils.jit import compiled


@compiled
def new_claims():
    """The number of items that were claimed: int64 (1,), zero."""
    claimed = np.empty(1, np.int64)
    claimed[0] = 0  # np.zeros would be a parallel loop of its own
    return claimed


def _add(typing_context: Any, counts: Any, place: Any) -> Any:
    """counts[place] += 1 in one step that other threads see after all before it; what it was."""
    if counts != types.Array(types.int64, 1, "C"):
        raise TypingError(f"claims are counted in an int64 array of one axis, not {counts}")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(counts, types.int64), generate


add_one: Any = intrinsic(_add)  # add_one(counts, place)


@compiled
def claim(claimed):
    """The number of the next item."""
    return add_one(claimed, 0)
