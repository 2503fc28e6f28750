"""Convolution by panels of tiles; one image or a few at test time."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numba.core.codegen import get_host_cpu_features

from minialex import backends, models
from minialex.backends.base import output_shape
from minialex.backends.numba import vectors, winograd_panels
from minialex.layers import Mode
from minialex.testing.tolerance import assert_close

MOST = backends.get("numba").threads
COUNTS = sorted({1, MOST, min(3, MOST)})
EXACT = backends.get("numpy")


@settings(max_examples=40)
@given(
    st.integers(1, 7),
    st.sampled_from([(3, 1), (5, 1), (6, 2), (11, 4)]),
    st.tuples(st.integers(1, 17), st.integers(1, 17)),
    st.tuples(*[st.integers(0, 5)] * 4),
    st.sampled_from([(1, 16, 1), (3, 48, 1), (70, 32, 1), (6, 96, 2), (130, 32, 2)]),
    st.booleans(),
)
def test_panels_of_tiles_equal_the_convolution(n, kernel, size, pads, channels, relu):
    """Each number of threads has the same bits."""
    (taps, stride), (top, bottom, left, right) = kernel, pads
    (h, w), (c, k, groups) = size, channels
    assume(h + top + bottom >= taps and w + left + right >= taps)
    geometry = ((stride,) * 2, ((top, bottom), (left, right)), groups)
    rng = np.random.default_rng(h + w)
    x, weight = rng.normal(size=(n, h, w, c)), rng.normal(size=(taps, taps, c // groups, k))
    bias = rng.normal(size=k)
    wanted = EXACT.convolution(x, weight, bias, *geometry, relu=relu)
    arrays = [array.astype(np.float32) for array in (x, weight, bias)]
    found = []
    for threads in COUNTS:
        b = backends.get("numba", threads=threads).for_inference()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(winograd_panels, "worthwhile", lambda *_: True)
            patch.setattr(winograd_panels, "FEW", 7)
            patch.setattr(winograd_panels, "_PANELS", 2)
            found.append(b.convolution(*arrays, *geometry, relu=relu))
    assert_close(found[0], wanted, "float32", taps * taps * c)
    assert len({y.tobytes() for y in found}) == 1


@settings(max_examples=20)
@given(
    st.integers(1, 7),
    st.sampled_from([3, 5]),
    st.tuples(st.integers(5, 17), st.integers(5, 17)),
    st.sampled_from([(16, 48, 1), (32, 32, 2), (80, 16, 1)]),
)
def test_panels_of_tiles_train(n, taps, size, channels):
    """The output and the inputs' gradient, with the same bits for each number of threads."""
    c, k, groups = channels
    rng = np.random.default_rng(n)
    x, dy = rng.normal(size=(n, *size, c)), rng.normal(size=(n, *size, k))
    weight, geometry = rng.normal(size=(taps, taps, c // groups, k)), ((1, 1), _same(taps), groups)
    y = EXACT.convolution(x, weight, None, *geometry)
    dx = EXACT.convolution_input_gradient(dy, weight, x.shape, *geometry)
    x, weight, dy = (array.astype(np.float32) for array in (x, weight, dy))
    found = []
    for threads in COUNTS:
        b = backends.get("numba", threads=threads)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(b), "_by_tiles", lambda *_: True)
            patch.setattr(winograd_panels, "suitable", lambda *_: True)
            patch.setattr(winograd_panels, "_PANELS", 2)
            found.append(
                (
                    b.convolution(x, weight, None, *geometry),
                    b.convolution_input_gradient(dy, weight, x.shape, *geometry),
                )
            )
    assert_close(found[0][0], y, "float32", taps * taps * c)
    assert_close(found[0][1], dx, "float32", taps * taps * k)
    assert len({b"".join(array.tobytes() for array in arrays) for arrays in found}) == 1


def _same(taps):
    return ((taps // 2, taps // 2),) * 2


@pytest.mark.parametrize(
    ("size", "kernel", "c", "k", "groups", "images", "lanes", "expected"),
    [
        (55, (11, 4), 3, 96, 1, 128, 16, True),  # the paper's layers
        (27, (5, 1), 96, 256, 2, 128, 16, False),  # a BLAS is faster
        (27, (5, 1), 96, 256, 2, 8, 16, True),
        (13, (3, 1), 256, 384, 1, 128, 16, True),
        (13, (3, 1), 256, 384, 1, 128, 8, False),
        (13, (3, 1), 256, 384, 1, 16, 8, True),
        (13, (3, 1), 384, 384, 2, 128, 16, True),
        (6, (3, 1), 192, 192, 2, 32, 16, False),  # 96 channels fill three quarters of two panels
        (13, (3, 1), 256, 24, 1, 128, 16, False),  # not whole vectors of channels
        (13, (3, 1), 16, 64, 1, 128, 16, False),  # panels would be empty for the most part
        (224, (3, 1), 64, 64, 1, 16, 16, False),  # an image's tiles would not stay in the cache
        (13, (4, 1), 256, 384, 1, 128, 16, False),
    ],
)
def test_where_panels_are_used(monkeypatch, size, kernel, c, k, groups, images, lanes, expected):
    most = {3: 2**31 if lanes == 16 else 16, 5: 8}
    monkeypatch.setattr(winograd_panels, "_MOST", most)
    r, stride = kernel
    shape = (r, r, c // groups, k)
    assert winograd_panels.suitable(images, shape, (size, size), stride, groups) == expected


@pytest.mark.parametrize(
    ("size", "kernel", "c", "k", "groups", "images", "expected"),
    [
        (227, (11, 4), 3, 96, 1, 1, True),  # the paper's layers
        (27, (5, 1), 96, 256, 2, 1, True),
        (13, (3, 1), 256, 384, 1, 1, True),
        (13, (3, 1), 256, 384, 1, 4, True),
        (13, (3, 1), 256, 384, 1, 5, False),  # more than a few
        (4, (3, 1), 256, 384, 1, 1, False),  # half of each tile would be outside the image
        (13, (3, 1), 256, 24, 1, 1, False),  # not whole vectors of channels
        (13, (1, 1), 256, 384, 1, 1, False),
    ],
)
def test_where_tiles_of_a_few_images_are_used(
    monkeypatch, size, kernel, c, k, groups, images, expected
):
    monkeypatch.setattr(vectors, "FUSED", True)
    (r, stride), b = kernel, backends.get("numba")
    pad = r // 2 if stride == 1 else 0
    output = output_shape((size, size), (r, r), (stride,) * 2, ((pad, pad),) * 2)
    shapes = (images, size, size, c), (r, r, c // groups, k), (k,)
    arrays = [np.empty(shape, np.float32) for shape in shapes]
    assert b.for_inference()._few(*arrays, output, (stride,) * 2, groups) == expected
    assert not b._few(*arrays, output, (stride,) * 2, groups)


@pytest.mark.parametrize("wide", [None, "x", "weight", "bias"])
@pytest.mark.parametrize("fused", [True, False])
def test_where_vectors_do_not_help_the_kernels_of_training_run(monkeypatch, fused, wide):
    """They read float32 alone, and a fused multiply-add that is no instruction takes ages."""
    b, ran = backends.get("numba").for_inference(), []
    monkeypatch.setattr(vectors, "FUSED", fused)
    monkeypatch.setattr(type(b), "_as_team", lambda *_: ran.append("vectors"))
    monkeypatch.setattr(type(b), "_run", lambda *_: ran.append("training's"))
    shapes = {"x": (1, 13, 13, 32), "weight": (3, 3, 32, 64), "bias": (64,)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    if wide:
        arrays[wide] = arrays[wide].astype(np.float64)
    wanted = "vectors" if fused and not wide else "training's"
    b.convolution(*arrays.values(), (1, 1), ((1, 1), (1, 1)), 1)
    arrays["weight"] = np.zeros((13 * 13 * 32, 64), arrays["weight"].dtype)
    b.dense(*arrays.values())
    assert len(ran) >= 2
    assert set(ran) == {wanted}


def test_what_numba_compiles_for_decides(monkeypatch):
    monkeypatch.setattr(numba.config, "CPU_FEATURES", "+avx2,+fma,-avx512f")
    assert vectors.has("fma")
    assert not vectors.has("avx512f")
    assert vectors._is_fused("x86_64")
    monkeypatch.setattr(numba.config, "CPU_FEATURES", "+avx2,-fma")
    assert not vectors._is_fused("x86_64")
    assert not vectors._is_fused("AMD64")
    assert vectors._is_fused("aarch64")
    monkeypatch.setattr(numba.config, "CPU_FEATURES", None)
    monkeypatch.setattr(numba.config, "ENABLE_AVX", 0)
    assert not vectors.has("avx512f")


_RESULTS = """
import hashlib
import numpy as np
from minialex import backends
from minialex.backends.numba import vectors

b, rng, found = backends.get("numba").for_inference(), np.random.default_rng(0), []

def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)

for n in (1, 2, 3, 4):
    for size, taps, stride, c, k, groups in (
        (57, 11, 4, 3, 96, 1), (27, 5, 1, 96, 256, 2), (13, 3, 1, 150, 80, 1)
    ):
        x, weight, bias = normal(n, size, size, c), normal(taps, taps, c // groups, k), normal(k)
        pads = ((taps // 2,) * 2,) * 2
        found.append(b.convolution(x, weight, bias, (stride,) * 2, pads, groups, relu=True))
    for inputs, units in ((300, 7), (300, 1030), (37, 24)):
        found.append(b.dense(normal(n, inputs), normal(inputs, units), normal(units)))
for inputs, units in ((1102, 24), (300, 1030)):
    weight = normal(inputs, units)
    found.append(b.dense(normal(9, inputs), weight, normal(units)))
    found.append(b.dense_input_gradient(normal(9, units), weight, (9, inputs)))
x, dy, same = normal(12, 13, 13, 64), normal(12, 13, 13, 96), ((1, 1), ((1, 1), (1, 1)), 1)
found.append(b.convolution(x, normal(3, 3, 64, 96), normal(96), *same))
found.append(b.convolution_weight_gradient(x, dy, (3, 3), *same))
print(vectors.LANES, hashlib.sha256(b"".join(y.tobytes() for y in found)).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(vectors.LANES != 16, reason="Numba does not compile for AVX-512 here")
def test_the_width_of_vectors_does_not_change_the_bits():
    features = get_host_cpu_features().split(",")
    wide = [feature for feature in features if "avx512" in feature or "avx10" in feature]
    others = ",".join(f.replace("+", "-") if f in wide else f for f in features)
    printed = []
    for changed in ({}, {"NUMBA_CPU_FEATURES": others}):
        ended = subprocess.run(
            [sys.executable, "-c", _RESULTS],
            capture_output=True,
            text=True,
            env={**os.environ, **changed},
        )
        assert ended.returncode == 0, ended.stderr
        printed.append(ended.stdout.split())
    assert [lanes for lanes, _ in printed] == ["16", "8"]
    assert len({bits for _, bits in printed}) == 1


def test_rounding_error_is_bounded():
    """The paper's third convolution, as in `test_convolution.py`."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(1, 13, 13, 256)), 0)
    weight, geometry = rng.normal(size=(3, 3, 256, 384)), ((1, 1), ((1, 1), (1, 1)), 1)
    wanted = EXACT.convolution(x, weight, None, *geometry)
    b, some = backends.get("numba").for_inference(), [a.astype(np.float32) for a in (x, weight)]
    error = b.convolution(*some, None, *geometry) - wanted
    assert np.sqrt(np.mean(error**2)) < 1e-5 * wanted.std()


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 300), st.sampled_from([1, 7, 512, 1030]), st.booleans())
def test_dense_layers_by_pieces_equal_the_product(n, inputs, units, relu):
    rng = np.random.default_rng(inputs)
    x, weight = rng.normal(size=(n, inputs)), rng.normal(size=(inputs, units))
    bias = rng.normal(size=units)
    wanted = EXACT.dense(x, weight, bias, relu)
    arrays = [array.astype(np.float32) for array in (x, weight, bias)]
    found = [
        backends.get("numba", threads=threads).for_inference().dense(*arrays, relu)
        for threads in COUNTS
    ]
    assert_close(found[0], wanted, "float32", inputs)
    assert len({y.tobytes() for y in found}) == 1


@settings(max_examples=30)
@given(
    st.tuples(*[st.integers(1, 9)] * 2),
    st.tuples(*[st.integers(1, 3)] * 4),
    st.tuples(*[st.integers(0, 2)] * 4),
)
def test_pooling_alone_gives_the_maxima_of_training(size, windows, pads):
    """Ties, infinities, NaN, and windows that are all padding included."""
    (h, w), (r, s, *stride), (top, bottom, left, right) = size, windows, pads
    assume(h + top + bottom >= r and w + left + right >= s)
    rng = np.random.default_rng(h)
    x = rng.integers(-3, 3, size=(2, h, w, 5)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    x[rng.random(x.shape) < 0.1] = -np.inf
    geometry = (r, s), tuple(stride), ((top, bottom), (left, right))
    b = backends.get("numba")
    wanted, _ = b.max_pool(x, *geometry)
    found, _ = b.for_inference().max_pool(x, *geometry)
    np.testing.assert_array_equal(found, wanted)


def test_normalisation_has_the_bits_of_training():
    x = np.random.default_rng(0).normal(size=(1, 9, 17, 32)).astype(np.float32)
    for b in (backends.get("numba"), backends.get("numba", threads=1)):
        wanted, _ = b.response_norm(x, 5, 2.0, 1.0, 0.75, 2)
        found, _ = b.for_inference().response_norm(x, 5, 2.0, 1.0, 0.75, 2)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("images", [1, 4])
def test_a_network_predicts_what_its_training_pass_computes(images):
    network = models.get("alexnet-64", classes=10).network
    b = backends.get("numba")
    params = network.init(b)
    x = np.random.default_rng(0).normal(size=(images, *network.input_shape)).astype(np.float32)
    wanted, _ = network.forward(b, params, x, Mode())
    assert_close(network.infer(b, params, x), wanted, "float32", 4096)
