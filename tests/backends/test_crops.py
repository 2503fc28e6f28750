"""Augmentation, on every backend, against the loops of `reference/`."""

import numpy as np
import pytest
from helpers.strategies import DTYPES
from hypothesis import given
from hypothesis import strategies as st

from minialex import backends
from minialex.backends import GenericBackend
from minialex.testing.tolerance import assert_close, exact
from reference import crops


@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1.0, 1 / 1.1]),
    st.sampled_from(DTYPES),
    st.integers(0, 99),
)
def test_crops(b, n, crop, slack, fixed_mean, shifted, scale, dtype, seed):
    rng = np.random.default_rng(seed)
    size = crop + slack
    images = rng.integers(0, 256, (n, size, size, 3), np.uint8)
    mean = rng.uniform(90, 150, (size, size, 3)).astype(np.float32)
    top, left = rng.integers(0, slack + 1, (2, n))
    flip = rng.integers(0, 2, n).astype(bool)
    where = (slack // 2, slack // 2) if fixed_mean else (None, None)
    shift = rng.normal(0, 10, (n, 3)).astype(np.float32) if shifted else None
    arguments = (top, left, flip, crop, mean, *where, shift, scale)
    x = b.to_numpy(b.crops(b.asarray(images), *arguments, dtype))
    assert x.dtype == dtype
    wide = None if shift is None else exact(shift)
    wanted = crops.crops(images, top, left, flip, crop, exact(mean), *where, wide, scale)
    assert_close(x, wanted, dtype, 3)


@pytest.mark.parametrize("fixed", [(None, None), (2, 2)])
def test_tuned_crops_have_the_same_bits_as_generic_ones(fixed):
    """A run started before tuned crops existed and resumed with them must not change."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 40, 21, 21, 3), np.uint8)[1]
    mean = rng.uniform(90, 150, (21, 21, 3)).astype(np.float32)
    top, left, flip = *rng.integers(0, 5, (2, 40)), rng.integers(0, 2, 40).astype(bool)
    shift = rng.normal(0, 10, (40, 3)).astype(np.float32)
    arguments = (images, top, left, flip, 17, mean, *fixed, shift, 1 / 1.1, "float32")
    b = backends.get("numpy")
    generic = GenericBackend.crops(b, *arguments)
    assert b.crops(*arguments).tobytes() == generic.tobytes()


def test_crops_from_arrays_of_the_backend(b):
    """The same as from host arrays, with zeros in the extra channels."""
    rng = np.random.default_rng(0)
    images = b.asarray(rng.integers(0, 256, (3, 9, 9, 3), np.uint8))
    mean, shift = rng.normal(size=(9, 9, 3)), rng.normal(size=(3, 3))
    offsets = np.array([[0, 4, 1], [2, 1, 0], [4, 0, 1]], "int32")
    for corner in ((-1, -1), (2, 2)):
        at = (None, None) if corner[0] < 0 else corner
        where = (*offsets.T, 5, mean, *at, shift, 0.5)
        wanted = b.to_numpy(b.crops(images, *where, "float64"))
        given = (b.asarray(offsets, "int32"), 5, b.asarray(mean), corner, b.asarray(shift))
        found = b.to_numpy(b.crops_at(images, *given, b.asarray([0.5]), "float64", 4))
        np.testing.assert_array_equal(found[..., :3], wanted)
        assert not found[..., 3].any()
        for side, count in ((2, 3), (2, 2), (3, 2)):  # beyond the crop, and short of it
            blocks = b.crops_at(images, *given, b.asarray([0.5]), "float64", None, (side, count))
            squares = b.to_numpy(blocks).reshape(3, count, count, side, side, 3)
            for p, q, h, w in np.ndindex(count, count, side, side):
                y, x = side * p + h, side * q + w
                inside = y < 5 and x < 5
                pixels = wanted[:, y, x] if inside else np.zeros((3, 3))
                np.testing.assert_array_equal(squares[:, p, q, h, w], pixels)
