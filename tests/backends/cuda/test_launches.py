"""Alignment, strides, index width and launch shape change no bit; wrong arguments are refused."""

import numpy as np
import pytest
from helpers.steps import here
from helpers.strategies import grid, norms
from hypothesis import given, settings
from hypothesis import strategies as st

from minialex import backends
from minialex.backends.cuda import dense, kernels
from minialex.testing.tolerance import assert_close


def views(b, x, start: int):
    """The same numbers on the device: unaligned, every other column, transposed."""
    flat = np.concatenate((np.zeros(start, x.dtype), x.ravel()))
    yield b.asarray(flat)[start:].reshape(x.shape)
    yield b.asarray(np.repeat(x, 2, axis=-1))[..., ::2]
    yield b.asarray(np.ascontiguousarray(x.T)).T


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("start", [1, 3, 4])
def test_any_memory_layout_works(b, dtype, start):
    """Multiples of four channels: aligned arrays use the wide kernels, others must not."""
    x = grid((2, 6, 5, 8), 0).astype(dtype)
    weight, other = grid((3, 3, 4, 8), 1).astype(dtype), b.asarray(grid(x.shape, 2).astype(dtype))
    window, geometry = ((3, 3), (2, 1), ((1, 1), (0, 1))), ((1, 2), ((1, 1), (1, 0)), 2)
    plain = b.asarray(x)
    channels = [b.asarray(grid((8,), i).astype(dtype) ** 2) for i in range(4)]
    w, wide = b.asarray(weight), b.convolution(plain, b.asarray(weight), None, *geometry)

    def everything(x):
        moments = [(grid(other.shape, i) ** 2).astype(dtype) for i in range(3)]
        pooled, argmax = b.max_pool(x, *window)
        return [
            b.convolution(x, w, None, *geometry),
            b.convolution_weight_gradient(x, wide, (3, 3), *geometry),
            b.convolution_input_gradient(b.narrow(x, 2, 0, 3), w, other.shape, *geometry),
            pooled,
            b.max_pool_gradient(pooled, argmax, x.shape, *window),
            b.average_pool(x, *window),
            *b.adam_update(*map(b.asarray, moments), x, 0.1, 0.0, 1, 0.9, 0.99, 1.0),
            b.relu(x),
            b.relu_gradient(x, other),
            b.relu_gradient(other, x),
            b.sigmoid(x),
            b.sigmoid_gradient(x, other),
            b.add(x, other),
            b.response_norm(x, 5, 2.0, 1.0, 0.75, 2)[0],
            b.spatial_response_norm(x, 3, 2.0, 1.0, 0.75)[0],
            b.bias_gradient(x),
            *b.batch_statistics(x),
            b.batch_norm(x, *channels, 0.1),
            *b.batch_norm_gradient(x, other, *channels[::2], channels[3], 0.1),
            *b.batch_norm_gradient(other, x, *channels[::2], channels[3], 0.1),
            b.running_average(b.asarray(grid(x.shape, 3).astype(dtype)), x, 0.9, 0.2),
            b.dropout(x, 0.5, 1.0, 1, 2, 3)[0],
            b.concat([x, other], 3),
            b.dense_weight_gradient(x, b.asarray(grid((2, 3), 0).astype(dtype))),
        ]

    wanted = [b.to_numpy(y) for y in everything(plain)]
    for view in views(b, x, start):
        for ours, theirs in zip(everything(view), wanted, strict=True):
            np.testing.assert_array_equal(b.to_numpy(ours), theirs)


