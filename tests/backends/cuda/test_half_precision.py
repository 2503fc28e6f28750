"""Half precision: what is rounded where, op by op, and that learning hardly notices."""

import ml_dtypes
import numpy as np
import pytest
from helpers.strategies import grid, norms, windows
from hypothesis import given, settings
from hypothesis import strategies as st

from minialex import backends, losses, models
from minialex.layers import Mode
from minialex.models.recipe import Recipe
from minialex.optim import SGD, Rates
from minialex.parallel import SingleDevice
from minialex.testing.tolerance import assert_close
from minialex.training import diagnostics
from minialex.training.step import TrainStep
from minialex.tree import leaves

HALF = ("float16", "bfloat16")
reference = backends.get("numpy")


def rounded(x, dtype: str) -> np.ndarray:
    """x rounded to half precision, as float64."""
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    return np.asarray(x).astype(kind).astype(np.float64)


def close(ours, theirs, dtype, length, what):
    """Like `assert_close`; also checks the dtype that the backend promises."""
    assert_close(np.asarray(ours), theirs, dtype, length, what)


@pytest.mark.parametrize("dtype", HALF)
@given(problem=windows())
@settings(max_examples=40)
def test_convolution_in_half_precision(b, dtype, problem):
    """Products in half precision, sums and weight gradients in float32."""
    r, s = problem.window
    x = rounded(grid(problem.shape, 0), dtype)
    weight = rounded(grid((r, s, problem.shape[3] // problem.groups, problem.channels), 1), dtype)
    bias = grid((problem.channels,), 2).astype("float32")
    geometry = (problem.stride, problem.pads, problem.groups)
    y = b.convolution(b.asarray(x, dtype), b.asarray(weight, dtype), b.asarray(bias), *geometry)
    wanted = reference.convolution(x, weight, bias.astype("float64"), *geometry)
    close(b.to_numpy(y), wanted, dtype, 1, "y")
    dy = rounded(grid(wanted.shape, 3), dtype)
    dx = b.convolution_input_gradient(
        b.asarray(dy, dtype), b.asarray(weight, dtype), x.shape, *geometry
    )
    wanted = reference.convolution_input_gradient(dy, weight, x.shape, *geometry)
    close(b.to_numpy(dx), wanted, dtype, r * s, "dx")  # columns are stored before they are summed
    dw = b.convolution_weight_gradient(b.asarray(x, dtype), b.asarray(dy, dtype), (r, s), *geometry)
    wanted = reference.convolution_weight_gradient(x, dy, (r, s), *geometry)
    close(b.to_numpy(dw), wanted, "float32", dy.size, "dW")


@pytest.mark.parametrize("dtype", HALF)
@given(problem=windows(pooling=True))
@settings(max_examples=40)
def test_pooling_in_half_precision(b, dtype, problem):
    window = (problem.window, problem.stride, problem.pads)
    x = rounded(grid(problem.shape, 0), dtype)
    y, argmax = b.max_pool(b.asarray(x, dtype), *window)
    wanted, wanted_argmax = reference.max_pool(x, *window)
    np.testing.assert_array_equal(b.to_numpy(y).astype("float64"), wanted)
    np.testing.assert_array_equal(b.to_numpy(argmax), wanted_argmax)
    dy = rounded(grid(wanted.shape, 1), dtype)
    dx = b.max_pool_gradient(b.asarray(dy, dtype), argmax, x.shape, *window)
    wanted = reference.max_pool_gradient(dy, wanted_argmax, x.shape, *window)
    close(b.to_numpy(dx), wanted, dtype, 1, "dx")
    y = b.average_pool(b.asarray(x, dtype), *window)
    close(b.to_numpy(y), reference.average_pool(x, *window), dtype, 1, "mean")
    dx = b.average_pool_gradient(b.asarray(dy, dtype), x.shape, *window)
    close(b.to_numpy(dx), reference.average_pool_gradient(dy, x.shape, *window), dtype, 1, "dx")


@pytest.mark.parametrize("dtype", HALF)
@given(problem=norms())
@settings(max_examples=40)
def test_response_norms_in_half_precision(b, dtype, problem):
    x, dy = (rounded(grid(problem.shape, i), dtype) for i in (0, 1))
    norm = (problem.n, problem.k, problem.alpha, problem.beta)
    for op, more in (("response_norm", (problem.groups,)), ("spatial_response_norm", ())):
        y, saved = getattr(b, op)(b.asarray(x, dtype), *norm, *more)
        wanted, kept = getattr(reference, op)(x, *norm, *more)
        close(b.to_numpy(y), wanted, dtype, 1, op)
        dx = getattr(b, f"{op}_gradient")(b.asarray(dy, dtype), saved, *norm, *more)
        wanted = getattr(reference, f"{op}_gradient")(dy, kept, *norm, *more)
        close(b.to_numpy(dx), wanted, dtype, 1, f"{op} gradient")


@pytest.mark.parametrize("dtype", HALF)
def test_batch_norm_in_half_precision(b, dtype):
    """Statistics and everything by channel in float32."""
    x, dy = (rounded(grid((3, 10, 12, 5), i), dtype) for i in (0, 1))
    ours, dy_half = b.asarray(x, dtype), b.asarray(dy, dtype)
    mean, variance = b.batch_statistics(ours)
    wanted = reference.batch_statistics(x)
    close(b.to_numpy(mean), wanted[0], "float32", x.size, "mean")
    close(b.to_numpy(variance), wanted[1], "float32", x.size, "variance")
    weight, bias = (grid((5,), i).astype("float32") for i in (2, 3))
    y = b.batch_norm(ours, b.asarray(weight), b.asarray(bias), mean, variance, 0.1)
    given = weight.astype("float64"), bias.astype("float64")
    close(b.to_numpy(y), reference.batch_norm(x, *given, *wanted, 0.1), dtype, 1, "y")
    dx, dw, db = b.batch_norm_gradient(dy_half, ours, b.asarray(weight), mean, variance, 0.1)
    expected = reference.batch_norm_gradient(dy, x, given[0], *wanted, 0.1)
    close(b.to_numpy(dx), expected[0], dtype, 1, "dx")
    close(b.to_numpy(dw), expected[1], "float32", x.size, "dweight")
    close(b.to_numpy(db), expected[2], "float32", x.size, "dbias")


@pytest.mark.parametrize("dtype", [*HALF, "float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "n", "groups", "kernel"),
    [
        ((2, 9, 11, 96), 5, 2, "_wide"),
        ((1, 7, 13, 256), 5, 2, "_wide"),
        ((1, 6, 5, 16), 4, 1, "_wide"),
        ((1, 6, 5, 16), 7, 1, ""),  # sums of more than five
        ((1, 6, 5, 6), 5, 2, ""),  # 16 bytes do not divide a group
    ],
)
def test_fused_normalisation_and_pooling(b, monkeypatch, dtype, shape, n, groups, kernel):
    """The paper's channels split rows of windows; rounding is that of the separate kernels."""
    launched, run = [], b._run
    monkeypatch.setattr(b, "_run", lambda *a, **m: launched.append(a[1]) or run(*a, **m))
    values = np.maximum(grid(shape, 0), 0)
    values[0, 2, 3, 1], values[0, 4, 2, 3] = np.nan, np.inf
    x = b.asarray(values, dtype)
    norm, pool = (n, 2.0, 1.0, 0.75, groups), ((3, 3), (2, 2), ((0, 1), (1, 0)))
    z, kept = b.response_norm(x, *norm)
    wanted, argmax = b.max_pool(z, *pool)
    y, saved = b.response_norm_pool(x, norm, pool)
    for ours, theirs in ((y, wanted), (saved[2], argmax)):
        ours, theirs = (b.to_numpy(array).astype("float64") for array in (ours, theirs))
        np.testing.assert_array_equal(ours, theirs)
    dy = b.asarray(grid(y.shape, 1), dtype)
    dx = b.response_norm_gradient(b.max_pool_gradient(dy, argmax, shape, *pool), kept, *norm)
    dx = b.to_numpy(b.relu_gradient(dx, x)).astype("float64")
    found = b.to_numpy(b.response_norm_pool_gradient(dy, saved, norm, pool, relu=True))
    missing = np.isnan(found.astype("float64"))
    np.testing.assert_array_equal(missing, np.isnan(dx))
    found[missing] = dx[missing] = 0
    close(found, dx, dtype, 1, "dx")
    assert {name for name in launched if name.startswith("norm_pool")} == {
        f"norm_pool{kernel}",
        f"norm_pool_gradient{kernel}",
    }


@pytest.mark.parametrize("dtype", HALF)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=40)
def test_dense_and_losses_in_half_precision(b, dtype, n, i, o, seed):
    x, weight, dy = (rounded(grid(s, seed), dtype) for s in ((n, i), (i, o), (n, o)))
    bias = grid((o,), seed).astype("float32")
    ours = [b.asarray(a, dtype) for a in (x, weight, dy)]
    y = b.dense(ours[0], ours[1], b.asarray(bias), relu=True)
    close(b.to_numpy(y), np.maximum(x @ weight + bias, 0), dtype, 1, "y")
    dx = b.dense_input_gradient(ours[2], ours[1], x.shape)
    close(b.to_numpy(dx), dy @ weight.T, dtype, 1, "dx")
    close(b.to_numpy(b.dense_weight_gradient(ours[0], ours[2])), x.T @ dy, "float32", n, "dW")
    close(b.to_numpy(b.bias_gradient(ours[2])), dy.sum(0), "float32", n, "db")
    labels = np.random.default_rng(seed).integers(0, o, n)
    softmax, targets = losses.SoftmaxCrossEntropy(), np.abs(grid((n, o), seed)).astype("float32")
    for loss, y in ((softmax, labels), (softmax, targets), (losses.Hinge(), labels)):
        value, dscores = loss(b, ours[2], b.asarray(y), None, 512.0)
        wanted, gradient = loss(reference, dy, y, None, 512.0)
        assert_close(float(b.to_numpy(value)), float(wanted), "float32", n * o, "loss")
        close(b.to_numpy(dscores), gradient, dtype, 1, "dscores")


@pytest.mark.parametrize("dtype", HALF)
def test_every_number_is_rounded_by_ieee_rules(b, dtype):
    """All exponents, ties, infinities, subnormal numbers and a NaN."""
    exponents = np.ldexp(1.0, np.arange(-26, 18))[:, None]
    x = np.concatenate(((exponents * np.linspace(1, 2, 65)).ravel(), [np.inf, -np.inf, 0.0, 1e30]))
    x = np.concatenate((x, -x, [np.nan])).astype("float32")
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    with np.errstate(over="ignore"):
        wanted = x.astype(kind)
    found = b.to_numpy(b.asarray(x, dtype))
    np.testing.assert_array_equal(found.astype("float32"), wanted.astype("float32"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_loss_that_is_not_finite_is_explained(tmp_path, precision):
    """The layers are computed again, in the precision of the step: cuBLAS mixes no two types."""
    network = models.get("cifar10", 10).network
    b = backends.get("cupy", 0, precision)
    devices = SingleDevice(network, b)
    state = TrainStep(network, devices, losses.SoftmaxCrossEntropy(), SGD(Recipe())).init(seed=1)
    x = b.asarray(np.full((2, 32, 32, 3), np.inf, "float32"), b.compute_dtype("float32"))
    where = diagnostics._first_bad(b, network, state.params, x, Mode(training=True))
    assert where == "the output of layer conv1 is the first that is not finite"


def test_half_precision_changes_storage_but_not_learning():
    """Activations in half precision; parameters, gradients and updates in float32."""
    network = models.get("cifar10", 10).network
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")
    labels = np.arange(4) % 10
    found = {}
    for precision in ("fp32", "tf32", "bf16", "fp16"):
        b = backends.get("cupy", 0, precision)
        devices, loss = SingleDevice(network, b), losses.SoftmaxCrossEntropy()
        step = TrainStep(network, devices, loss, SGD(Recipe()))
        state, values = step.init(seed=1), []
        for _ in range(4):
            values.append(step(state, (images, labels), Rates(0.01, 0.01, 0.0)))
            for tree in (state.params, *state.slots.values()):
                assert {str(x.dtype) for *_, x in leaves(tree)} == {"float32"}
        inputs, mode = step.feed.inputs((images, labels), 0, 0.0), step.mode(4)
        _, grads = devices.gradients(state.params, inputs, labels, loss, mode)
        assert {str(x.dtype) for *_, x in leaves(grads)} == {"float32"}
        found[precision] = values
    np.testing.assert_allclose(found["tf32"], found["fp32"], rtol=1e-5)
    np.testing.assert_allclose(found["fp16"], found["fp32"], rtol=1e-3)
    np.testing.assert_allclose(found["bf16"], found["fp32"], rtol=1e-2)
    assert found["fp16"] != found["fp32"] != found["bf16"]
