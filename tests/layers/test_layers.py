"""One contract for every layer class, and each layer's own properties."""

import dataclasses

import numpy as np
import pytest
from helpers.standard import ELSEWHERE, Strict
from helpers.strategies import grid
from hypothesis import given
from hypothesis import strategies as st

from minialex import backends, layers
from minialex.errors import InputError
from minialex.layers import InitialDraw, Layer, Mode
from minialex.testing.gradients import check_layer
from minialex.testing.tolerance import assert_close
from reference import activations, dense, dropout, response_norm

b = backends.get("numpy")

# Hyper-parameters at which everything matters: α = 1, padding over half the kernel, groups,
# windows that overhang, strides beyond the window.
LAYERS = [
    (layers.Conv2D(6, 3, stride=2, pad=2, groups=2, rounding="ceil", weight_std=0.5), (7, 6, 4)),
    (layers.Conv2D(4, 5, pad=2, weight_std=0.5, bias=1.0), (5, 6, 3)),
    (layers.Conv2D(3, 2, stride=3, weight_std=0.5), (6, 8, 2)),
    (layers.Conv2D(3, 1, groups=3, weight_std=None), (1, 3, 3)),
    (layers.Dense(5, weight_std=0.5, bias=1.0), (3, 2, 4)),
    (layers.Dense(3, weight_std=None), (7,)),
    (layers.ReLU(), (4, 5, 3)),
    (layers.Tanh(), (4, 5, 3)),
    (layers.Sigmoid(), (4, 5, 3)),
    (layers.Dropout(0.5), (13,)),
    (layers.Dropout(0.7, inverted=True), (3, 2, 5)),
    (layers.ResponseNorm(5, 2.0, 1.0, 0.75), (3, 2, 8)),
    (layers.ResponseNorm(3, 1.0, 0.5, 0.6, groups=2), (2, 3, 6)),
    (layers.ResponseNorm(7, 1.0, 1.0, 0.75, groups=2), (2, 1, 4)),
    (layers.SpatialResponseNorm(5, 1.0, 1.0, 0.75), (4, 7, 2)),
    (layers.SpatialResponseNorm(3, 2.0, 0.4, 0.5), (1, 5, 3)),
    (layers.MaxPool(3, 2), (7, 6, 3)),
    (layers.MaxPool(2, 2, rounding="ceil"), (5, 7, 3)),
    (layers.MaxPool(3, 2, pad=1, rounding="ceil"), (5, 4, 2)),
    (layers.MaxPool(2, 3), (6, 8, 2)),
    (layers.AveragePool(3, 2, rounding="ceil"), (6, 7, 3)),
    (layers.AveragePool(3, 1, pad=2), (3, 4, 2)),
    (layers.AveragePool(3, 2, pad=1, rounding="ceil", count_pads=True), (6, 5, 2)),
    (layers.ChannelScale((0.5, -2.0, 3.0)), (4, 5, 3)),
    (layers.BatchNorm(epsilon=0.1), (4, 5, 3)),
    (layers.BatchNorm(epsilon=0.01), (7,)),
]
IDS = [f"{type(layer).__name__}-{i}" for i, (layer, _) in enumerate(LAYERS)]
every_layer = pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=IDS)
APART = [(name, *row) for name, row in zip(IDS, LAYERS, strict=True) if not row[0].statistics]


def test_the_contract_covers_every_layer():
    public = {getattr(layers, name) for name in layers.__all__}
    classes = {c for c in public if isinstance(c, type) and issubclass(c, Layer)} - {Layer}
    assert classes == {type(layer) for layer, _ in LAYERS}


@every_layer
@pytest.mark.parametrize("batch", [1, 3])
def test_gradient(layer, shape, batch):
    check_layer(layer, shape, b, batch=batch)


@every_layer
def test_a_layer_uses_only_the_array_api_standard(layer, shape):
    """So it runs on any array library, and its arrays stay on their device."""
    check_layer(layer, shape, Strict(ELSEWHERE))


@every_layer
def test_gradient_at_test_time(layer, shape):
    check_layer(layer, shape, b, mode=Mode())


@every_layer
def test_layers_compare_by_value(layer, shape):
    assert dataclasses.is_dataclass(layer)
    assert layer == dataclasses.replace(layer)
    assert hash(layer) == hash(dataclasses.replace(layer))
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.anything = 1


