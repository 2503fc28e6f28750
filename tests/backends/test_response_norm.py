"""Response normalisation, on every backend, against the loops of `reference/`."""

import numpy as np
from helpers.strategies import laid_out, norms, windows
from hypothesis import given, settings
from hypothesis import strategies as st

from minialex.testing.tolerance import assert_close, exact
from reference import response_norm


@given(problem=norms() | norms(paper=True))
def test_response_norm(b, problem):
    x, f = problem.x(), problem
    wanted, wanted_scale = response_norm.forward(exact(x), f.n, f.k, f.alpha, f.beta, f.groups)
    norm = (f.n, f.k, f.alpha, f.beta, f.groups)
    y, saved = b.response_norm(b.asarray(x), *norm)
    assert_close(b.to_numpy(y), wanted, f.dtype, f.n, "y")
    dy = f.laid_out(x.shape, 1)
    dx = b.response_norm_gradient(b.asarray(dy), saved, *norm)
    wanted = response_norm.gradient(
        exact(dy), exact(x), wanted, wanted_scale, f.n, f.alpha, f.beta, f.groups
    )
    assert_close(b.to_numpy(dx), wanted, f.dtype, 4 * f.n, "dx")


@given(
    problems=st.tuples(norms(), windows(pooling=True))
    | st.tuples(norms(paper=True), windows(pooling=True, three=True)),
    relu=st.booleans(),
    special=st.booleans(),
)
@settings(max_examples=60)
def test_fused_response_norm_and_max_pool(b, problems, relu, special):
    """The same as separate layers, which equal the reference's loops; with ties and NaN, too."""
    f, windows = problems
    n, h, w, _ = windows.shape
    pool = (windows.window, windows.stride, windows.pads)
    norm = (f.n, f.k, f.alpha, f.beta, f.groups)
    shape = (n, h, w, f.shape[3])
    x = f.laid_out(shape, 0)
    x = laid_out(np.maximum(x, 0), f.layout) if relu else x
    if special:
        x = x.copy()
        x[x > 1] = np.nan
        x[(x > 0.5) & (x < 1)] = 0.75
    z, kept = b.response_norm(b.asarray(x), *norm)
    wanted, wanted_argmax = b.max_pool(z, *pool)
    y, saved = b.response_norm_pool(b.asarray(x), norm, pool)
    np.testing.assert_array_equal(b.to_numpy(y), b.to_numpy(wanted))
    np.testing.assert_array_equal(b.to_numpy(saved[2]), b.to_numpy(wanted_argmax))
    if b.name == "numba":  # for four images a thread, whole images and not bands of them
        more, _ = b.with_threads(1).response_norm_pool(np.concatenate([x] * 4), norm, pool)
        np.testing.assert_array_equal(more[: len(x)], wanted)
    alone, _ = b.for_inference().response_norm_pool(b.asarray(x), norm, pool)
    np.testing.assert_array_equal(b.to_numpy(alone), b.to_numpy(wanted))
    dy = f.laid_out(y.shape, 1)
    dz = b.max_pool_gradient(b.asarray(dy), wanted_argmax, shape, *pool)
    dx = b.response_norm_gradient(dz, kept, *norm)
    dx = b.relu_gradient(dx, b.asarray(x)) if relu else dx
    found = b.response_norm_pool_gradient(b.asarray(dy), saved, norm, pool, relu)
    if b.name == "numba":
        np.testing.assert_array_equal(found, dx)
    elif not special:
        assert_close(b.to_numpy(found), b.to_numpy(dx), f.dtype, f.n, "dx")


@given(problem=norms())
def test_spatial_response_norm(b, problem):
    x, f = problem.x(), problem
    wanted, wanted_scale = response_norm.spatial_forward(exact(x), f.n, f.k, f.alpha, f.beta)
    norm = (f.n, f.k, f.alpha, f.beta)
    y, saved = b.spatial_response_norm(b.asarray(x), *norm)
    assert_close(b.to_numpy(y), wanted, f.dtype, f.n**2, "y")
    dy = f.laid_out(x.shape, 1)
    dx = b.spatial_response_norm_gradient(b.asarray(dy), saved, *norm)
    wanted = response_norm.spatial_gradient(
        exact(dy), exact(x), wanted, wanted_scale, f.n, f.alpha, f.beta
    )
    assert_close(b.to_numpy(dx), wanted, f.dtype, 4 * f.n**2, "dx")
