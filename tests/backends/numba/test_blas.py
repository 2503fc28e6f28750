"""Products of parts of arrays."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minialex.backends.numba import blas
from minialex.testing.tolerance import assert_close


@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(0, 3)] * 3),
    st.sampled_from(["multiply", "multiply_transposed", "multiply_by_transposed"]),
    st.booleans(),
    st.sampled_from(["float32", "float64"]),
)
def test_products_of_subarrays(sizes, beside, which, add, dtype):
    (m, n, depth), rng = sizes, np.random.default_rng(sum(sizes))
    shapes = {
        "multiply": ((m, depth), (depth, n)),
        "multiply_transposed": ((depth, m), (depth, n)),
        "multiply_by_transposed": ((m, depth), (n, depth)),
    }[which]
    wide = [
        rng.normal(size=(rows, columns + 2 * extra)).astype(dtype)
        for (rows, columns), extra in zip((*shapes, (m, n)), beside, strict=True)
    ]
    a, b, c = (
        array[:, extra : array.shape[1] - extra] for array, extra in zip(wide, beside, strict=True)
    )
    left = a.T if which == "multiply_transposed" else a
    right = b.T if which == "multiply_by_transposed" else b
    wanted = left @ right + (c if add else 0)
    around = wide[2].copy()
    getattr(blas, which)(a, b, c, add)
    assert_close(np.array(c), wanted, dtype, depth)
    around[:, beside[2] : wide[2].shape[1] - beside[2]] = c
    np.testing.assert_array_equal(wide[2], around)  # nothing beside it was written