@every_layer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_and_dtypes_are_kept(layer, shape, dtype):
    params = layer.init(b, InitialDraw(0), shape, dtype)
    assert {k: v.shape for k, v in params.items()} == layer.parameter_shapes(shape)
    x = grid((2, *shape), 0).astype(dtype)
    for mode in (Mode(training=True), Mode()):
        before = x.copy()
        y, saved = layer.forward(b, params, x, mode)
        assert y.shape == (2, *layer.output_shape(shape))
        dx, grads = layer.backward(b, params, saved, np.ones_like(y))
        assert {a.dtype for a in (y, dx, *grads.values())} == {np.dtype(dtype)}
        assert {k: v.shape for k, v in grads.items()} == layer.parameter_shapes(shape)
        np.testing.assert_array_equal(x, before)  # the input belongs to the caller


@pytest.mark.parametrize(
    ("layer", "shape"), [row for _, *row in APART], ids=[name for name, *_ in APART]
)
def test_a_batch_in_parts_gives_the_same_result(layer, shape):
    """Also for dropout, whose mask depends on the image's position in the whole batch."""
    params = layer.init(b, InitialDraw(0), shape, "float64")
    x = grid((4, *shape), 0)
    whole, _ = layer.forward(b, params, x, Mode(training=True, seed=1))
    parts = [
        layer.forward(b, params, x[i : i + 2], Mode(training=True, seed=1, first_image=i))[0]
        for i in (0, 2)
    ]
    assert_close(np.concatenate(parts), whole, "float64", 100)


def test_the_first_layers_input_gradient_can_be_left_out():
    layer, shape = LAYERS[0]
    params = layer.init(b, InitialDraw(0), shape, "float64")
    y, saved = layer.forward(b, params, grid((2, *shape), 0), Mode())
    dx, grads = layer.backward(b, params, saved, y, input_gradient=False)
    assert dx is None
    assert set(grads) == {"weight", "bias"}


class _WrongSign(layers.ResponseNorm):
    def backward(self, b, params, saved, dy, *, input_gradient=True):
        norm = (self.n, self.k, -self.alpha, self.beta, self.groups)
        return b.response_norm_gradient(dy, saved, *norm), {}


class _NoBias(layers.Conv2D):
    def backward(self, b, params, saved, dy, *, input_gradient=True):
        dx, grads = super().backward(b, params, saved, dy)
        return dx, {**grads, "bias": 0 * grads["bias"]}


class _Unmasked(layers.ReLU):
    def backward(self, b, params, saved, dy, *, input_gradient=True):
        return dy, {}


class _Shifted(layers.MaxPool):
    def backward(self, b, params, saved, dy, *, input_gradient=True):
        dx, grads = super().backward(b, params, saved, dy)
        return np.roll(dx, 1, axis=2), grads


