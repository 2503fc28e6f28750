"""Every op of every backend against the loops of `reference/`."""

import numpy as np
import pytest
from helpers.strategies import DTYPES, grid, laid_out, norms, windows
from helpers.tolerance import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from minialex import backends
from minialex.backends import GenericBackend
from reference import convolution, crops, dropout, losses, pooling, response_norm, sgd


def exact(x):
    """For the reference: NumPy's float32 scalars would round its sums."""
    return np.asarray(x, np.float64)


@given(problem=windows())
def test_convolution(b, problem):
    x, pads, g = problem.x(), problem.pads, problem.groups
    r, s = problem.window
    weight = problem.laid_out((r, s, problem.shape[3] // g, problem.maps), 1)
    bias = grid((problem.maps,), 2).astype(problem.dtype)
    place = (problem.stride, pads, g)
    wanted = convolution.forward(exact(x), exact(weight), exact(bias), *place)
    length = weight[..., 0].size
    y = b.convolution(b.asarray(x), b.asarray(weight), b.asarray(bias), *place)
    assert_close(b.to_numpy(y), wanted, problem.dtype, length, "y")
    plain = b.convolution(b.asarray(x), b.asarray(weight), None, *place)
    assert_close(b.to_numpy(plain), wanted - bias, problem.dtype, length, "y without bias")

    dy = problem.laid_out(wanted.shape, 3)
    dx = b.convolution_input_gradient(b.asarray(dy), b.asarray(weight), x.shape, *place)
    wanted = convolution.input_gradient(exact(dy), exact(weight), x.shape, *place)
    assert_close(b.to_numpy(dx), wanted, problem.dtype, length * problem.maps, "dx")
    dw = b.convolution_weight_gradient(b.asarray(x), b.asarray(dy), (r, s), *place)
    wanted = convolution.weight_gradient(exact(x), exact(dy), (r, s), *place)
    assert_close(b.to_numpy(dw), wanted, problem.dtype, dy[..., 0].size, "dW")


def test_the_comparison_catches_a_planted_bug():
    """A pooling gradient that writes where it should add, and a promotion to float64."""
    x, place = grid((1, 5, 5, 2), 0), ((3, 3), (2, 2), ((0, 0), (0, 0)))
    x[0, 2, 2] = 9.0  # the maximum of all four windows
    y, which = pooling.max_forward(x, *place)
    dx = pooling.max_gradient(np.ones_like(y), which, x.shape, *place)
    with pytest.raises(AssertionError, match="dx: off by 3"):
        assert_close(np.minimum(dx, 1.0), dx, "float64", 16, "dx")
    with pytest.raises(AssertionError, match="y: float64, expected float32"):
        assert_close(y, y, "float32", 1, "y")
    with pytest.raises(AssertionError, match="y: off by nan"):
        assert_close(y * np.nan, y, "float64", 1, "y")


def test_convolution_in_blocks_of_images(b, monkeypatch):
    """A batch too large for the column budget is the same batch."""
    x, weight, place = grid((5, 6, 5, 4), 0), grid((3, 3, 2, 6), 1), ((1, 2), ((1, 1), (1, 0)), 2)
    whole = b.to_numpy(b.convolution(b.asarray(x), b.asarray(weight), None, *place))
    dy = grid(whole.shape, 2)
    arrays = b.asarray(dy), b.asarray(weight)
    dx = b.to_numpy(b.convolution_input_gradient(*arrays, x.shape, *place))
    dw = b.to_numpy(b.convolution_weight_gradient(b.asarray(x), arrays[0], (3, 3), *place))
    monkeypatch.setattr("minialex.backends.generic.convolution._COLUMN_NUMBERS", 2 * 6 * 2 * 9 * 2)
    assert_close(b.to_numpy(b.convolution(b.asarray(x), arrays[1], None, *place)), whole, "float64")
    parts = b.to_numpy(b.convolution_input_gradient(*arrays, x.shape, *place))
    assert_close(parts, dx, "float64")
    parts = b.to_numpy(b.convolution_weight_gradient(b.asarray(x), arrays[0], (3, 3), *place))
    assert_close(parts, dw, "float64", 100)


@given(problem=windows(pooling=True))
def test_max_pool(b, problem):
    x, place = problem.x(), (problem.window, problem.stride, problem.pads)
    wanted, wanted_which = pooling.max_forward(exact(x), *place)
    y, which = b.max_pool(b.asarray(x), *place)
    np.testing.assert_array_equal(b.to_numpy(y), wanted)
    np.testing.assert_array_equal(b.to_numpy(which), wanted_which)
    dy = problem.laid_out(wanted.shape, 1)
    dx = b.max_pool_gradient(b.asarray(dy), which, x.shape, *place)
    wanted = pooling.max_gradient(exact(dy), wanted_which, x.shape, *place)
    assert_close(b.to_numpy(dx), wanted, problem.dtype, 16, "dx")


def test_of_equal_maxima_the_first_wins(b):
    x = np.zeros((1, 3, 3, 1))
    _, which = b.max_pool(b.asarray(x), (3, 3), (1, 1), ((0, 0), (0, 0)))
    assert b.to_numpy(which).ravel().tolist() == [0]
    _, which = b.max_pool(b.asarray(x - 1), (3, 3), (1, 1), ((1, 0), (1, 0)))
    assert b.to_numpy(which).ravel().tolist() == [4, 3, 1, 0]  # never a tap in the padding


def test_a_nan_is_not_lost_in_pooling(b):
    for place in range(4):
        x = np.arange(4.0).reshape(1, 2, 2, 1)
        x[0, place // 2, place % 2, 0] = np.nan
        y, _ = b.max_pool(b.asarray(x), (2, 2), (1, 1), ((0, 0), (0, 0)))
        assert np.isnan(b.to_numpy(y)).all()


@given(problem=windows(pooling=True))
def test_average_pool(b, problem):
    x, place = problem.x(), (problem.window, problem.stride, problem.pads)
    wanted = pooling.average_forward(exact(x), *place)
    assert_close(b.to_numpy(b.average_pool(b.asarray(x), *place)), wanted, problem.dtype, 16, "y")
    dy = problem.laid_out(wanted.shape, 1)
    dx = b.average_pool_gradient(b.asarray(dy), x.shape, *place)
    wanted = pooling.average_gradient(exact(dy), x.shape, *place)
    assert_close(b.to_numpy(dx), wanted, problem.dtype, 16, "dx")


@given(problem=norms())
def test_response_norm(b, problem):
    x, f = problem.x(), problem
    wanted, wanted_scale = response_norm.forward(exact(x), f.n, f.k, f.alpha, f.beta, f.groups)
    place = (f.n, f.k, f.alpha, f.beta, f.groups)
    y, saved = b.response_norm(b.asarray(x), *place)
    assert_close(b.to_numpy(y), wanted, f.dtype, f.n, "y")
    dy = f.laid_out(x.shape, 1)
    dx = b.response_norm_gradient(b.asarray(dy), saved, *place)
    wanted = response_norm.gradient(
        exact(dy), exact(x), wanted, wanted_scale, f.n, f.alpha, f.beta, f.groups
    )
    assert_close(b.to_numpy(dx), wanted, f.dtype, 4 * f.n, "dx")


@given(problem=norms(), windows=windows(pooling=True), relu=st.booleans())
@settings(max_examples=40)
def test_response_norm_and_max_pool_as_one(b, problem, windows, relu):
    """The same as one after the other, and so the same as the loops."""
    f, (n, h, w, _) = problem, windows.shape
    pool = (windows.window, windows.stride, windows.pads)
    norm = (f.n, f.k, f.alpha, f.beta, f.groups)
    shape = (n, h, w, f.shape[3])
    x = f.laid_out(shape, 0)
    x = laid_out(np.maximum(x, 0), f.layout) if relu else x
    z, kept = b.response_norm(b.asarray(x), *norm)
    wanted, wanted_which = b.max_pool(z, *pool)
    y, saved = b.response_norm_pool(b.asarray(x), norm, pool)
    np.testing.assert_array_equal(b.to_numpy(y), b.to_numpy(wanted))
    np.testing.assert_array_equal(b.to_numpy(saved[2]), b.to_numpy(wanted_which))
    dy = f.laid_out(y.shape, 1)
    dz = b.max_pool_gradient(b.asarray(dy), wanted_which, shape, *pool)
    dx = b.response_norm_gradient(dz, kept, *norm)
    dx = b.relu_gradient(dx, b.asarray(x)) if relu else dx
    found = b.response_norm_pool_gradient(b.asarray(dy), saved, norm, pool, relu)
    assert_close(b.to_numpy(found), b.to_numpy(dx), f.dtype, f.n, "dx")


@given(problem=norms())
def test_spatial_response_norm(b, problem):
    x, f = problem.x(), problem
    wanted, wanted_scale = response_norm.spatial_forward(exact(x), f.n, f.k, f.alpha, f.beta)
    place = (f.n, f.k, f.alpha, f.beta)
    y, saved = b.spatial_response_norm(b.asarray(x), *place)
    assert_close(b.to_numpy(y), wanted, f.dtype, f.n**2, "y")
    dy = f.laid_out(x.shape, 1)
    dx = b.spatial_response_norm_gradient(b.asarray(dy), saved, *place)
    wanted = response_norm.spatial_gradient(
        exact(dy), exact(x), wanted, wanted_scale, f.n, f.alpha, f.beta
    )
    assert_close(b.to_numpy(dx), wanted, f.dtype, 4 * f.n**2, "dx")


@given(st.integers(1, 5), st.integers(2, 6), st.sampled_from(DTYPES), st.integers(0, 99))
def test_losses(b, n, classes, dtype, seed):
    scores = (3 * grid((n, classes), seed)).astype(dtype)
    labels = np.random.default_rng(seed).integers(0, classes, n)
    for ours, theirs in (
        (b.softmax_cross_entropy, losses.softmax_cross_entropy),
        (lambda s, l: b.hinge(s, l, 0.97), lambda s, l: losses.hinge(s, l, 0.97)),
    ):
        loss, gradient = ours(b.asarray(scores), b.asarray(labels))
        wanted_loss, wanted = theirs(exact(scores), labels)
        assert_close(float(loss), wanted_loss, dtype, n * classes, "loss")
        assert_close(b.to_numpy(gradient), wanted, dtype, classes, "gradient")


@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from(DTYPES), st.integers(0, 99))
def test_softmax(b, n, classes, dtype, seed):
    """Probabilities are 1 at the label less what the loss's gradient is there, times the batch."""
    scores, labels = (30 * grid((n, classes), seed)).astype(dtype), np.zeros(n, int)
    _, gradient = losses.softmax_cross_entropy(exact(scores), labels)
    wanted = n * gradient + np.eye(classes)[labels]
    assert_close(b.to_numpy(b.softmax(b.asarray(scores))), wanted, dtype, classes)
    assert np.isfinite(b.to_numpy(b.softmax(b.asarray(1e3 * scores)))).all()


def test_one_number_that_is_not_finite_is_seen(b):
    x = grid((3, 4), 0)
    assert b.all_finite(b.asarray(x))
    for bad in (np.nan, np.inf, -np.inf):
        x[1, 2] = bad
        assert not b.all_finite(b.asarray(x))


def test_large_scores_do_not_overflow(b):
    loss, gradient = b.softmax_cross_entropy(
        b.asarray(np.array([[1e4, -1e4]], "float32")), b.asarray(np.array([1]))
    )
    assert float(loss) == pytest.approx(2e4)
    assert np.isfinite(b.to_numpy(gradient)).all()


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 11)),
    st.sampled_from([0.5, 0.8, 1.0]),
    st.integers(0, 2**64 - 1),
    st.integers(0, 30),
    st.integers(0, 2**32 - 1),
    st.integers(0, 500),
)
def test_dropout_masks_are_the_same_bits(b, shape, keep, seed, stream, step, first):
    ours = b.to_numpy(b.dropout_mask(shape, keep, seed, stream, step, first))
    np.testing.assert_array_equal(ours, dropout.mask(shape, keep, seed, stream, step, first))


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
def test_tuned_crops_have_the_bits_of_the_generic_ones(fixed):
    """A run begun before the one was there and resumed after it must not change."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 40, 21, 21, 3), np.uint8)[1]
    mean = rng.uniform(90, 150, (21, 21, 3)).astype(np.float32)
    top, left, flip = *rng.integers(0, 5, (2, 40)), rng.integers(0, 2, 40).astype(bool)
    shift = rng.normal(0, 10, (40, 3)).astype(np.float32)
    arguments = (images, top, left, flip, 17, mean, *fixed, shift, 1 / 1.1, "float32")
    b = backends.get("numpy")
    generic = GenericBackend.crops(b, *arguments)
    assert b.crops(*arguments).tobytes() == generic.tobytes()


@given(st.integers(1, 40), st.sampled_from(DTYPES), st.integers(0, 99))
def test_sgd_update(b, size, dtype, seed):
    w, v, g = (grid((size,), seed + i).astype(dtype) for i in range(3))
    wanted = sgd.update(exact(w), exact(v), exact(g), 0.1, 0.9, 0.05)
    ours = b.sgd_update(*(b.asarray(a.copy()) for a in (w, v, g)), 0.1, 0.9, 0.05)
    for name, one, other in zip("wv", ours, wanted, strict=True):
        assert_close(b.to_numpy(one), other, dtype, 3, name)


@pytest.mark.parametrize("which", ["weight", "velocity"])
def test_sgd_update_of_an_array_that_is_not_contiguous(b, which):
    """A transposed array, as an importer of other layouts makes it."""
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
