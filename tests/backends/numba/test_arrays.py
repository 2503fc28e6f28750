"""Sums of large arrays, such as the dense layers' gradients."""

import numpy as np
import pytest

from minialex import backends
from minialex.backends.numba import arrays

B = backends.get("numba")


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(arrays._LARGE,), (arrays._LARGE - 1,), (300, 500), (70, 3, 999)]
)
def test_a_sum_is_numpys(kind, shape):
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(shape).astype(kind) for _ in range(2))
    kept = x.copy(), y.copy()
    np.testing.assert_array_equal(B.add(x, y), x + y)
    np.testing.assert_array_equal(B.add(x.T, y.T), x.T + y.T)
    np.testing.assert_array_equal((x, y), kept)


def test_arrays_of_two_types_or_shapes_are_added_as_numpy_does():
    x = np.ones((300, 500), np.float32)
    assert B.add(x, x.astype(float)).dtype == float
    assert B.add(x, x[:1]).shape == x.shape
