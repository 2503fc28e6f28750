"""What is special to CUDA: half precision, alignment, index width, what a step may touch."""

import cuda_on_cpu
import ml_dtypes
import numpy as np
import pytest
from helpers.steps import here, step_of, step_peak
from helpers.strategies import grid, norms, windows
from hypothesis import given, settings
from hypothesis import strategies as st

from minialex import backends, losses, models, parallel
from minialex.backends.base import Backend
from minialex.backends.cuda import kernels
from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.optim import SGD, Rates
from minialex.parallel import SingleDevice
from minialex.testing.tolerance import assert_close
from minialex.training.step import TrainStep
from minialex.tree import leaves

HALF = ("float16", "bfloat16")
reference = backends.get("numpy")


@pytest.fixture(scope="module")
def b():
    return backends.get("cupy")


def rounded(x, dtype: str) -> np.ndarray:
    """The numbers that are left of x in half precision, in float64."""
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    return np.asarray(x).astype(kind).astype(np.float64)


def close(ours, theirs, dtype, length, what):
    """As `assert_close`; also the type that the backend promises."""
    assert_close(np.asarray(ours), theirs, dtype, length, what)


# ------------------------------------------------------------------------------ half precision


@pytest.mark.parametrize("dtype", HALF)
@given(problem=windows())
@settings(max_examples=40)
def test_convolution_in_half_precision(b, dtype, problem):
    """Products of half numbers, sums and weight gradients in float32."""
    r, s = problem.window
    x = rounded(grid(problem.shape, 0), dtype)
    weight = rounded(grid((r, s, problem.shape[3] // problem.groups, problem.channels), 1), dtype)
    bias = grid((problem.channels,), 2).astype("float32")
    place = (problem.stride, problem.pads, problem.groups)
    y = b.convolution(b.asarray(x, dtype), b.asarray(weight, dtype), b.asarray(bias), *place)
    wanted = reference.convolution(x, weight, bias.astype("float64"), *place)
    close(b.to_numpy(y), wanted, dtype, 1, "y")
    dy = rounded(grid(wanted.shape, 3), dtype)
    dx = b.convolution_input_gradient(
        b.asarray(dy, dtype), b.asarray(weight, dtype), x.shape, *place
    )
    wanted = reference.convolution_input_gradient(dy, weight, x.shape, *place)
    close(b.to_numpy(dx), wanted, dtype, r * s, "dx")  # columns are stored before they are summed
    dw = b.convolution_weight_gradient(b.asarray(x, dtype), b.asarray(dy, dtype), (r, s), *place)
    wanted = reference.convolution_weight_gradient(x, dy, (r, s), *place)
    close(b.to_numpy(dw), wanted, "float32", dy.size, "dW")


@pytest.mark.parametrize("dtype", HALF)
@given(problem=windows(pooling=True))
@settings(max_examples=40)
def test_pooling_in_half_precision(b, dtype, problem):
    place = (problem.window, problem.stride, problem.pads)
    x = rounded(grid(problem.shape, 0), dtype)
    y, argmax = b.max_pool(b.asarray(x, dtype), *place)
    wanted, wanted_argmax = reference.max_pool(x, *place)
    np.testing.assert_array_equal(b.to_numpy(y).astype("float64"), wanted)
    np.testing.assert_array_equal(b.to_numpy(argmax), wanted_argmax)
    dy = rounded(grid(wanted.shape, 1), dtype)
    dx = b.max_pool_gradient(b.asarray(dy, dtype), argmax, x.shape, *place)
    wanted = reference.max_pool_gradient(dy, wanted_argmax, x.shape, *place)
    close(b.to_numpy(dx), wanted, dtype, 1, "dx")
    y = b.average_pool(b.asarray(x, dtype), *place)
    close(b.to_numpy(y), reference.average_pool(x, *place), dtype, 1, "mean")
    dx = b.average_pool_gradient(b.asarray(dy, dtype), x.shape, *place)
    close(b.to_numpy(dx), reference.average_pool_gradient(dy, x.shape, *place), dtype, 1, "dx")


@pytest.mark.parametrize("dtype", HALF)
@given(problem=norms())
@settings(max_examples=40)
def test_response_norms_in_half_precision(b, dtype, problem):
    x, dy = (rounded(grid(problem.shape, i), dtype) for i in (0, 1))
    place = (problem.n, problem.k, problem.alpha, problem.beta)
    for op, more in (("response_norm", (problem.groups,)), ("spatial_response_norm", ())):
        y, saved = getattr(b, op)(b.asarray(x, dtype), *place, *more)
        wanted, kept = getattr(reference, op)(x, *place, *more)
        close(b.to_numpy(y), wanted, dtype, 1, op)
        dx = getattr(b, f"{op}_gradient")(b.asarray(dy, dtype), saved, *place, *more)
        wanted = getattr(reference, f"{op}_gradient")(dy, kept, *place, *more)
        close(b.to_numpy(dx), wanted, dtype, 1, f"{op} gradient")


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("shape", [(2, 9, 11, 96), (1, 7, 13, 256)])
def test_normalisation_and_pooling_as_one_in_half_precision(b, dtype, shape):
    """The paper's channels, so that rows of windows are cut; rounded as the separate kernels do."""
    x = b.asarray(np.maximum(grid(shape, 0), 0), dtype)
    norm, pool = (5, 2.0, 1.0, 0.75, 2), ((3, 3), (2, 2), ((0, 0), (0, 0)))
    z, kept = b.response_norm(x, *norm)
    wanted, argmax = b.max_pool(z, *pool)
    y, saved = b.response_norm_pool(x, norm, pool)
    np.testing.assert_array_equal(b.to_numpy(y), b.to_numpy(wanted))
    np.testing.assert_array_equal(b.to_numpy(saved[2]), b.to_numpy(argmax))
    dy = b.asarray(grid(y.shape, 1), dtype)
    dx = b.response_norm_gradient(b.max_pool_gradient(dy, argmax, shape, *pool), kept, *norm)
    dx = b.to_numpy(b.relu_gradient(dx, x)).astype("float64")
    found = b.to_numpy(b.response_norm_pool_gradient(dy, saved, norm, pool, relu=True))
    close(found, dx, dtype, 1, "dx")


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
    for loss in (losses.SoftmaxCrossEntropy(), losses.Hinge()):
        value, dscores = loss(b, ours[2], b.asarray(labels), None, 512.0)
        wanted, gradient = loss(reference, dy, labels, None, 512.0)
        assert_close(float(b.to_numpy(value)), float(wanted), "float32", n * o, "loss")
        close(b.to_numpy(dscores), gradient, dtype, 1, "dscores")


@pytest.mark.parametrize("dtype", HALF)
def test_every_number_is_rounded_as_ieee_says(b, dtype):
    """Through all exponents, ties, infinities, subnormal numbers and a NaN."""
    exponents = np.ldexp(1.0, np.arange(-26, 18))[:, None]
    x = np.concatenate(((exponents * np.linspace(1, 2, 65)).ravel(), [np.inf, -np.inf, 0.0, 1e30]))
    x = np.concatenate((x, -x, [np.nan])).astype("float32")
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    with np.errstate(over="ignore"):
        wanted = x.astype(kind)
    found = b.to_numpy(b.asarray(x, dtype))
    np.testing.assert_array_equal(found.astype("float32"), wanted.astype("float32"))


def test_half_precision_changes_what_is_stored_not_what_is_learnt():
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
            for tree in (state.params, state.velocities):
                assert {str(x.dtype) for *_, x in leaves(tree)} == {"float32"}
        inputs, mode = step.feed.inputs((images, labels), 0, 0.0), step.mode(4)
        _, grads = devices.gradients(state.params, inputs, labels, loss, mode)
        assert {str(x.dtype) for *_, x in leaves(grads)} == {"float32"}
        found[precision] = values
    np.testing.assert_allclose(found["tf32"], found["fp32"], rtol=1e-5)
    np.testing.assert_allclose(found["fp16"], found["fp32"], rtol=1e-3)
    np.testing.assert_allclose(found["bf16"], found["fp32"], rtol=1e-2)
    assert found["fp16"] != found["fp32"] != found["bf16"]


# ------------------------------------------------------------------------------ memory layout


def views(b, x, start: int):
    """The same numbers on the device: not aligned, every other column, transposed."""
    flat = np.concatenate((np.zeros(start, x.dtype), x.ravel()))
    yield b.asarray(flat)[start:].reshape(x.shape)
    yield b.asarray(np.repeat(x, 2, axis=-1))[..., ::2]
    yield b.asarray(np.ascontiguousarray(x.T)).T


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("start", [1, 3, 4])
def test_any_layout_on_the_device(b, dtype, start):
    """Channels by fours, so that aligned arrays take the wide kernels and others must not."""
    x = grid((2, 6, 5, 8), 0).astype(dtype)
    weight, other = grid((3, 3, 4, 8), 1).astype(dtype), b.asarray(grid(x.shape, 2).astype(dtype))
    window, place = ((3, 3), (2, 1), ((1, 1), (0, 1))), ((1, 2), ((1, 1), (1, 0)), 2)
    plain = b.asarray(x)
    w, wide = b.asarray(weight), b.convolution(plain, b.asarray(weight), None, *place)

    def everything(x):
        pooled, argmax = b.max_pool(x, *window)
        return [
            b.convolution(x, w, None, *place),
            b.convolution_weight_gradient(x, wide, (3, 3), *place),
            b.convolution_input_gradient(b.narrow(x, 2, 0, 3), w, other.shape, *place),
            pooled,
            b.max_pool_gradient(pooled, argmax, x.shape, *window),
            b.average_pool(x, *window),
            b.relu(x),
            b.relu_gradient(x, other),
            b.relu_gradient(other, x),
            b.add(x, other),
            b.response_norm(x, 5, 2.0, 1.0, 0.75, 2)[0],
            b.spatial_response_norm(x, 3, 2.0, 1.0, 0.75)[0],
            b.bias_gradient(x),
            b.dropout(x, 0.5, 1.0, 1, 2, 3)[0],
            b.concat([x, other], 3),
            b.dense_weight_gradient(x, b.asarray(grid((2, 3), 0).astype(dtype))),
        ]

    wanted = [b.to_numpy(y) for y in everything(plain)]
    for view in views(b, x, start):
        for ours, theirs in zip(everything(view), wanted, strict=True):
            np.testing.assert_array_equal(b.to_numpy(ours), theirs)


def test_indices_of_64_bits_give_the_same(b, monkeypatch):
    """Arrays of 2^30 numbers and more take them; here all do."""
    x, weight = grid((2, 7, 6, 8), 0), grid((3, 3, 4, 8), 1)
    place, window = ((1, 1), ((1, 1), (1, 0)), 2), ((3, 3), (2, 2), ((0, 0), (0, 0)))

    def everything():
        y = b.convolution(b.asarray(x), b.asarray(weight), None, *place)
        pooled, argmax = b.max_pool(y, *window)
        norm = b.response_norm(pooled, 3, 2.0, 1.0, 0.75, 2)[0]
        back = b.max_pool_gradient(norm, argmax, y.shape, *window)
        dx = b.convolution_input_gradient(back, b.asarray(weight), x.shape, *place)
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


@given(problem=norms(), wide=st.booleans())
@settings(max_examples=30)
def test_the_normalisation_for_very_many_channels(b, problem, wide):
    """Maps that do not fit shared memory take the plain kernels."""
    x, dy = grid(problem.shape, 0), grid(problem.shape, 1)
    place = (problem.n, problem.k, problem.alpha, problem.beta, problem.groups)
    y, saved = b.response_norm(b.asarray(x), *place)
    dx = b.response_norm_gradient(b.asarray(dy), saved, *place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minialex.backends.cuda.kernels.SHARED", 0)
        plain, saved = b.response_norm(b.asarray(x), *place)
        plain_dx = b.response_norm_gradient(b.asarray(dy), saved, *place)
    assert_close(b.to_numpy(plain), b.to_numpy(y), "float64", 9)
    assert_close(b.to_numpy(plain_dx), b.to_numpy(dx), "float64", 9)


# ------------------------------------------------------------------------------ launches


def test_a_launch_refuses_what_a_kernel_cannot_take(b):
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


def test_a_module_belongs_to_its_device():
    for device in here([0, 1, 0]):
        b = backends.get("cupy", device)
        np.testing.assert_array_equal(b.to_numpy(b.relu(b.asarray([-1.0, 2.0]))), [0.0, 2.0])


# ------------------------------------------------------------------------------ a training step


def test_a_step_of_the_whole_network_agrees():
    network = models.get("alexnet", 10).network
    outcomes = []
    for name in ("numpy", "cupy"):
        b: Backend = backends.get(name)
        step, params = step_of(network, SingleDevice(network, b), 2)
        value = step(0)()
        outcomes.append((value, {k: b.to_numpy(v["weight"]) for k, v in params.items()}))
    (theirs, wanted), (ours, found) = outcomes
    assert ours == pytest.approx(theirs, rel=1e-5)
    for layer, weight in wanted.items():
        assert_close(found[layer], weight, "float32", 3000, layer)


def test_ten_steps_of_a_small_network_agree():
    network = models.get("cifar10", 10).network
    values = []
    for name in ("numpy", "cupy"):
        step, _ = step_of(network, SingleDevice(network, backends.get(name)), 6, "float64")
        values.append([step(i)() for i in range(10)])
    np.testing.assert_allclose(values[1], values[0], rtol=1e-9)


@pytest.mark.standin
@pytest.mark.parametrize("devices", [0, [0, 1]])
@pytest.mark.parametrize("scheme", [None, "data", "hybrid"])
def test_a_step_reads_back_nothing_but_the_loss(devices, scheme):
    """What goes to the device are the images, where to crop them, and the labels."""
    machine = cuda_on_cpu.machine
    network, batch = models.get("cifar10", 10).network, 6
    b = parallel.open_devices(network, "cupy", devices, scheme)
    step, _ = step_of(network, b, batch)
    step(0)()
    before = machine.to_host, machine.to_device
    loss = step(1)
    copies = 1 if devices == 0 or scheme != "towers" else 2
    assert machine.to_host == before[0]
    numbers = batch * (41 * 41 * 3 + 3 * 4 + 8)
    assert machine.to_device - before[1] <= copies * numbers
    loss()
    assert machine.to_host - before[0] <= 2 * 4


@pytest.mark.standin
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batch_128_trains_in_the_memory_of_a_gtx_580(precision):
    """3 GB (paper, section 3.2), on one device, and in half of it on two."""
    network = models.get("alexnet").network
    one, two = (step_peak(network, devices, precision, 128) for devices in (0, [0, 1]))
    print(f"{precision}: {one / 1e9:.3f} GB on one device, {two / 1e9:.3f} GB on each of two")
    assert one < 1.5e9
    assert two < 0.9e9


# ------------------------------------------------------------------------------ what may be missing


@pytest.mark.standin
def test_what_is_missing_is_one_sentence(monkeypatch):
    cupy = backends.get("cupy").xp
    with pytest.raises(InputError, match=r"no CUDA device 7: this machine has 2 \(number 0, 1\)"):
        backends.get("cupy", 7)
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 0)
    with pytest.raises(InputError, match="finds no GPU"):
        backends.get("cupy")

    def no_driver():
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorInsufficientDriver: too old")

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", no_driver)
    with pytest.raises(InputError, match=r"no usable CUDA driver \(cudaErrorInsufficientDriver"):
        backends.get("cupy")
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(InputError, match=r'install "minialex\[gpu\]" for CUDA 12'):
        backends.get("cupy")
    assert backends.get("auto").name != "cupy"
