"""Adam's update, on every backend, against the loops of `reference/`."""

import pytest
from helpers.strategies import DTYPES, grid, laid_out
from hypothesis import given
from hypothesis import strategies as st

from minialex.testing.tolerance import assert_close, exact
from reference import adam

CONSTANTS = (0.9, 0.999, 1e-8)


@given(st.integers(1, 40), st.sampled_from(DTYPES), st.integers(0, 9), st.integers(0, 99))
def test_adam_update(b, size, dtype, step, seed):
    w, m, g = (grid((size,), seed + i) for i in range(3))
    arrays = [a.astype(dtype) for a in (w, m, m * m + 0.1, g)]
    wanted = adam.update(*map(exact, arrays), 0.1, 0.05, step, *CONSTANTS)
    ours = b.adam_update(*(b.asarray(a.copy()) for a in arrays), 0.1, 0.05, step, *CONSTANTS)
    for name, one, other in zip("wms", ours, wanted, strict=True):
        assert_close(b.to_numpy(one), other, dtype, 6, name)


@pytest.mark.parametrize("which", range(4))
def test_adam_update_of_a_non_contiguous_array(b, which):
    arrays = [grid((3, 4), i) for i in range(4)]
    arrays[2] = arrays[2] ** 2 + 0.1
    wanted = adam.update(*arrays, 0.1, 0.05, 2, *CONSTANTS)
    arrays[which] = laid_out(arrays[which], "transposed")
    ours = b.adam_update(*map(b.asarray, arrays), 0.1, 0.05, 2, *CONSTANTS)
    for one, other in zip(ours, wanted, strict=True):
        assert_close(b.to_numpy(one), other, "float64", 6)
