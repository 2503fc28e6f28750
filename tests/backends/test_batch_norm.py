"""Batch normalisation, on every backend, against the loops of `reference/`."""

from math import prod

import numpy as np
from helpers.strategies import channels, grid
from hypothesis import given
from hypothesis import strategies as st

from minialex.testing.tolerance import assert_close, exact
from reference import batch_norm

EPSILON = 0.1


@given(problem=channels(), shift=st.sampled_from([0.0, 100.0]))
def test_batch_statistics(b, problem, shift):
    """Far from zero too, where a mean of squares minus a squared mean would be lost."""
    x = problem.x() + np.asarray(shift, problem.dtype)
    mean, variance = (b.to_numpy(found) for found in b.batch_statistics(b.asarray(x)))
    wanted_mean, wanted = batch_norm.statistics(exact(x))
    assert_close(mean, wanted_mean, problem.dtype, 1, "mean")
    rounded = (wanted_mean - exact(mean)) ** 2  # the mean's own error is of the variance, too
    assert_close(variance, wanted + rounded, problem.dtype, prod(x.shape[:-1]), "variance")


@given(problem=channels())
def test_batch_norm(b, problem):
    x, (weight, bias, mean, root) = problem.x(), map(problem.channels, range(1, 5))
    given = (weight, bias, mean, root**2)
    y = b.batch_norm(b.asarray(x), *map(b.asarray, given), EPSILON)
    wanted = batch_norm.forward(exact(x), *map(exact, given), EPSILON)
    assert_close(b.to_numpy(y), wanted, problem.dtype, 4, "y")


@given(problem=channels())
def test_batch_norm_gradient(b, problem):
    x, dy, weight = problem.x(), problem.laid_out(problem.shape, 1), problem.channels(2)
    statistics = b.batch_statistics(b.asarray(x))
    given = map(b.asarray, (dy, x, weight))
    found = b.batch_norm_gradient(*given, *statistics, EPSILON)
    wanted = batch_norm.gradients(exact(dy), exact(x), exact(weight), EPSILON)
    for ours, theirs, what in zip(found, wanted, ("dx", "dweight", "dbias"), strict=True):
        assert_close(b.to_numpy(ours), theirs, problem.dtype, 4 * prod(x.shape[:-1]), what)


@given(problem=channels())
def test_running_average(b, problem):
    average, new = (problem.channels(i).copy() for i in range(2))
    wanted = batch_norm.running_average(exact(average), exact(new), 0.9, 0.03)
    found = b.running_average(b.asarray(average), b.asarray(new), 0.9, 0.03)
    assert_close(b.to_numpy(found), wanted, problem.dtype, 2)


def test_many_pixels(b):
    """More than one thread or chunk sums."""
    x, dy = grid((3, 30, 40, 5), 0), grid((3, 30, 40, 5), 1)
    mean, variance = (b.to_numpy(found) for found in b.batch_statistics(b.asarray(x)))
    assert_close(mean, x.mean((0, 1, 2)), "float64", 60)
    assert_close(variance, x.var((0, 1, 2)), "float64", 60)
    given = (dy, x, grid((5,), 2), mean, variance)
    _, dw, db = (b.to_numpy(a) for a in b.batch_norm_gradient(*map(b.asarray, given), EPSILON))
    z = (x - mean) / np.sqrt(variance + EPSILON)
    assert_close(dw, (dy * z).sum((0, 1, 2)), "float64", 3600)
    assert_close(db, dy.sum((0, 1, 2)), "float64", 3600)
