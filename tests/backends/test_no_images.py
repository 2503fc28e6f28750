"""A batch of no images has empty outputs and gradients of zero, on every backend."""

import numpy as np
import pytest

WINDOW = ((3, 3), (2, 2), ((0, 0), (0, 0)))
PLAIN = ((1, 1), ((1, 1), (1, 1)), 2)


def none(b, *shape: int, dtype: str = "float32"):
    return b.asarray(np.empty((0, *shape), dtype))


def shapes(b, *arrays) -> list[tuple]:
    return [b.to_numpy(array).shape for array in arrays]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dense(b, dtype):
    weight, bias = b.asarray(np.ones((6, 4), dtype)), b.asarray(np.ones(4, dtype))
    x, dy = none(b, 2, 3, dtype=dtype), none(b, 4, dtype=dtype)
    assert shapes(b, b.dense(x, weight, bias), b.dense(x, weight, None)) == [(0, 4)] * 2
    assert shapes(b, b.dense_input_gradient(dy, weight, (0, 2, 3))) == [(0, 2, 3)]
    assert np.array_equal(b.to_numpy(b.dense_weight_gradient(x, dy)), np.zeros((6, 4)))
    assert np.array_equal(b.to_numpy(b.bias_gradient(dy)), np.zeros(4))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [2, 16])
def test_convolution(b, channels, dtype):
    weight, bias = np.ones((3, 3, channels // 2, channels), dtype), np.ones(channels, dtype)
    weight, bias = b.asarray(weight), b.asarray(bias)
    x = none(b, 5, 5, channels, dtype=dtype)
    y = b.convolution(x, weight, bias, *PLAIN)
    dx = b.convolution_input_gradient(x, weight, (0, 5, 5, channels), *PLAIN)
    assert shapes(b, y, dx) == [(0, 5, 5, channels)] * 2
    dw = b.to_numpy(b.convolution_weight_gradient(x, x, (3, 3), *PLAIN))
    assert np.array_equal(dw, np.zeros((3, 3, channels // 2, channels)))
    assert np.array_equal(b.to_numpy(b.bias_gradient(x)), np.zeros(channels))


def test_pooling(b):
    x, dy = none(b, 5, 5, 8), none(b, 2, 2, 8)
    y, argmax = b.max_pool(x, *WINDOW)
    means = b.average_pool(x, *WINDOW)
    assert shapes(b, y, means) == [(0, 2, 2, 8)] * 2
    dx = b.max_pool_gradient(dy, argmax, (0, 5, 5, 8), *WINDOW)
    assert shapes(b, dx, b.average_pool_gradient(dy, (0, 5, 5, 8), *WINDOW)) == [(0, 5, 5, 8)] * 2


def test_response_norm(b):
    x, norm = none(b, 5, 5, 8), (5, 2.0, 1e-4, 0.75)
    y, saved = b.response_norm(x, *norm, 2)
    assert shapes(b, y, b.response_norm_gradient(x, saved, *norm, 2)) == [(0, 5, 5, 8)] * 2
    y, saved = b.spatial_response_norm(x, *norm)
    assert shapes(b, y, b.spatial_response_norm_gradient(x, saved, *norm)) == [(0, 5, 5, 8)] * 2
    y, saved = b.response_norm_pool(x, (*norm, 2), WINDOW)
    dx = b.response_norm_pool_gradient(none(b, 2, 2, 8), saved, (*norm, 2), WINDOW, relu=True)
    assert shapes(b, y, dx) == [(0, 2, 2, 8), (0, 5, 5, 8)]


def test_elementwise(b):
    x = none(b, 5)
    for op in (b.relu, b.tanh, b.sigmoid, b.softmax):
        assert shapes(b, op(x)) == [(0, 5)]
    for gradient in (b.relu_gradient, b.tanh_gradient, b.sigmoid_gradient):
        assert shapes(b, gradient(x, x)) == [(0, 5)]
