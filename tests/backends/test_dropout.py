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


@given(
    st.lists(st.integers(1, 4), max_size=2),
    st.integers(1, 40),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 2**64 - 1),
)
def test_a_part_of_the_channels_has_the_masks_of_the_whole(b, rows, count, before, after, seed):
    channels = before + count + after
    whole = b.to_numpy(b.dropout_mask((2, *rows, channels), 0.5, seed, 1, 2))
    part = b.dropout_mask((2, *rows, count), 0.5, seed, 1, 2, 0, before, channels)
    np.testing.assert_array_equal(b.to_numpy(part), whole[..., before : before + count])
