"""Array transfers, narrow and concat, on every backend."""

import numpy as np
from helpers.strategies import grid


def test_a_single_non_finite_number_is_detected(b):
    x = grid((3, 4), 0)
    assert b.all_finite(b.asarray(x))
    for bad in (np.nan, np.inf, -np.inf):
        x[1, 2] = bad
        assert not b.all_finite(b.asarray(x))


def test_narrow_and_concat(b):
    x = grid((2, 3, 8), 0)
    parts = [b.narrow(b.asarray(x), 2, start, start + 4) for start in (0, 4)]
    np.testing.assert_array_equal(b.to_numpy(parts[1]), x[..., 4:])
    np.testing.assert_array_equal(b.to_numpy(b.concat(parts, 2)), x)
    np.testing.assert_array_equal(b.to_numpy(b.add(*parts)), x[..., :4] + x[..., 4:])
    np.testing.assert_array_equal(b.to_numpy(b.scale(parts[0], 0.5)), 0.5 * x[..., :4])
    zeros = b.to_numpy(b.zeros_like(parts[0]))
    assert zeros.shape == (2, 3, 4)
    assert not zeros.any()


def test_each_channel_is_scaled_by_its_own_factor(b):
    x = grid((2, 3, 4, 3), 0)
    scaled = b.to_numpy(b.scale_channels(b.asarray(x), (0.5, -2.0, 4.0)))
    np.testing.assert_array_equal(scaled, x * np.array([0.5, -2.0, 4.0], x.dtype))
