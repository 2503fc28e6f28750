"""Weight gradients by Winograd tiles with sums in registers."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minialex import backends
from minialex.backends.base import output_shape
from minialex.backends.numba import backend, winograd_gradient
from minialex.testing.tolerance import assert_close

MOST = backends.get("numba").threads
COUNTS = sorted({1, MOST, min(3, MOST)})
EXACT = backends.get("numpy")


@settings(max_examples=40)
@given(
    st.integers(1, 5),
    st.sampled_from([(3, 1), (5, 1), (6, 2), (11, 4)]),
    st.tuples(st.integers(1, 17), st.integers(1, 17)),
    st.tuples(*[st.integers(0, 5)] * 4),
    st.sampled_from([(16, 32, 1), (32, 64, 2), (48, 96, 1)]),
    st.sampled_from([0, 2e7]),
)
def test_gradients_of_weights_equal_those_of_the_plain_sums(n, kernel, size, pads, channels, least):
    """Each number of threads has the same bits, with few or many tiles at a time."""
    (taps, stride), (top, bottom, left, right) = kernel, pads
    (h, w), (c, k, groups) = size, channels
    assume(h + top + bottom >= taps and w + left + right >= taps)
    geometry = ((stride,) * 2, ((top, bottom), (left, right)), groups)
    rng = np.random.default_rng(h + w)
    x = rng.normal(size=(n, h, w, c))
    dy = rng.normal(size=(n, *output_shape((h, w), (taps, taps), *geometry[:2]), k))
    wanted = EXACT.convolution_weight_gradient(x, dy, (taps, taps), *geometry)
    x, dy = x.astype(np.float32), dy.astype(np.float32)
    found = []
    for threads in COUNTS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backend.NumbaBackend, "_by_tiles", lambda *_: True)
            patch.setattr(winograd_gradient, "_LEAST", least)
            b = backends.get("numba", threads=threads)
            found.append(b.convolution_weight_gradient(x, dy, (taps, taps), *geometry))
    assert winograd_gradient.suitable(wanted.shape, stride, groups)
    assert_close(found[0], wanted, "float32", dy[..., 0].size)
    assert len({dw.tobytes() for dw in found}) == 1


@pytest.mark.parametrize(
    ("kernel", "c", "k", "groups", "expected"),
    [
        ((11, 4), 3, 96, 1, True),  # the paper's layers
        ((5, 1), 96, 256, 2, True),
        ((3, 1), 384, 256, 2, True),
        ((5, 2), 3, 64, 1, False),  # twelve channels
        ((4, 1), 256, 384, 1, False),
        ((3, 1), 256, 48, 1, False),
        ((3, 1), 24, 64, 1, False),
    ],
)
def test_where_they_are_possible(kernel, c, k, groups, expected):
    r, stride = kernel
    assert winograd_gradient.suitable((r, r, c // groups, k), stride, groups) == expected


def test_a_large_batch_loses_no_digits():
    """Sums of a few images are formed apart: one running sum of equal signs would lose some."""
    rng = np.random.default_rng(0)
    x, dy = (abs(rng.normal(size=(1024, 13, 13, c))) for c in (16, 32))
    geometry = ((3, 3), (1, 1), ((1, 1), (1, 1)), 1)
    wanted = EXACT.convolution_weight_gradient(x, dy, *geometry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.NumbaBackend, "_by_tiles", lambda *_: True)
        b = backends.get("numba")
        found = b.convolution_weight_gradient(x.astype("f4"), dy.astype("f4"), *geometry)
    assert np.max(abs(found / wanted - 1)) < 3e-6
