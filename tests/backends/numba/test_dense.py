"""Dense layers of a few images to sixteen, which read the weights once in the rows they have, and
of larger batches, which pack them."""

import numpy as np
import pytest
from helpers.strategies import LAYOUTS, laid_out
from hypothesis import given, settings
from hypothesis import strategies as st

from minialex import backends
from minialex.backends.numba import dense, dense_packed, vectors
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


@settings(max_examples=30)
@given(
    st.sampled_from([dense.SOME + 1, 32, 65, 131, dense_packed.MOST]),
    st.sampled_from([(1024, 512), (1030, 516), (515, 1100), (129, 4100), (4099, 131)]),
    st.sampled_from(LAYOUTS),
    st.booleans(),
    st.integers(0, 99),
)
def test_products_and_input_gradients_of_a_batch(n, sizes, layout, relu, seed):
    """As above; one weight that is not finite reaches the outputs that it belongs to, and no other.

    A backend with fixed sums has the same bits too.
    """
    rng, (i, o) = np.random.default_rng(seed), sizes
    x, weight, bias, dy = (rng.normal(size=size) for size in ((n, i), (i, o), (o,), (n, o)))
    single = [laid_out(array.astype(np.float32), layout) for array in (x, weight, bias, dy)]
    at = rng.integers(i), rng.integers(o)
    broken = single[1].copy()
    broken[at] = np.inf
    possible = vectors.LANES == 16 and vectors.FUSED
    assert dense_packed.worthwhile(n, single[1], single[0]) == possible
    wanted = EXACT.dense(x, weight, bias, relu), EXACT.dense_input_gradient(dy, weight, (n, i))
    bits = set()
    one = backends.get("numba", threads=1)
    for b in (one, one.with_fixed_sums(), backends.get("numba", threads=MOST)):
        y = b.dense(single[0], single[1], single[2], relu)
        dx = b.dense_input_gradient(single[3], single[1], (n, i))
        assert_close(y, wanted[0], "float32", i)
        assert_close(dx, wanted[1], "float32", o)
        bits.add((y.tobytes(), dx.tobytes()))
        hit = (
            b.dense(single[0], broken, single[2]),
            b.dense_input_gradient(single[3], broken, (n, i)),
        )
        for found, column in zip(hit, reversed(at), strict=True):
            seen = ~np.isfinite(found)
            assert seen[:, column].all()
            assert not np.delete(seen, column, axis=1).any()
    assert len(bits) == 1 or not possible


def test_layers_that_are_not_packed():
    """Batches that are too large, and weights that are too small, or not of float32."""
    weight = np.zeros((1024, 1024), np.float32)
    assert dense_packed.worthwhile(64, weight) == (vectors.LANES == 16 and vectors.FUSED)
    assert not dense_packed.worthwhile(dense_packed.MOST + 1, weight)
    assert not dense_packed.worthwhile(64, weight[:, :120])
    assert not dense_packed.worthwhile(64, weight[:256, :256])
    assert not dense_packed.worthwhile(64, weight.astype(float))


@pytest.mark.parametrize("n", [dense.FEW + 1, dense.SOME, 128])
def test_long_sums_round_as_little_as_a_blas(n):
    """Sums over some hundred rows are formed apart: one sum over all would round ten times more."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(n, 9216)), rng.normal(size=(9216, 128))
    b, x32, weight32 = backends.get("numba"), x.astype(np.float32), weight.astype(np.float32)
    wanted = x32.astype(float) @ weight32.astype(float)
    for found in (
        b.dense(x32, weight32, None),
        b.dense_input_gradient(x32, np.ascontiguousarray(weight32.T), (n, 128)),
    ):
        assert np.abs(found - wanted).max() / wanted.std() < 4e-6


@settings(max_examples=60)
@given(
    st.integers(1, dense.FEW),
    st.sampled_from([1, 7, 8, 63, 130, 1000]),
    st.sampled_from([1, 5, 16, 40, 530]),
    st.floats(0, 1),
)
def test_a_few_images_read_only_the_rows_that_an_input_is_not_zero_for(n, i, o, share):
    """Rows that are not read may hold anything; the others are added as if all were there."""
    rng = np.random.default_rng(i)
    x, weight = rng.normal(size=(n, i)).astype("f"), rng.normal(size=(i, o)).astype("f")
    unused = rng.random(i) < share
    x[:, unused] = 0
    unread = np.where(unused[:, None], np.float32(np.nan), weight)
    for threads in sorted({1, MOST}):
        b = backends.get("numba", threads=threads).for_inference()
        y = b.dense(x, unread, None)
        assert_close(y, EXACT.dense(x.astype(float), weight.astype(float), None), "float32", i)
        assert y.tobytes() == b.dense(x, weight, None).tobytes() or not vectors.FUSED
