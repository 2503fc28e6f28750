"""Dropout, on every backend, against the counters of `reference/`."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reference import dropout


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 11)),
    st.sampled_from([0.5, 0.8, 1.0]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 30),
    st.integers(0, 2**32 - 1),
    st.integers(0, 500),
)
def test_dropout_masks_are_identical(b, shape, keep, seed, stream, step, first):
    ours = b.to_numpy(b.dropout_mask(shape, keep, seed, stream, step, first))
    np.testing.assert_array_equal(ours, dropout.mask(shape, keep, seed, stream, step, first))