@pytest.mark.parametrize(
    ("broken", "shape"),
    [
        (_WrongSign(5, 2.0, 1.0, 0.75), (2, 2, 6)),
        (_NoBias(2, 3), (4, 4, 2)),
        (_Unmasked(), (3, 3, 2)),
        (_Shifted(), (5, 5, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_gradient_check_catches_a_planted_bug(broken, shape):
    with pytest.raises(AssertionError, match="backward gives"):
        check_layer(broken, shape, b)


@given(st.integers(0, 99))
def test_activations_and_dense_against_the_reference(seed):
    x, dy = grid((3, 4), seed), grid((3, 4), seed + 1)
    for layer, forward, gradient in (
        (layers.ReLU(), activations.relu, activations.relu_gradient),
        (layers.Tanh(), activations.tanh, activations.tanh_gradient),
        (layers.Sigmoid(), activations.sigmoid, activations.sigmoid_gradient),
    ):
        y, saved = layer.forward(b, {}, x, Mode())
        assert_close(y, forward(x), "float64")
        assert_close(layer.backward(b, {}, saved, dy)[0], gradient(x, dy), "float64")
    params = {"weight": grid((4, 2), seed), "bias": grid((2,), seed)}
    layer, dy = layers.Dense(2), grid((3, 2), seed)
    y, saved = layer.forward(b, params, x, Mode())
    assert_close(y, dense.forward(x, **params), "float64", 4)
    dx, grads = layer.backward(b, params, saved, dy)
    wanted = dense.gradients(x, params["weight"], dy)
    for one, other in zip((dx, grads["weight"], grads["bias"]), wanted, strict=True):
        assert_close(one, other, "float64", 4)


# ------------------------------------------------------------------------------------ each layer


@pytest.mark.parametrize("layer", [layers.ResponseNorm, layers.SpatialResponseNorm])
def test_an_even_window_is_refused(layer):
    with pytest.raises(InputError, match="n must be odd"):
        layer(n=4)


def test_response_norm_never_looks_across_towers():
    x = grid((1, 1, 1, 8), 0)
    changed = x.copy()
    changed[..., 4:] *= 3
    layer = layers.ResponseNorm(5, 2.0, 1.0, 0.75, groups=2)
    ours, theirs = (layer.forward(b, {}, a, Mode())[0] for a in (x, changed))
    np.testing.assert_array_equal(ours[..., :4], theirs[..., :4])
    whole = dataclasses.replace(layer, groups=1)
    assert not np.array_equal(
        whole.forward(b, {}, x, Mode())[0][..., :4],
        whole.forward(b, {}, changed, Mode())[0][..., :4],
    )


def test_caffes_and_pytorchs_alpha_is_divided_by_n():
    """Their α = n is our α = 1: they take the window's mean, we take its sum."""
    x = grid((2, 3, 3, 7), 0)
    y, _ = layers.ResponseNorm(5, 2.0, 1.0, 0.75).forward(b, {}, x, Mode())
    theirs_alpha, n = 5.0, 5
    wanted, _ = response_norm.forward(x, n, 2.0, theirs_alpha / n, 0.75, 1)
    assert_close(y, wanted, "float64", 5)
    wrong, _ = response_norm.forward(x, n, 2.0, theirs_alpha / n / n, 0.75, 1)
    assert np.abs(y - wrong).max() > 0.1


def test_dropout_follows_the_paper():
    x = np.ones((64, 1000))
    layer = layers.Dropout(0.5)
    y, _ = layer.forward(b, {}, x, Mode(training=True, seed=1))
    assert set(np.unique(y)) == {0.0, 1.0}
    assert abs(y.mean() - 0.5) < 0.01
    np.testing.assert_array_equal(layer.forward(b, {}, x, Mode())[0], 0.5 * x)
    inverted = layers.Dropout(0.5, inverted=True)
    y, _ = inverted.forward(b, {}, x, Mode(training=True, seed=1))
    assert set(np.unique(y)) == {0.0, 2.0}
    np.testing.assert_array_equal(inverted.forward(b, {}, x, Mode())[0], x)


def test_dropout_uses_the_references_counters():
    mode = Mode(training=True, seed=2**40 + 3, step=9, first_image=6, layer=4)
    y, _ = layers.Dropout(0.3).forward(b, {}, np.ones((3, 2, 3, 5)), mode)
    kept = dropout.mask((3, 30), 0.3, mode.seed, mode.layer, mode.step, mode.first_image)
    np.testing.assert_array_equal(y, kept.reshape(y.shape))


def test_dropout_differs_by_seed_step_layer_and_image():
    x = np.ones((2, 256))
    base = {"training": True, "seed": 1, "step": 2, "layer": 3, "first_image": 4}
    masks = [
        layers.Dropout(0.5).forward(b, {}, x, Mode(**{**base, **change}))[0]
        for change in ({}, {"seed": 2}, {"step": 3}, {"layer": 4}, {"first_image": 6})
    ]
    for i, one in enumerate(masks):
        assert all(not np.array_equal(one, other) for other in masks[i + 1 :])


def test_batch_norm_normalises_each_channel_of_the_batch():
    layer, shape = layers.BatchNorm(epsilon=1e-16), (2, 3, 4)
    params = layer.init(b, InitialDraw(0), shape, "float64")
    params |= {"weight": grid((4,), 1), "bias": grid((4,), 2)}
    x = 5 * grid((3, *shape), 0) + 2
    y, saved = layer.forward(b, params, x, Mode(training=True))
    assert_close(y.mean((0, 1, 2)), params["bias"], "float64", 18)
    assert_close(y.std((0, 1, 2)), np.abs(params["weight"]), "float64", 18)
    _, grads = layer.backward(b, params, saved, y)
    assert_close(grads["running_mean"], 3 * x.mean((0, 1, 2)), "float64", 18)
    assert_close(grads["running_variance"], 3 * x.var((0, 1, 2), ddof=1), "float64", 18)


def test_batch_norm_uses_its_running_statistics_at_test_time():
    params = {"weight": 2.0, "bias": 1.0, "running_mean": 3.0, "running_variance": 0.15}
    params = {name: np.array([value]) for name, value in params.items()}
    y, _ = layers.BatchNorm(epsilon=0.1).forward(b, params, np.array([[4.0], [3.5]]), Mode())
    np.testing.assert_allclose(y, [[5.0], [3.0]])


def test_initial_values():
    params = layers.Conv2D(96, 11, bias=1.0).init(b, InitialDraw(0), (227, 227, 3), "float32")
    assert params["weight"].std() == pytest.approx(0.01, rel=0.02)
    assert abs(params["weight"].mean()) < 2e-4
    assert (params["bias"] == 1).all()
    scaled = layers.Dense(400, weight_std=None).init(b, InitialDraw(0), (200,), "float64")
    assert scaled["weight"].std() == pytest.approx(0.1, rel=0.02)
    again = layers.Dense(400, weight_std=None).init(b, InitialDraw(0), (200,), "float64")
    np.testing.assert_array_equal(scaled["weight"], again["weight"])
    other = layers.Dense(400, weight_std=None).init(b, InitialDraw(0, 1), (200,), "float64")
    assert not np.array_equal(scaled["weight"], other["weight"])


# -------------------------------------------------------------------------------- output sizes


def ceil_rule(size, window, stride, pad):
    """cuda-convnet's rule, and Caffe's for pooling: the last window may overhang."""
    outputs = -(-(size + 2 * pad - window) // stride) + 1
    return outputs - 1 if (outputs - 1) * stride >= size + pad else outputs


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_both_output_size_rules(size, window, stride, pad):
    pad = min(pad, window - 1)
    if size + 2 * pad < window:
        return
    for rounding, wanted in (
        ("floor", (size + 2 * pad - window) // stride + 1),
        ("ceil", ceil_rule(size, window, stride, pad)),
    ):
        shape = layers.MaxPool(window, stride, pad, rounding).output_shape((size, size, 2))
        assert shape == (wanted, wanted, 2)
        shape = layers.Conv2D(4, window, stride, pad, rounding=rounding).output_shape(
            (size, size, 2)
        )
        assert shape == (wanted, wanted, 4)


def test_224_with_the_originals_edge_is_227_with_zeros():
    layer = layers.Conv2D(4, 11, stride=4, rounding="ceil")
    params = layer.init(b, InitialDraw(0), (224, 224, 3), "float64")
    x = grid((1, 224, 224, 3), 0)
    padded = np.pad(x, ((0, 0), (0, 3), (0, 3), (0, 0)))
    ours, theirs = (layer.forward(b, params, a, Mode())[0] for a in (x, padded))
    assert ours.shape == (1, 55, 55, 4)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: layers.Conv2D(5, 3, groups=2), "cannot be divided"),
        (lambda: layers.Conv2D(4, 3, groups=2).parameter_shapes((5, 5, 3)), "input channels"),
        (lambda: layers.Conv2D(4, 0), "at least 1"),
        (lambda: layers.Conv2D(4, 3, rounding="up"), "floor"),
        (lambda: layers.Conv2D(4, 9).output_shape((5, 5, 3)), "does not fit"),
        (lambda: layers.MaxPool(3, 2, pad=3), "pad less than the window"),
        (lambda: layers.MaxPool(3, 2).output_shape((100,)), "moves over images"),
        (lambda: layers.Dropout(0.0), "fraction in"),
        (lambda: layers.Dense(0), "at least one unit"),
        (lambda: layers.BatchNorm(epsilon=0.0), "greater than 0"),
        (lambda: layers.BatchNorm(keep=1.0), "less than 1"),
        (lambda: layers.ResponseNorm(groups=2).output_shape((4, 4, 3)), "divided into"),
    ],
)
def test_invalid_arguments_are_refused(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
