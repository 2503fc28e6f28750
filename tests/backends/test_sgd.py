"""The update, on every backend, against the loops of `reference/`."""

import numpy as np
import pytest
from helpers.strategies import DTYPES, grid, laid_out
from hypothesis import given
from hypothesis import strategies as st

from minialex.testing.tolerance import assert_close, exact
from reference import sgd


@given(st.integers(1, 40), st.sampled_from(DTYPES), st.integers(0, 99))
def test_sgd_update(b, size, dtype, seed):
    w, v, g = (grid((size,), seed + i).astype(dtype) for i in range(3))
    wanted = sgd.update(exact(w), exact(v), exact(g), 0.1, 0.9, 0.05)
    ours = b.sgd_update(*(b.asarray(a.copy()) for a in (w, v, g)), 0.1, 0.9, 0.05)
    for name, one, other in zip("wv", ours, wanted, strict=True):
        assert_close(b.to_numpy(one), other, dtype, 3, name)


def test_a_rate_of_0_changes_nothing(b):
    w, v, g = (grid((5,), i) for i in range(3))
    ours = b.sgd_updates([(*(b.asarray(a.copy()) for a in (w, v, g)), 0.0, 0.05)], 0.9)[0]
    for one, other in zip(ours, sgd.update(w, v, g, 0.0, 0.9, 0.05), strict=True):
        np.testing.assert_array_equal(b.to_numpy(one), other)
    np.testing.assert_array_equal(b.to_numpy(ours[0]), w)


@pytest.mark.parametrize("which", ["weight", "velocity"])
def test_sgd_update_of_a_non_contiguous_array(b, which):
    """A transposed array, as left by an importer of other layouts."""
    arrays = {name: grid((3, 4), i) for i, name in enumerate(("weight", "velocity", "gradient"))}
    wanted = sgd.update(*arrays.values(), 0.1, 0.9, 0.05)
    arrays[which] = laid_out(arrays[which], "transposed")
    ours = b.sgd_update(*map(b.asarray, arrays.values()), 0.1, 0.9, 0.05)
    for one, other in zip(ours, wanted, strict=True):
        assert_close(b.to_numpy(one), other, "float64", 3)


def test_sgd_update_in_blocks(b):
    """Longer than a block of the tuned update, and not a multiple of it."""
    size = (1 << 17) + 3
    w, v, g = (np.linspace(-1, i, size) for i in range(3))
    ours, _ = b.sgd_update(*(b.asarray(a.copy()) for a in (w, v, g)), 0.1, 0.9, 0.05)
    np.testing.assert_allclose(b.to_numpy(ours), w + 0.9 * v - 0.1 * 0.05 * w - 0.1 * g, atol=1e-12)
