"""Dense layers of a few images to sixteen: the weights are read once, in the rows they have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minialex import backends
from minialex.backends.numba import dense, vectors
from minialex.testing.tolerance import assert_close

MOST = backends.get("numba").threads
EXACT = backends.get("numpy")


@settings(max_examples=60)
@given(
    st.integers(1, dense.SOME + 2),
    st.sampled_from([1, 7, 8, 63, 130, 1000]),
    st.sampled_from([1, 5, 16, 40, 513, 530]),
    st.booleans(),
)
def test_products_and_input_gradients_of_some_images(n, i, o, relu):
    """Each number of threads has the same bits, where vectors are used."""
    rng = np.random.default_rng(n)
    x, weight, bias, dy = (rng.normal(size=size) for size in ((n, i), (i, o), (o,), (n, o)))
    single = [array.astype(np.float32) for array in (x, weight, bias, dy)]
    wanted = EXACT.dense(x, weight, bias, relu), EXACT.dense_input_gradient(dy, weight, (n, i))
    bits = set()
    for threads in sorted({1, MOST}):
        b = backends.get("numba", threads=threads)
        y = b.dense(*single[:3], relu)
        dx = b.dense_input_gradient(single[3], single[1], (n, i))
        assert_close(y, wanted[0], "float32", i)
        assert_close(dx, wanted[1], "float32", o)
        bits.add((y.tobytes(), dx.tobytes()))
    assert len(bits) == 1 or not dense.FEW < n <= dense.SOME or not vectors.FUSED


@pytest.mark.parametrize("n", [dense.FEW + 1, dense.SOME])
def test_long_sums_round_as_little_as_a_blas(n):
    """Sums over some hundred rows are formed apart: one sum over all would round ten times more."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(n, 9216)), rng.normal(size=(9216, 64))
    b, x32, weight32 = backends.get("numba"), x.astype(np.float32), weight.astype(np.float32)
    wanted = x32.astype(float) @ weight32.astype(float)
    error = np.abs(b.dense(x32, weight32, None) - wanted).max() / wanted.std()
    assert error < 4e-6
