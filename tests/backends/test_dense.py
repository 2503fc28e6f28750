"""Dense layers and their gradients, on every backend, against the loops of `reference/`."""

import numpy as np
from helpers.strategies import DTYPES, LAYOUTS, grid, laid_out
from hypothesis import given
from hypothesis import strategies as st

from minialex.testing.tolerance import assert_close, exact
from reference import dense


@given(
    st.tuples(*[st.integers(1, 7)] * 3),
    st.sampled_from(DTYPES),
    st.sampled_from(LAYOUTS),
    st.integers(0, 99),
)
def test_dense(b, sizes, dtype, layout, seed):
    n, i, o = sizes
    shapes = ((n, i), (i, o), (n, o))
    x, weight, dy = (
        laid_out(grid(shape, seed + j).astype(dtype), layout) for j, shape in enumerate(shapes)
    )
    bias = grid((o,), seed + 3).astype(dtype)
    wanted = dense.forward(exact(x), exact(weight), exact(bias))
    arrays = b.asarray(x), b.asarray(weight), b.asarray(bias)
    assert_close(b.to_numpy(b.dense(*arrays)), wanted, dtype, i, "y")
    rectified = b.to_numpy(b.dense(*arrays, relu=True))
    assert_close(rectified, np.maximum(wanted, 0), dtype, i, "relu")
    wanted = dense.gradients(exact(x), exact(weight), exact(dy))
    found = (
        b.dense_input_gradient(b.asarray(dy), arrays[1], x.shape),
        b.dense_weight_gradient(arrays[0], b.asarray(dy)),
        b.bias_gradient(b.asarray(dy)),
    )
    for name, ours, theirs in zip(("dx", "dW", "db"), found, wanted, strict=True):
        assert_close(b.to_numpy(ours), theirs, dtype, max(n, o), name)
