"""Fused layers give the same numbers as separate ones, on every backend."""

import tracemalloc

import numpy as np
import pytest

from minialex import backends
from minialex.layers import (
    Conv2D,
    Dense,
    Dropout,
    MaxPool,
    Mode,
    ReLU,
    ResponseNorm,
)
from minialex.models import AlexNet
from minialex.network import Network
from minialex.tree import leaves

LAYERS = (
    ("conv1", Conv2D(8, 3, pad=1, weight_std=0.3)),
    ("relu1", ReLU()),
    ("norm1", ResponseNorm(5, 2.0, 1e-2, 0.75)),
    ("pool1", MaxPool(3, 2)),
    ("fc2", Dense(12, weight_std=0.3, bias=0.1)),
    ("relu2", ReLU()),
    ("drop2", Dropout(0.6, inverted=True)),
    ("fc3", Dense(10, weight_std=0.3)),
    ("relu3", ReLU()),
    ("drop3", Dropout(0.5)),
    ("fc4", Dense(4, weight_std=0.3)),
)
NETWORK = Network(LAYERS, (9, 9, 3))


def run(stages, b, params, x, mode):
    """Output and gradients of these stages, for a dy that is the output."""
    saved, grads = [], {}
    y = x
    for stage in stages:
        y, kept = stage.forward(b, params, y, mode)
        saved.append((stage, kept))
    dy = y
    for stage, kept in reversed(saved):
        dy, own = stage.backward(b, params, kept, dy)
        grads[stage.name] = own
    return y, dy, {name: own for name, own in grads.items() if own}


@pytest.fixture(params=["numpy", "numba", "cupy"])
def b(request):
    return backends.get(request.param)


@pytest.fixture
def given(b):
    host = np.random.default_rng(0).normal(size=(5, *NETWORK.input_shape))
    params = NETWORK.init(backends.get("numpy"), 1, "float64")
    placed = {
        layer: {name: b.asarray(value, "float64") for name, value in of.items()}
        for layer, of in params.items()
    }
    return placed, b.asarray(host, "float64")


@pytest.mark.parametrize("training", [True, False])
def test_fused_and_unfused_layers_agree(b, given, training):
    params, x = given
    mode = Mode(training=training, seed=3, step=2)
    y, dx, ours = run(NETWORK.stages(training), b, params, x, mode)
    wanted, wanted_dx, theirs = run(NETWORK.stages(training, fused=False), b, params, x, mode)
    np.testing.assert_array_equal(b.to_numpy(y), b.to_numpy(wanted))
    np.testing.assert_array_equal(b.to_numpy(dx), b.to_numpy(wanted_dx))
    assert ours.keys() == theirs.keys() == params.keys()
    for layer, of in theirs.items():
        for name, value in of.items():
            np.testing.assert_array_equal(b.to_numpy(ours[layer][name]), b.to_numpy(value))
    y, saved = NETWORK.forward(b, params, x, mode)
    grads = NETWORK.backward(b, params, saved, y)
    for layer, name, value in leaves(grads):
        np.testing.assert_array_equal(b.to_numpy(value), b.to_numpy(ours[layer][name]))


def test_inference_saves_nothing_for_backward():
    """Its peak memory is far below that of training, which keeps all outputs."""
    b = backends.get("numpy")
    layers = [(f"relu{i}", ReLU()) for i in range(12)]
    network = Network(tuple(layers), (64, 64, 16))
    x = np.ones((8, 64, 64, 16))
    peaks = []
    for run in (network.infer, lambda *given: network.forward(*given, Mode())):
        tracemalloc.start()
        kept = run(b, {}, x)
        peaks.append(tracemalloc.get_traced_memory()[1] / x.nbytes)
        tracemalloc.stop()
        del kept
    inference, training = peaks
    assert inference < 4  # arrays of x's size: an input, an output, and what an op needs
    assert training > 10


def names(stages):
    return [" ".join(stage.names) for stage in stages]


def test_the_fused_layers():
    tail = ["fc3 relu3 drop3", "fc4"]
    training = ["conv1 relu1", "norm1 pool1", "fc2 relu2 drop2", *tail]
    assert names(NETWORK.stages(training=True)) == training
    tail = ["fc3 relu3", "drop3", "fc4"]
    assert names(NETWORK.stages()) == ["conv1 relu1", "norm1 pool1", "fc2 relu2", "drop2", *tail]
    assert names(NETWORK.stages(fused=False)) == [name for name, _ in LAYERS]
    assert len(AlexNet().stages(training=True)) == 11  # of 22 layers
    for stages in (NETWORK.stages(True), NETWORK.stages(), NETWORK.stages(fused=False)):
        assert [s.index for s in stages] == [
            [name for name, _ in LAYERS].index(s.name) for s in stages
        ]


def test_gradients_masked_by_the_next_stage():
    """A ReLU's mask moves to the convolution or normalisation after it, and only once."""
    layers = (
        ("conv1", Conv2D(4, 3, pad=1)),
        ("norm1", ResponseNorm()),
        ("relu1", ReLU()),  # alone: its mask goes to conv2, which has no ReLU
        ("conv2", Conv2D(4, 3, pad=1)),
        ("relu2", ReLU()),
        ("conv3", Conv2D(4, 3, pad=1)),
        ("relu3", ReLU()),
        ("pool3", MaxPool(2, 2)),
        ("fc4", Dense(3)),
    )
    stages = Network(layers, (8, 8, 3)).stages(training=True)
    kinds = [type(stage.layer).__name__ for stage in stages]
    assert kinds == [
        *("Conv2D", "ResponseNorm", "MaskedReLU", "ConvReLU", "ConvReLU", "MaxPool", "Dense")
    ]
    masks = [getattr(stage.layer, "masks_dx", False) for stage in stages]
    assert masks == [False, False, False, True, True, False, False]
    masked = [getattr(stage.layer, "dy_masked", False) for stage in stages]
    assert masked == [False, False, False, True, False, False, False]


def test_dropout_is_fused_only_where_it_draws(b, given, monkeypatch):
    params, x = given
    called = []
    fused = type(b).dense_relu_dropout
    monkeypatch.setattr(
        type(b), "dense_relu_dropout", lambda *a, **k: called.append(1) or fused(*a, **k)
    )
    NETWORK.forward(b, params, x, Mode(training=True))
    assert len(called) == 2
    NETWORK.forward(b, params, x, Mode())
    NETWORK.without_dropout().forward(b, params, x, Mode(training=True))
    NETWORK.until("relu2").forward(b, params, x, Mode(training=True))
    assert len(called) == 2


@pytest.mark.parametrize("stop", [name for name, _ in LAYERS])
def test_stopping_at_every_layer(b, given, stop):
    """A network cut off after a layer gives the whole network's output there, also at test time."""
    params, x = given
    position = [name for name, _ in LAYERS].index(stop)
    for training in (True, False):
        mode = Mode(training=training, seed=3)
        wanted = x
        for i, (name, layer) in enumerate(LAYERS[: position + 1]):
            at = Mode(training=training, seed=3, layer=i)
            wanted, _ = layer.forward(b, params.get(name, {}), wanted, at)
        found = NETWORK.until(stop).forward(b, params, x, mode)[0]
        np.testing.assert_array_equal(b.to_numpy(found), b.to_numpy(wanted))
    np.testing.assert_array_equal(
        b.to_numpy(NETWORK.until(stop).infer(b, params, x)), b.to_numpy(wanted)
    )
