"""Convolution with its sums in registers, against the reference's loops."""

import numpy as np
import pytest
from helpers.strategies import LAYOUTS, laid_out
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minialex import backends
from minialex.backends.base import output_shape
from minialex.backends.numba import direct_convolution, vectors
from minialex.testing.tolerance import assert_close
from reference import convolution

MOST = backends.get("numba").threads
pytestmark = pytest.mark.skipif(not vectors.FUSED, reason="no fused multiply-add here")
lines = st.integers(1, 4)  # rows or columns of a kernel
few = st.tuples(st.integers(0, 3), st.integers(0, 3))


@settings(max_examples=40)
@given(
    st.tuples(lines, lines),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(few, few),
    st.tuples(st.integers(1, 4), st.integers(7, 20)),
    st.sampled_from([(1, 1, 1), (2, 3, 1), (4, 2, 2), (6, 1, 3)]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["fp32", "exact"]),
    st.sampled_from(LAYOUTS),
    st.integers(1, min(3, MOST)),
)
def test_direct_convolution(
    kernel, stride, pads, output, channels, relu, by_rows, precision, layout, threads_used
):
    """Forward and the weights' gradient; images of which some pixels are in no window, too."""
    c, blocks, groups = channels
    k, n = groups * blocks * direct_convolution.COLUMNS, direct_convolution.IMAGES
    size = [
        (count - 1) * step + extent - sum(pad) + 1
        for count, step, extent, pad in zip(output, stride, kernel, pads, strict=True)
    ]
    assume(min(size) >= 1)
    rng = np.random.default_rng(size[0] + 100 * size[1])
    x, weight = rng.normal(size=(n, *size, c)), rng.normal(size=(*kernel, c // groups, k))
    bias, geometry = rng.normal(size=k), (stride, pads, groups)
    found = output_shape((size[0], size[1]), kernel, stride, pads)
    b = backends.get("numba", threads=threads_used, precision=precision)
    arrays = [laid_out(array.astype(np.float32), layout) for array in (x, weight, bias)]
    assert direct_convolution.worthwhile(n, weight.shape, found, groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(b), "_by_tiles", lambda *_: False)
        if by_rows:
            patch.setattr(direct_convolution, "AT_ONCE", 1)
        y = b.convolution(*arrays, *geometry, relu=relu)
        dy = rng.normal(size=y.shape)
        slopes = laid_out(dy.astype(np.float32), layout)
        dw = b.convolution_weight_gradient(arrays[0], slopes, kernel, *geometry)
    wanted = convolution.forward(x, weight, bias, *geometry)
    length = kernel[0] * kernel[1] * c // groups
    assert_close(y, np.maximum(wanted, 0) if relu else wanted, "float32", length, "y")
    wanted = convolution.weight_gradient(x, dy, kernel, *geometry)
    assert_close(dw, wanted, "float32", dy[..., 0].size, "dw")


def test_threads_do_not_change_the_bits():
    if MOST < 2:
        pytest.skip("this process may use one core only")
    rng = np.random.default_rng(0)
    x, weight, dy = (
        rng.normal(size=size).astype(np.float32)
        for size in ((11, 12, 12, 3), (5, 5, 3, 32), (11, 12, 12, 32))
    )
    geometry = ((1, 1), ((2, 2), (2, 2)), 1)
    assert direct_convolution.worthwhile(11, weight.shape, (12, 12), 1)
    one, two = (backends.get("numba", threads=count).with_fixed_sums() for count in (1, 2))
    results = [
        (
            b.convolution(x, weight, None, *geometry),
            b.convolution_weight_gradient(x, dy, (5, 5), *geometry),
        )
        for b in (one, two)
    ]
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_nan_stays_one():
    x, weight = np.ones((8, 9, 9, 3), np.float32), np.ones((3, 3, 3, 32), np.float32)
    x[0, 4, 4, 0] = np.nan
    assert direct_convolution.worthwhile(8, weight.shape, (7, 7), 1)
    y = backends.get("numba").convolution(x, weight, None, (1, 1), ((0, 0), (0, 0)), 1, relu=True)
    assert np.isnan(y[0, 2:5, 2:5]).all()
    assert np.isfinite(y[1:]).all()


@pytest.mark.parametrize(
    ("images", "shape", "output", "groups", "wanted"),
    [
        (8, (5, 5, 3, 64), (32, 32), 1, True),
        (7, (5, 5, 3, 64), (32, 32), 1, False),  # too few images for the threads
        (8, (5, 5, 3, 36), (32, 32), 1, False),
        (8, (5, 5, 3, 64), (32, 6), 1, False),
        (8, (5, 5, 64, 64), (32, 32), 1, False),  # long windows
    ],
)
def test_what_is_convolved_directly(images, shape, output, groups, wanted):
    assert direct_convolution.worthwhile(images, shape, output, groups) == wanted


def test_sums_over_a_batch_keep_their_digits():
    """Of 128 images with numbers above zero: an error as small as that of columns."""
    rng = np.random.default_rng(0)
    x, dy = rng.random((128, 32, 32, 3)), rng.random((128, 32, 32, 32))
    geometry = ((5, 5), (1, 1), ((2, 2), (2, 2)), 1)
    wanted = backends.get("numpy").convolution_weight_gradient(x, dy, *geometry)
    x, dy = x.astype(np.float32), dy.astype(np.float32)
    assert direct_convolution.worthwhile(128, (5, 5, 3, 32), (32, 32), 1)
    found = backends.get("numba", threads=1).convolution_weight_gradient(x, dy, *geometry)
    error = np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std()
    assert error < 5e-5  # columns: 9e-6; as a single sum: 2e-4
