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


def _claim(typing_context: Any, claimed: Any) -> Any:
    """The number of the next item; one atomic instruction reads and increases it."""
    if claimed != types.Array(types.int64, 1, "C"):
        raise TypingError(f"claim takes the array of new_claims(), int64 (1,), not {claimed}")

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        one = context.get_constant(types.int64, 1)
        return builder.atomic_rmw("add", array.data, one, "monotonic")

    return types.int64(claimed), generate


claim: Any = intrinsic(_claim)  # claim(claimed)
