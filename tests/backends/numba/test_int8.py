"""Inference with 8-bit integers: the bits of the loops, on any processor, in any batch."""

import copy
import gc
import os
import pickle
import platform
import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minialex import backends, models
from minialex.backends.numba import int8, integer_products
from minialex.backends.numba.execution import NumbaExecution
from minialex.errors import InputError
from minialex.layers import Mode
from minialex.parallel import DeviceConfig
from reference import int8 as reference

MOST = backends.get("numba").threads
INT8 = backends.get("numba", precision="int8").for_inference()


def _drawn(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@settings(max_examples=40)
@given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 4), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 3)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.sampled_from([(1, 1, 1), (3, 40, 1), (4, 6, 2), (6, 66, 3)]),
    st.sampled_from([0.0, 0.5, 3.0]),
)
def test_a_convolution_has_the_bits_of_the_loops(n, kernel, stride, size, pads, channels, shift):
    (top, bottom, left, right), (c, k, groups) = pads, channels
    assume(size[0] + top + bottom >= kernel[0] and size[1] + left + right >= kernel[1])
    geometry = (stride, ((top, bottom), (left, right)), groups)
    rng = np.random.default_rng(sum(size))
    x, weight = _drawn(rng, n, *size, c) + np.float32(shift), _drawn(rng, *kernel, c // groups, k)
    x[0], weight[..., -1], bias = 0, 0, _drawn(rng, k)
    wanted = reference.forward(x, weight, bias, *geometry)
    for threads in sorted({1, MOST}):
        b = INT8.with_threads(threads).for_inference()
        np.testing.assert_array_equal(b.convolution(x, weight, bias, *geometry), wanted)
    found = INT8.convolution(x, weight, bias, *geometry, relu=True)
    np.testing.assert_array_equal(found, np.maximum(wanted, 0))


@pytest.mark.parametrize(("n", "i", "o"), [(1, 1, 1), (1, 70, 33), (2, 9, 64), (20, 30, 5)])
def test_a_dense_layer_is_a_convolution_of_one_pixel(n, i, o):
    rng = np.random.default_rng(n)
    x, weight, bias = np.abs(_drawn(rng, n, i)), _drawn(rng, i, o), _drawn(rng, o)
    none = ((0, 0), (0, 0))
    wanted = reference.forward(
        x.reshape(n, 1, 1, i), weight.reshape(1, 1, i, o), bias, (1, 1), none, 1
    )
    np.testing.assert_array_equal(INT8.dense(x, weight, bias), wanted.reshape(n, o))


def test_a_sum_as_long_as_allowed_does_not_overflow():
    x = np.full((1, int8.LONGEST), 2, np.float32)
    y = INT8.dense(x, np.full((int8.LONGEST, 1), 3, np.float32), None)
    np.testing.assert_allclose(y, 6 * int8.LONGEST, rtol=1e-5)
    x[0, 0] = -2
    y = INT8.dense(x, np.full((int8.LONGEST, 1), 3, np.float32), None)
    np.testing.assert_allclose(y, 6 * int8.LONGEST, rtol=0.01)


def test_longer_sums_and_float64_are_not_rounded():
    x = np.full((1, int8.LONGEST + 1), 1 / 3, np.float32)
    x[0, 0] = 1000
    weight = np.ones((x.size, 1), np.float32)
    np.testing.assert_allclose(INT8.dense(x, weight, None), x.sum(), rtol=1e-5)
    x, weight = x[:, :9].astype(float), weight[:9].astype(float)
    np.testing.assert_allclose(INT8.dense(x, weight, None), [[x.sum()]], rtol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_makes_its_own_image_not_finite(value):
    x, weight = np.ones((2, 20), np.float32), np.ones((20, 3), np.float32)
    x[1, 7] = value
    y = INT8.dense(x, weight, None)
    np.testing.assert_allclose(y[0], 20, rtol=1e-5)
    assert np.isnan(y[1]).all()
    weight[3, 1] = value
    y = INT8.dense(x[:1], weight.copy(), None)
    assert np.isfinite(y[0, ::2]).all()
    assert not np.isfinite(y[0, 1])


def test_an_image_has_the_same_scores_in_any_batch():
    model = models.get("alexnet-64", 4)
    network = model.network
    params = network.init(backends.get("numpy"))
    images = _drawn(np.random.default_rng(0), 6, *network.input_shape)
    together = network.infer(INT8, params, images)
    alone = [network.infer(INT8, params, images[i : i + 1]) for i in range(6)]
    np.testing.assert_array_equal(np.concatenate(alone), together)
    exact = network.infer(backends.get("numpy"), params, images)
    assert 0 < np.abs(together - exact).max() < 0.05 * exact.std()


def test_training_and_gradients_stay_in_full_precision():
    network = models.get("alexnet-64", 4).network
    params = network.init(backends.get("numpy"))
    images = _drawn(np.random.default_rng(0), 2, *network.input_shape)
    b, full = backends.get("numba", precision="int8"), backends.get("numba")
    found = [network.forward(one, params, images, Mode())[0] for one in (b, full)]
    np.testing.assert_array_equal(*found)


def test_weights_are_quantized_once_and_forgotten_with_their_array(monkeypatch):
    b, made = backends.get("numba", precision="int8").for_inference(), []
    quantized = int8._quantized
    monkeypatch.setattr(int8, "_quantized", lambda *a: made.append(1) or quantized(*a))
    x, weight = np.ones((1, 8), np.float32), np.ones((8, 2), np.float32)
    for _ in range(3):
        b.for_inference().dense(x, weight, None)
    assert made == [1]
    assert len(b._weights._known) == 1
    del weight
    gc.collect()
    assert not b._weights._known


def test_quantized_weights_do_not_outlive_their_backend():
    x, weight = np.ones((1, 8), np.float32), np.ones((8, 2), np.float32)
    b = backends.get("numba", precision="int8").for_inference()
    b.dense(x, weight, None)
    [packed] = [weakref.ref(one.packed) for one in b._weights._known.values()]
    del b
    gc.collect()
    assert packed() is None


def test_copies_do_not_take_other_arrays_for_quantized_ones():
    """Arrays are known by their addresses, which mean others in a copy."""
    x, weight = np.ones((1, 8), np.float32), np.ones((8, 2), np.float32)
    b = backends.get("numba", precision="int8").for_inference()
    b.dense(x, weight, None)
    for again in (copy.deepcopy(b._weights), pickle.loads(pickle.dumps(b._weights))):
        assert not again._known
    assert b._weights._known


def test_several_devices_of_the_host_use_integers_too():
    model = models.get("alexnet-64", 4)
    params = model.network.init(backends.get("numpy"))
    images = _drawn(np.random.default_rng(0), 4, *model.network.input_shape)
    found = []
    for devices, scheme in ((None, None), ((0, 1), "data")):
        opened = DeviceConfig("numba", devices, scheme, "int8").open(model.network)
        found.append(
            opened.infer(opened.to_devices(params), lambda b, i, j: images[i:j], len(images))
        )
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_what_cannot_be_done_is_refused(name, tmp_path):
    import minialex

    if name == "numpy":
        with pytest.raises(InputError, match=r'not compute in int8.*backend="numba"'):
            backends.get(name, precision="int8")
    with pytest.raises(InputError, match="int8 is for predictions"):
        minialex.train(data="shapes:40", backend=name, precision="int8", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


SCRIPT = """
import hashlib
import numpy as np
from minialex import backends
b = backends.get("numba", precision="int8")
x = np.sin(np.arange(2 * 9 * 9 * 8)).reshape(2, 9, 9, 8).astype(np.float32)
w = np.cos(np.arange(9 * 8 * 40)).reshape(3, 3, 8, 40).astype(np.float32)
y = b.for_inference().convolution(x, w, None, (1, 1), ((1, 1), (1, 1)), 1)
print(any("no instructions" in remark for remark in b.remarks([])))
print(hashlib.sha256(y.tobytes()).hexdigest())
"""


def _run(environment, script=SCRIPT):
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()


def test_without_instructions_for_it_the_bits_are_the_same_and_a_remark_says_so():
    warned, bits = _run({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""})
    assert warned == "True"
    assert [str(not integer_products.FAST), bits] == _run({})


ASSEMBLY = """
from numba import njit, types
from minialex.backends.numba.integer_products import products_of_all
function = njit(lambda a, i, s, b, j, d, c: products_of_all(a, i, s, b, j, d, c))
number = types.int64
function.compile(
    (types.uint8[::1], number, number, types.int8[::1], number, number, types.int32[::1])
)
print(*[word for word in list(function.inspect_asm().values())[0].split() if "pdpbusd" in word])
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instructions of x86")
@pytest.mark.parametrize(
    ("name", "features"),
    [("cascadelake", "+avx512f,+avx512vnni"), ("alderlake", "+avx2,+avxvnni")],
)
def test_processors_that_have_instructions_for_it_use_them(name, features):
    """They are compiled, not run: this processor may have others."""
    given = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    found = _run(given, ASSEMBLY)
    assert len(found) >= 12
    assert set(found) == {"vpdpbusd"}


def test_weights_are_quantized_under_the_lock_of_the_kernels_threads(monkeypatch):
    """A server's threads may need some at the same time, and some thread pools cannot be shared."""
    ran, run = [], NumbaExecution._run

    def recorded(self, kernel, *arguments):
        ran.append(kernel)
        run(self, kernel, *arguments)

    monkeypatch.setattr(NumbaExecution, "_run", recorded)
    INT8.dense(np.ones((1, 8), np.float32), np.ones((8, 2), np.float32), None)
    assert ran == [int8.pack]
