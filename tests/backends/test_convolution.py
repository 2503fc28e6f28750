"""Convolution and its gradients, on every backend, against the loops of `reference/`."""

from helpers.strategies import grid, windows
from hypothesis import given

from minialex.testing.tolerance import assert_close, exact
from reference import convolution


@given(problem=windows())
def test_convolution(b, problem):
    x, pads, g = problem.x(), problem.pads, problem.groups
    r, s = problem.window
    weight = problem.laid_out((r, s, problem.shape[3] // g, problem.channels), 1)
    bias = grid((problem.channels,), 2).astype(problem.dtype)
    geometry = (problem.stride, pads, g)
    wanted = convolution.forward(exact(x), exact(weight), exact(bias), *geometry)
    length = weight[..., 0].size
    y = b.convolution(b.asarray(x), b.asarray(weight), b.asarray(bias), *geometry)
    assert_close(b.to_numpy(y), wanted, problem.dtype, length, "y")
    plain = b.convolution(b.asarray(x), b.asarray(weight), None, *geometry)
    assert_close(b.to_numpy(plain), wanted - bias, problem.dtype, length, "y without bias")

    dy = problem.laid_out(wanted.shape, 3)
    dx = b.convolution_input_gradient(b.asarray(dy), b.asarray(weight), x.shape, *geometry)
    wanted = convolution.input_gradient(exact(dy), exact(weight), x.shape, *geometry)
    assert_close(b.to_numpy(dx), wanted, problem.dtype, length * problem.channels, "dx")
    dw = b.convolution_weight_gradient(b.asarray(x), b.asarray(dy), (r, s), *geometry)
    wanted = convolution.weight_gradient(exact(x), exact(dy), (r, s), *geometry)
    assert_close(b.to_numpy(dw), wanted, problem.dtype, dy[..., 0].size, "dW")


def test_convolution_in_blocks_of_images(b, monkeypatch):
    """A batch too large for the column budget gives the same result."""
    x, weight, geometry = (
        grid((5, 6, 5, 4), 0),
        grid((3, 3, 2, 6), 1),
        ((1, 2), ((1, 1), (1, 0)), 2),
    )
    whole = b.to_numpy(b.convolution(b.asarray(x), b.asarray(weight), None, *geometry))
    dy = grid(whole.shape, 2)
    arrays = b.asarray(dy), b.asarray(weight)
    dx = b.to_numpy(b.convolution_input_gradient(*arrays, x.shape, *geometry))
    dw = b.to_numpy(b.convolution_weight_gradient(b.asarray(x), arrays[0], (3, 3), *geometry))
    monkeypatch.setattr("minialex.backends.generic.convolution._COLUMN_NUMBERS", 2 * 6 * 2 * 9 * 2)
    assert_close(
        b.to_numpy(b.convolution(b.asarray(x), arrays[1], None, *geometry)), whole, "float64"
    )
    parts = b.to_numpy(b.convolution_input_gradient(*arrays, x.shape, *geometry))
    assert_close(parts, dx, "float64")
    parts = b.to_numpy(b.convolution_weight_gradient(b.asarray(x), arrays[0], (3, 3), *geometry))
    assert_close(parts, dw, "float64", 100)
