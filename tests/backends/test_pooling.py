"""Pooling and its gradients, on every backend, against the loops of `reference/`."""

import numpy as np
import pytest
from helpers.strategies import grid, windows
from hypothesis import given
from hypothesis import strategies as st

from minialex.testing.tolerance import assert_close, exact
from reference import pooling


@given(problem=windows(pooling=True))
def test_max_pool(b, problem):
    x, pool = problem.x(), (problem.window, problem.stride, problem.pads)
    wanted, wanted_argmax = pooling.max_forward(exact(x), *pool)
    y, argmax = b.max_pool(b.asarray(x), *pool)
    np.testing.assert_array_equal(b.to_numpy(y), wanted)
    np.testing.assert_array_equal(b.to_numpy(argmax), wanted_argmax)
    dy = problem.laid_out(wanted.shape, 1)
    dx = b.max_pool_gradient(b.asarray(dy), argmax, x.shape, *pool)
    wanted = pooling.max_gradient(exact(dy), wanted_argmax, x.shape, *pool)
    assert_close(b.to_numpy(dx), wanted, problem.dtype, 16, "dx")


def test_the_first_of_equal_maxima_wins(b):
    x = np.zeros((1, 3, 3, 1))
    _, argmax = b.max_pool(b.asarray(x), (3, 3), (1, 1), ((0, 0), (0, 0)))
    assert b.to_numpy(argmax).ravel().tolist() == [0]
    _, argmax = b.max_pool(b.asarray(x - 1), (3, 3), (1, 1), ((1, 0), (1, 0)))
    assert b.to_numpy(argmax).ravel().tolist() == [4, 3, 1, 0]  # never a tap in the padding


def test_pooling_keeps_nan(b):
    for position in range(4):
        x = np.arange(4.0).reshape(1, 2, 2, 1)
        x[0, position // 2, position % 2, 0] = np.nan
        y, _ = b.max_pool(b.asarray(x), (2, 2), (1, 1), ((0, 0), (0, 0)))
        assert np.isnan(b.to_numpy(y)).all()


@given(problem=windows(pooling=True), data=st.data())
def test_average_pool(b, problem, data):
    counted = tuple(tuple(data.draw(st.integers(0, pad)) for pad in pads) for pads in problem.pads)
    x, pool = problem.x(), (problem.window, problem.stride, problem.pads, counted)
    wanted = pooling.average_forward(exact(x), *pool)
    assert_close(b.to_numpy(b.average_pool(b.asarray(x), *pool)), wanted, problem.dtype, 16, "y")
    dy = problem.laid_out(wanted.shape, 1)
    dx = b.average_pool_gradient(b.asarray(dy), x.shape, *pool)
    wanted = pooling.average_gradient(exact(dy), x.shape, *pool)
    assert_close(b.to_numpy(dx), wanted, problem.dtype, 16, "dx")


def test_the_comparison_catches_a_planted_bug():
    """A pooling gradient that overwrites instead of adding, and a promotion to float64."""
    x, pool = grid((1, 5, 5, 2), 0), ((3, 3), (2, 2), ((0, 0), (0, 0)))
    x[0, 2, 2] = 9.0  # the maximum of all four windows
    y, argmax = pooling.max_forward(x, *pool)
    dx = pooling.max_gradient(np.ones_like(y), argmax, x.shape, *pool)
    with pytest.raises(AssertionError, match="dx: off by 3"):
        assert_close(np.minimum(dx, 1.0), dx, "float64", 16, "dx")
    with pytest.raises(AssertionError, match="y: float64, expected float32"):
        assert_close(y, y, "float32", 1, "y")
    with pytest.raises(AssertionError, match="y: off by nan"):
        assert_close(y * np.nan, y, "float64", 1, "y")