def test_64_bit_indices_give_the_same_result(b, monkeypatch):
    """Arrays of 2^30 numbers or more use them; here all do."""
    x, weight = grid((2, 7, 6, 8), 0), grid((3, 3, 4, 8), 1)
    geometry, window = ((1, 1), ((1, 1), (1, 0)), 2), ((3, 3), (2, 2), ((0, 0), (0, 0)))

    def everything():
        y = b.convolution(b.asarray(x), b.asarray(weight), None, *geometry)
        pooled, argmax = b.max_pool(y, *window)
        norm = b.response_norm(pooled, 3, 2.0, 1.0, 0.75, 2)[0]
        back = b.max_pool_gradient(norm, argmax, y.shape, *window)
        dx = b.convolution_input_gradient(back, b.asarray(weight), x.shape, *geometry)
        return [b.to_numpy(a) for a in (pooled, norm, dx, b.dropout(dx, 0.5, 1.0, 1, 2, 3)[0])]

    wanted = everything()
    monkeypatch.setattr(kernels, "_INDEX_LIMIT", 0)
    for ours, theirs in zip(everything(), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_result_does_not_depend_on_the_launch(b, monkeypatch):
    x = grid((3, 7, 6, 8), 0)

    def everything():
        y, saved = b.response_norm(b.asarray(x), 3, 2.0, 1.0, 0.75, 2)
        dx = b.response_norm_gradient(y, saved, 3, 2.0, 1.0, 0.75, 2)
        pooled, _ = b.max_pool(dx, (3, 3), (2, 2), ((0, 0), (0, 0)))
        dropped = b.dropout(pooled, 0.5, 1.0, 1, 2, 3)[0]
        return [b.to_numpy(a) for a in (y, dx, dropped, b.bias_gradient(dx))]

    wanted = everything()
    monkeypatch.setattr(kernels, "_GRID", 2)
    monkeypatch.setattr(kernels, "BLOCK", 64)
    for ours, theirs in zip(everything(), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_bias_gradient_of_very_many_rows(b, monkeypatch):
    """A grid's second axis has at most 65,535 blocks."""
    x = grid((50, 6), 0)
    monkeypatch.setattr(dense, "_CHUNK", 4)
    monkeypatch.setattr(dense, "_CHUNKS", 3)
    assert_close(b.to_numpy(b.bias_gradient(b.asarray(x))), x.sum(axis=0), "float64", 50)


@given(problem=norms(), wide=st.booleans())
@settings(max_examples=30)
def test_normalisation_of_very_many_channels(b, problem, wide):
    """Channels that do not fit in shared memory use the plain kernels."""
    x, dy = grid(problem.shape, 0), grid(problem.shape, 1)
    norm = (problem.n, problem.k, problem.alpha, problem.beta, problem.groups)
    y, saved = b.response_norm(b.asarray(x), *norm)
    dx = b.response_norm_gradient(b.asarray(dy), saved, *norm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minialex.backends.cuda.kernels.SHARED", 0)
        plain, saved = b.response_norm(b.asarray(x), *norm)
        plain_dx = b.response_norm_gradient(b.asarray(dy), saved, *norm)
    assert_close(b.to_numpy(plain), b.to_numpy(y), "float64", 9)
    assert_close(b.to_numpy(plain_dx), b.to_numpy(dx), "float64", 9)


def test_a_launch_refuses_arguments_that_do_not_fit_the_kernel(b):
    x, y = b.asarray(grid((4,), 0)), b.asarray(grid((4,), 1).astype("float32"))
    launch = b.stream.launch
    with pytest.raises(TypeError, match="takes 3 arguments, not 2"):
        launch("elementwise", "relu", "float64", (x, x), 4)
    with pytest.raises(TypeError, match="relu: y is float32, expected float64"):
        launch("elementwise", "relu", "float64", (x, y, 4), 4)
    with pytest.raises(TypeError, match="relu: x is not contiguous"):
        launch("elementwise", "relu", "float64", (x[::2], x, 4), 4)


@pytest.mark.standin
def test_arrays_of_another_device_are_refused(b):
    x, elsewhere = b.asarray(grid((4,), 0)), backends.get("cupy", 1)
    launch = b.stream.launch
    with pytest.raises(TypeError, match="relu: x is on device 1, not 0"):
        launch("elementwise", "relu", "float64", (elsewhere.asarray(grid((4,), 0)), x, 4), 4)
    with pytest.raises(TypeError, match="a product on device 0"):
        b.dense(elsewhere.asarray(grid((2, 3), 0)), b.asarray(grid((3, 2), 0)), None)


def test_a_module_is_loaded_per_device():
    for device in here([0, 1, 0]):
        b = backends.get("cupy", device)
        np.testing.assert_array_equal(b.to_numpy(b.relu(b.asarray([-1.0, 2.0]))), [0.0, 2.0])
