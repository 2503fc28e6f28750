"""Convolution by several threads and by Winograd tiles."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minialex import backends
from minialex.backends.numba import backend, winograd_panels
from minialex.backends.numba import convolution as convolution_by_tiles
from minialex.testing.tolerance import assert_close
from reference import convolution

MOST = backends.get("numba").threads


def test_one_and_several_threads_agree():
    if MOST < 2:
        pytest.skip("this process may use one core only")
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, 9, 8, 4)), rng.normal(size=(3, 3, 2, 6))
    geometry = ((1, 2), ((1, 1), (0, 2)), 2)
    one, several = (backends.get("numba", threads=count) for count in (1, 2))
    y = one.convolution(x, w, None, *geometry)
    assert_close(several.convolution(x, w, None, *geometry), y, "float64", 18)
    dw = one.convolution_weight_gradient(x, y, (3, 3), *geometry)
    assert_close(several.convolution_weight_gradient(x, y, (3, 3), *geometry), dw, "float64", 300)


@settings(max_examples=30)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from([(1, 37), (4, 40), (3, 5)]),
    st.booleans(),
    st.integers(1, min(3, MOST)),
    st.integers(3, 9),
)
def test_threads_divide_the_channels_of_one_image(size, channels, relu, threads_used, block):
    """More channels than rows, in blocks of a few rows; the last pair of channels has fewer."""
    (h, w), (c, k) = size, channels
    rng = np.random.default_rng(h + 10 * w)
    x, weight, bias = (
        rng.normal(size=s).astype(np.float32) for s in ((1, h, w, c), (3, 3, c, k), (k,))
    )
    geometry = ((1, 1), ((1, 1), (1, 1)), 1)
    b = backends.get("numba", threads=threads_used)
    assert b._parts(1, h * w, k, 1) == (threads_used if k > h * w else 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution_by_tiles, "_ROWS", block)
        y = b.convolution(x, weight, bias, *geometry, relu=relu)
    wanted = convolution.forward(x, weight, bias, *geometry)
    assert_close(y, np.maximum(wanted, 0) if relu else wanted, "float32", 9 * c)


# in float64 the same code is compiled once more, for longer than most tests take
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@settings(max_examples=40)
@given(
    st.integers(1, 3),
    st.sampled_from([(3, 1), (4, 1), (5, 1), (6, 2), (7, 2), (11, 4)]),
    st.tuples(st.integers(1, 15), st.integers(1, 15)),
    st.tuples(*[st.integers(0, 5)] * 4),
    st.sampled_from([(1, 1, 1), (2, 3, 1), (4, 2, 2), (6, 9, 3)]),
    st.booleans(),
    st.integers(1, min(3, MOST)),
)
def test_winograd_tiles_equal_the_convolution(
    dtype, n, kernel, size, pads, channels, relu, threads_used
):
    """Winograd tiles against the reference's loops: forward and both gradients."""
    (taps, stride), (top, bottom, left, right) = kernel, pads
    (h, w), (c, k, groups) = size, channels
    assume(h + top + bottom >= taps and w + left + right >= taps)
    rng = np.random.default_rng(h + w)
    x, weight = rng.normal(size=(n, h, w, c)), rng.normal(size=(taps, taps, c // groups, k))
    bias, geometry = rng.normal(size=k), ((stride,) * 2, ((top, bottom), (left, right)), groups)
    wanted = convolution.forward(x, weight, bias, *geometry)
    dy = rng.normal(size=wanted.shape)
    b = backends.get("numba", threads=threads_used)
    arrays = [array.astype(dtype) for array in (x, weight, bias, dy)]
    with by_tiles():
        y = b.convolution(*arrays[:3], *geometry, relu=relu)
        dx = b.convolution_input_gradient(arrays[3], arrays[1], x.shape, *geometry)
        dw = b.convolution_weight_gradient(arrays[0], arrays[3], (taps, taps), *geometry)
    assert_close(y, np.maximum(wanted, 0) if relu else wanted, dtype, taps * taps * c, "y")
    wanted = convolution.input_gradient(dy, weight, x.shape, *geometry)
    assert_close(dx, wanted, dtype, taps * taps * k, "dx")
    wanted = convolution.weight_gradient(x, dy, (taps, taps), *geometry)
    assert_close(dw, wanted, dtype, dy[..., 0].size, "dw")


@contextmanager
def by_tiles():
    """Tiles wherever possible, in several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.NumbaBackend, "_by_tiles", lambda *_: True)
        patch.setattr(convolution_by_tiles, "_TOGETHER", 4)
        yield


@pytest.mark.parametrize("panels", [True, False])
@pytest.mark.parametrize("shape", [(27, 96, 256, 5, 2), (13, 256, 384, 3, 1)])
def test_rounding_error_of_winograd_tiles_is_bounded(monkeypatch, shape, panels):
    """The paper's layers: under 1e-5 of the outputs' standard deviation; plain sums have 3e-7."""
    monkeypatch.setattr(winograd_panels, "suitable", lambda *_: panels)
    extent, c, k, taps, groups = shape
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(8, extent, extent, c)), 0)
    weight, dy = rng.normal(size=(taps, taps, c // groups, k)), rng.normal(size=(*x.shape[:3], k))
    geometry = ((1, 1), ((taps // 2, taps // 2),) * 2, groups)
    results = []
    for name, dtype in (("numpy", "float64"), ("numba", "float32")):
        b = backends.get(name)
        some = [array.astype(dtype) for array in (x, weight, dy)]
        if name == "numba":
            assert b._by_tiles(8, weight.shape, x.shape[1:3], (1, 1), groups)
        results.append(
            (
                b.convolution(some[0], some[1], None, *geometry),
                b.convolution_input_gradient(some[2], some[1], x.shape, *geometry),
                b.convolution_weight_gradient(some[0], some[2], (taps, taps), *geometry),
            )
        )
    for wanted, found in zip(*results, strict=True):
        assert np.sqrt(np.mean((found - wanted) ** 2)) < 1e-5 * wanted.std()


@pytest.mark.parametrize(("taps", "most"), [(3, 100), (5, 81)])
@settings(max_examples=15)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(0, 18), st.integers(0, 18)),
    st.floats(1e2, 1e12),
    st.booleans(),
)
def test_an_outlier_spoils_little_beyond_the_outputs_that_see_it(taps, most, seed, at, x_max, few):
    """An input X: errors under 6e-5 X with weights of deviation 1, and none a tile's width away.

    An infinite one: the outputs of the tiles that see it are not finite, `most` pixels at most.
    """
    rng, (h, w) = np.random.default_rng(seed), at
    x, weight = rng.normal(size=(1, 19, 19, 4)), rng.normal(size=(taps, taps, 4, 16))
    x[0, h, w, rng.integers(4)] = x_max
    geometry = ((1, 1), ((taps // 2, taps // 2),) * 2, 1)
    b = backends.get("numba").for_inference() if few else backends.get("numba")
    distance = np.maximum(abs(np.arange(19)[:, None] - h), abs(np.arange(19) - w))
    with by_tiles(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd_panels, "worthwhile", lambda *_: True)
        y = b.convolution(x.astype(np.float32), weight.astype(np.float32), None, *geometry)
        x[0, h, w] = np.inf
        infinite = b.convolution(x.astype(np.float32), weight.astype(np.float32), None, *geometry)
    x[0, h, w] = 0  # outputs that do not see it are as without it
    error = abs(y - backends.get("numpy").convolution(x, weight, None, *geometry))[0].max(-1)
    assert error[distance > taps // 2].max(initial=0) < 6e-5 * x_max
    assert error[distance >= 7].max(initial=0) < 1e-3
    spoilt = ~np.isfinite(infinite)[0].all(-1)
    assert spoilt[distance <= taps // 2].all()
    assert spoilt.sum() <= most
    assert not spoilt[distance >= 7].any()


@pytest.mark.parametrize("inference", [True, False])
def test_exact_sums_see_only_their_own_inputs(inference):
    """One infinity spoils the nine outputs of its windows, and one large number only these."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 40, 40, 64)).astype(np.float32)
    w = rng.standard_normal((3, 3, 64, 64)).astype(np.float32)
    geometry = ((1, 1), ((1, 1), (1, 1)), 1)
    for precision, spoilt in (("fp32", range(10, 101)), ("exact", [9])):
        b = backends.get("numba", precision=precision)
        b = b.for_inference() if inference else b
        y = b.convolution(x, w, None, *geometry)
        for value in (np.inf, 1e12):
            given = x.copy()
            given[0, 20, 20, 0] = value
            changed = (b.convolution(given, w, None, *geometry) != y).any(axis=3)
            assert changed.sum() in spoilt
        dy = y.copy()
        dy[0, 20, 20, 0] = np.inf
        dx = b.convolution_input_gradient(dy, w, x.shape, *geometry)
        assert (~np.isfinite(dx)).any(axis=3).sum() in spoilt
        dw = b.convolution_weight_gradient(x, y, (3, 3), *geometry)
        wanted = backends.get("numpy").convolution_weight_gradient(
            x.astype(float), y.astype(float), (3, 3), *geometry
        )
        error = np.sqrt(np.mean((dw - wanted) ** 2)) / wanted.std()
        assert (error < 5e-7) == (precision == "exact")
