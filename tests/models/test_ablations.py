"""The paper's ablations, on full and small networks: shapes, sizes, sums."""

import numpy as np
import pytest

from minialex import backends, models
from minialex.errors import InputError
from minialex.layers import Conv2D, Dropout, MaxPool, Mode, ReLU, Tanh
from minialex.models.ablations import compared

CHANGES = {
    "tanh": {"activation": "tanh"},
    "no norm": {"response_norm": False},
    "plain pooling": {"overlapping_pool": False},
    "no dropout": {"dropout": False},
    "half": {"half": True},
    "no communication": {"communication": False},
    **{f"without {i}": {"without": f"conv{i}"} for i in range(1, 6)},
}


def sizes(name, **options):
    return {row.name: row for row in models.get(name, **options).network.rows()}


def conv(kernel, inputs, channels):
    return kernel * kernel * inputs * channels + channels


# The dense layers of the full network, and each ablation computed by hand:
DENSE = 9216 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
WHOLE = [conv(11, 3, 96), conv(5, 48, 256), conv(3, 256, 384), conv(3, 192, 384), conv(3, 192, 256)]
COUNTS = {
    "tanh": sum(WHOLE) + DENSE,
    "no norm": sum(WHOLE) + DENSE,
    "plain pooling": sum(WHOLE) + DENSE,
    "no dropout": sum(WHOLE) + DENSE,
    "half": 59_798_312,  # published
    "no communication": conv(11, 3, 96)
    + conv(5, 48, 320)
    + conv(3, 160, 384)
    + conv(3, 192, 384)
    + conv(3, 192, 256)
    + 2 * (36 * 128 * 4096 + 4096 + 4096 * 2048 + 2048)
    + 4096 * 1000
    + 1000,
    "without 1": conv(11, 3, 256) + sum(WHOLE[2:]) + DENSE,
    "without 2": WHOLE[0] + conv(3, 96, 384) + sum(WHOLE[3:]) + DENSE,
    "without 3": sum(WHOLE[:2]) + conv(3, 128, 384) + WHOLE[4] + DENSE,
    "without 4": sum(WHOLE[:3]) + conv(3, 192, 256) + DENSE,
    "without 5": sum(WHOLE[:4]) + DENSE + 36 * 128 * 4096,  # 384 channels reach the dense layers
}


@pytest.mark.parametrize("name", ["alexnet", "alexnet-2012"])
@pytest.mark.parametrize("change", CHANGES)
def test_parameters_by_hand(name, change):
    assert models.get(name, **CHANGES[change]).network.parameter_count == COUNTS[change]


def test_half_of_alexnet_2012_matches_the_original():
    assert models.get("alexnet-2012", half=True).network == models.get("alexnet-half").network


def test_plain_pooling_of_alexnet_2012_has_the_originals_sizes():
    rows = sizes("alexnet-2012", overlapping_pool=False)
    sides = [rows[n].output_shape[0] for n in ("pool1", "conv2", "pool2", "conv5", "pool5")]
    assert sides == [28, 26, 13, 11, 6]


@pytest.mark.parametrize("name", ["alexnet", "alexnet-64", "cifar10"])
def test_plain_pooling_keeps_the_size_of_the_dense_input(name):
    rows, whole = sizes(name, overlapping_pool=False), sizes(name)
    last = "pool3" if name == "cifar10" else "pool5"
    assert rows[last].output_shape == whole[last].output_shape
    assert all(r.layer.window == r.layer.stride for r in rows.values() if "pool" in r.name)


def test_separate_towers_meet_only_in_the_classifier():
    """One tower's half of the first channels does not affect the other tower's features."""
    network = models.get("alexnet-64", 7, communication=False).network
    b = backends.get("numpy")
    params = network.init(b, seed=1, dtype="float64")
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3))
    before = network.until("relu7").infer(b, params, x)[:, 0, 0]
    params["conv1"]["weight"][..., :32] *= 1.5
    after = network.until("relu7").infer(b, params, x)[:, 0, 0]
    half = before.shape[1] // 2
    assert np.abs(after[:, :half] - before[:, :half]).max() > 1e-6
    assert np.array_equal(after[:, half:], before[:, half:])


SMALL = [("alexnet-64", change) for change in CHANGES]
SMALL += [("alexnet-128", "no communication")]
SMALL += [("cifar10", change) for change in CHANGES if change not in ("without 4", "without 5")]


@pytest.mark.parametrize(("name", "change"), SMALL)
def test_small_networks_have_every_ablation_and_learn(name, change):
    own = {"response_norm": True, "dropout": True} if name == "cifar10" else {}
    network = models.get(name, 5, **{**own, **CHANGES[change]}).network
    b = backends.get("numpy")
    params = network.init(b, seed=2)
    x = np.random.default_rng(1).normal(size=(2, *network.input_shape)).astype(np.float32)
    y, saved = network.forward(b, params, x, Mode(training=True))
    assert y.shape == (2, 5)
    grads = network.backward(b, params, saved, np.ones_like(y))
    assert {k: set(v) for k, v in grads.items()} == {k: set(v) for k, v in params.items()}
    assert network != models.get(name, 5, **own).network


def test_the_removed_layers():
    layers = dict(models.get("alexnet", without="conv2").network.layers)
    assert {"conv2", "relu2", "norm2"}.isdisjoint(layers)
    assert "pool2" in layers
    first = next(iter(models.get("alexnet", without="conv1").network.layers))
    assert first == ("conv2", Conv2D(256, 11, stride=4, rounding="ceil", bias=1.0))
    plain = models.get("alexnet", overlapping_pool=False, response_norm=False, dropout=False)
    kinds = {type(layer) for _, layer in plain.network.layers}
    assert Dropout not in kinds
    assert dict(plain.network.layers)["pool1"] == MaxPool(2, 2)
    tanh = {type(layer) for _, layer in models.get("alexnet", activation="tanh").network.layers}
    assert Tanh in tanh
    assert ReLU not in tanh


def test_cifar10_in_two_towers_with_normalisation():
    layers = dict(models.get("cifar10", towers=2, response_norm=True).network.layers)
    assert (layers["conv2"].groups, layers["norm1"].groups, layers["norm1"].n) == (2, 2, 9)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"without": "conv6"}, "unknown convolution 'conv6'"),
        ({"activation": "rlu"}, "did you mean 'relu'"),
        ({"half": True, "communication": False}, "one tower"),
        ({"halve": True}, "did you mean 'half'"),
    ],
)
def test_an_unknown_ablation_is_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        models.get("alexnet-64", **options)


def test_without_changes_the_network_is_the_same():
    network = models.get("alexnet").network
    assert compared(network) == network
