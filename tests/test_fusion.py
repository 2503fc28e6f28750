"""Layers that a network runs as one: the same numbers as one after the other, on every backend."""

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
from minialex.network import Network

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


def see(name, x):
    """A watcher: with one, layers run one by one."""


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
def test_fused_and_one_by_one(b, given, training):
    params, x = given
    mode = Mode(training=training, seed=3, step=2)
    y, saved = NETWORK.forward(b, params, x, mode)
    wanted, kept = NETWORK.forward(b, params, x, mode, watch=see)
    np.testing.assert_array_equal(b.to_numpy(y), b.to_numpy(wanted))
    assert len(saved) == len(kept) == len(LAYERS)
    ours = NETWORK.backward(b, params, saved, y)
    theirs = NETWORK.backward(b, params, kept, y, watch=see)
    for layer, of in theirs.items():
        for name, value in of.items():
            np.testing.assert_array_equal(b.to_numpy(ours[layer][name]), b.to_numpy(value))


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
    NETWORK.forward(b, params, x, Mode(training=True), stop="relu2")
    assert len(called) == 2


@pytest.mark.parametrize("stop", [name for name, _ in LAYERS] + [None])
def test_every_place_to_stop(b, given, stop):
    """A network cut off behind a layer gives what the whole one gives there, at test time too."""
    params, x = given
    position = [name for name, _ in LAYERS].index(stop) if stop else len(LAYERS) - 1
    for training in (True, False):
        mode = Mode(training=training, seed=3)
        wanted = x
        for i, (name, layer) in enumerate(LAYERS[: position + 1]):
            at = Mode(training=training, seed=3, layer=i)
            wanted, _ = layer.forward(b, params.get(name, {}), wanted, at)
        found = NETWORK.forward(b, params, x, mode, stop=stop)[0]
        np.testing.assert_array_equal(b.to_numpy(found), b.to_numpy(wanted))
    np.testing.assert_array_equal(b.to_numpy(NETWORK.infer(b, params, x, stop)), b.to_numpy(wanted))
