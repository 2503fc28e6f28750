"""ReLU, tanh and the sigmoid, on every backend, against the loops of `reference/`."""

import numpy as np
from helpers.strategies import DTYPES, LAYOUTS, grid, laid_out
from hypothesis import given
from hypothesis import strategies as st

from minialex.testing.tolerance import assert_close, exact
from reference import activations


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 9)),
    st.sampled_from(DTYPES),
    st.sampled_from(LAYOUTS),
    st.integers(0, 99),
)
def test_activations(b, shape, dtype, layout, seed):
    x, dy = (laid_out(grid(shape, seed + i).astype(dtype), layout) for i in (0, 1))
    for name in ("relu", "tanh", "sigmoid"):
        wanted = getattr(activations, name)(exact(x))
        y = getattr(b, name)(b.asarray(x))
        assert_close(b.to_numpy(y), wanted, dtype, 1, name)
        wanted = getattr(activations, f"{name}_gradient")(exact(x), exact(dy))
        dx = getattr(b, f"{name}_gradient")(b.asarray(dy), y)
        assert_close(b.to_numpy(dx), wanted, dtype, 4, f"{name} gradient")


def test_the_sigmoid_of_large_numbers_is_zero_or_one(b):
    """Without a warning: exp(1000) is infinite."""
    y = b.to_numpy(b.sigmoid(b.asarray(np.array([-1000.0, 0.0, 1000.0]))))
    np.testing.assert_array_equal(y, [0.0, 0.5, 1.0])


def test_relu_keeps_nan(b):
    assert np.isnan(b.to_numpy(b.relu(b.asarray(np.array([np.nan, 1.0]))))[0])
