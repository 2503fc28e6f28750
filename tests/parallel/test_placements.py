"""One device, towers, replicas and hybrids: the same loss, gradients and parameters."""

from dataclasses import dataclass

import numpy as np
import pytest
from helpers.steps import here
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minialex import backends, losses, parallel
from minialex.backends.cuda.device_stream import DeviceStream
from minialex.errors import InputError
from minialex.layers import (
    AveragePool,
    Conv2D,
    Dense,
    Dropout,
    MaxPool,
    Mode,
    ReLU,
    ResponseNorm,
    SpatialResponseNorm,
    Tanh,
)
from minialex.models.recipe import Recipe
from minialex.network import Network
from minialex.optim import SGD, Rates
from minialex.parallel import collectives, partition
from minialex.testing.tolerance import assert_close

RATES = Rates(0.05, 0.1, 0.0)
SGD_STEPS = 3


@st.composite
def networks(draw, groups=2):
    """A network with everything that can be split, and some layers that cannot."""
    norm = draw(
        st.sampled_from(
            [
                ResponseNorm(3, 1.0, 1.0, 0.75, groups=groups),
                ResponseNorm(5, 2.0, 0.5, 0.6),  # its window crosses from tower to tower
                SpatialResponseNorm(3, 1.0, 1.0, 0.75),
            ]
        )
    )
    pool = draw(st.sampled_from([MaxPool(3, 2), AveragePool(2, 2)]))
    act = draw(st.sampled_from([ReLU(), Tanh()]))
    c1, c2, c3 = (groups * draw(st.integers(1, 3)) for _ in range(3))
    layers = [
        ("conv1", Conv2D(c1, 3, stride=2, pad=1, weight_std=0.3)),
        ("act1", act),
        ("norm1", norm),
        ("pool1", pool),
        ("conv2", Conv2D(c2, 3, pad=1, groups=groups, weight_std=0.3, bias=0.5)),
        ("act2", act),
        ("drop2", Dropout(0.7, inverted=draw(st.booleans()))),
        ("conv3", Conv2D(c3, 3, pad=1, weight_std=0.3)),
        ("act3", act),
        ("fc4", Dense(draw(st.integers(3, 9)), weight_std=0.2, bias=0.3)),
        ("relu4", ReLU()),
        ("drop4", Dropout(0.5)),
        ("fc5", Dense(draw(st.integers(3, 5)), weight_std=0.3)),
    ]
    drop = draw(st.sets(st.sampled_from(["norm1", "pool1", "conv3", "act3", "drop2"])))
    return Network(tuple(pair for pair in layers if pair[0] not in drop), (11, 9, 3))


@dataclass
class Outcome:
    """The result of a few steps, unsharded, on the host."""

    losses: list[float]
    gradients: dict[str, np.ndarray]
    params: dict[str, np.ndarray]
    scores: np.ndarray


def flat(b, tree):
    return {
        f"{layer}.{name}": np.array(b.to_numpy(value))
        for layer, of_layer in tree.items()
        for name, value in of_layer.items()
    }


def run(network, batch, where, loss=None, steps=SGD_STEPS) -> Outcome:
    rng = np.random.default_rng(batch)
    images = rng.normal(size=(batch, *network.input_shape))
    labels = rng.integers(0, network.classes, batch)
    name, *rest = where
    b = parallel.open_devices(network, name, here(rest[0]) if rest else None, *rest[1:])
    params = b.to_devices(network.init(backends.get("numpy"), 3, "float64"))
    sgd, found = SGD(Recipe(weight_decay=0.01)), Outcome([], {}, {}, np.empty(0))
    velocities = sgd.start(b, params)

    def inputs(b, first, end):
        return b.asarray(images[first:end])

    for step in range(steps):
        mode = Mode(training=True, seed=2**40 + 5, step=step)
        value, grads = b.gradients(
            params, inputs, labels, loss or losses.SoftmaxCrossEntropy(), mode
        )
        found.losses.append(value())
        if step == 0:
            found.gradients = flat(b, grads)
        sgd.update(b, params, velocities, grads, RATES)
    found.params = flat(b, params)
    found.scores = b.infer(params, inputs, batch)
    return found


def divisible(network, where) -> bool:
    """Whether no layer has fewer outputs than there are devices."""
    try:
        partition.make(network, len(where[1]), where[2])
    except InputError as error:
        return "cannot be split" not in str(error)
    return True


def assert_same(ours: Outcome, theirs: Outcome) -> None:
    assert ours.gradients.keys() == theirs.gradients.keys()
    for name, value in theirs.gradients.items():
        assert_close(ours.gradients[name], value, "float64", 10_000, f"gradient of {name}")
        assert_close(ours.params[name], theirs.params[name], "float64", 10_000, name)
    assert_close(ours.losses, theirs.losses, "float64", 10_000, "losses")
    assert_close(ours.scores, theirs.scores, "float64", 10_000, "scores")


PLACES = [
    ("numpy", [0, 1], "towers"),
    ("numpy", [0, 1], "data"),
    ("numpy", [0, 1], "hybrid"),
    ("numpy", [0, 1, 2], "data"),
    ("cupy", [0, 1], "towers"),
    ("cupy", [0, 0], "towers"),
    ("cupy", [0, 1], "data"),
    ("cupy", [1, 0, 1], "hybrid"),
]


@pytest.mark.parametrize("where", PLACES, ids=lambda w: f"{w[0]}-{w[2]}-{w[1]}")
@settings(max_examples=12)
@given(network=networks(), batch=st.integers(1, 5))
def test_a_placement_changes_nothing(where, network, batch):
    assume(divisible(network, where))
    assert_same(run(network, batch, where), run(network, batch, ("numpy",)))


@pytest.mark.parametrize("devices", [[0, 1, 0, 1], [0, 1]])
@settings(max_examples=8)
@given(network=networks(groups=4), batch=st.integers(1, 4))
def test_four_groups_over_two_and_four_devices(devices, network, batch):
    where = ("cupy", devices, "towers")
    assume(divisible(network, where))
    assert_same(run(network, batch, where), run(network, batch, ("numpy",)))


NETWORK = Network(
    (
        ("conv1", Conv2D(8, 3, stride=2, weight_std=0.3)),
        ("relu1", ReLU()),
        ("conv2", Conv2D(8, 3, pad=1, groups=2, weight_std=0.3)),
        ("relu2", ReLU()),
        ("conv3", Conv2D(8, 3, pad=1, weight_std=0.3)),
        ("fc4", Dense(12, weight_std=0.2)),
        ("drop4", Dropout(0.5)),
        ("fc5", Dense(4, weight_std=0.3)),
    ),
    (11, 9, 3),
)


def test_the_hinge_loss_is_sharded_too():
    one = run(NETWORK, 5, ("numpy",), losses.Hinge())
    for scheme in partition.SCHEMES:
        assert_same(run(NETWORK, 5, ("cupy", [0, 1], scheme), losses.Hinge()), one)


def test_large_gradients_are_summed_in_parts(monkeypatch):
    """Each device owns a part of every gradient; here even of small ones."""
    monkeypatch.setattr(collectives, "_SMALL", 3)
    one = run(NETWORK, 5, ("numpy",))
    for devices in ([0, 1], [0, 1, 1]):
        assert_same(run(NETWORK, 5, ("cupy", devices, "data")), one)
        assert_same(run(NETWORK, 1, ("cupy", devices, "data")), run(NETWORK, 1, ("numpy",)))


def test_the_same_devices_give_the_same_bits():
    for scheme in partition.SCHEMES:
        one, two = (run(NETWORK, 5, ("cupy", [0, 1], scheme)) for _ in range(2))
        assert one.losses == two.losses
        for name in one.params:
            np.testing.assert_array_equal(one.params[name], two.params[name])


def test_replicas_stay_equal_to_the_bit():
    group = parallel.open_devices(NETWORK, "cupy", here([0, 1, 0]), "data")
    params = group.to_devices(NETWORK.init(backends.get("numpy"), 1))
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(5, 11, 9, 3)).astype("float32"), rng.integers(0, 4, 5)
    _, grads = group.gradients(
        params,
        lambda b, i, j: b.asarray(images[i:j]),
        labels,
        losses.SoftmaxCrossEntropy(),
        Mode(training=True),
    )
    sgd = SGD(Recipe())
    sgd.update(group, params, sgd.start(group, params), grads, RATES)
    for of_layer in params.values():
        for name, shards in of_layer.items():
            first, *others = (
                b.to_numpy(part[name]) for b, part in zip(group.backends, shards.parts, strict=True)
            )
            for other in others:
                np.testing.assert_array_equal(first, other)


@pytest.mark.standin
@pytest.mark.parametrize(
    ("method", "scheme"), [("wait", "towers"), ("wait", "data"), ("keep", "data")]
)
def test_a_missing_wait_is_detected(monkeypatch, method, scheme):
    """The stand-in's streams run late and in any order, and freed memory is overwritten."""

    def several_times():
        for _ in range(10):
            assert_same(run(NETWORK, 4, ("cupy", [0, 1], scheme)), one)

    one = run(NETWORK, 4, ("numpy",))
    several_times()
    monkeypatch.setattr(DeviceStream, method, lambda *arguments: None)
    with pytest.raises(AssertionError):
        several_times()


def test_parameters_survive_sharding():
    for devices in (1, 2, 3):
        for scheme in ("towers", "hybrid", "data") if devices < 3 else ("hybrid", "data"):
            made = partition.make(NETWORK, devices, scheme)
            whole = {
                layer: {
                    name: np.arange(np.prod(shape)).reshape(shape) + 0.5
                    for name, shape in shapes.items()
                }
                for layer, shapes in NETWORK.parameter_shapes().items()
            }
            joined = made.join([made.cut(whole, d) for d in range(devices)])
            for layer, of_layer in whole.items():
                for name, value in of_layer.items():
                    np.testing.assert_array_equal(joined[layer][name], value)


def test_the_default_is_towers_with_as_many_groups_as_devices():
    assert parallel.open_devices(NETWORK, "numpy", [0, 1]).plan.scheme == "towers"
    assert parallel.open_devices(NETWORK, "numpy", [0, 1, 2]).plan.scheme == "data"


def test_towers_exchange_only_what_they_need():
    """Convolution 2 stays in its tower; 3 and the dense layers sum over both."""
    made = partition.make(NETWORK, 2, "towers")
    terms = {name: len(parts[0].terms) for name, parts in made.partitions.items()}
    assert terms == {"conv1": 1, "conv2": 1, "conv3": 2, "fc4": 2, "fc5": 2}


def test_networks_that_cannot_be_split_are_refused():
    with pytest.raises(InputError, match="unknown parallel scheme 'tower'"):
        parallel.open_devices(NETWORK, "numpy", [0, 1], "tower")
    with pytest.raises(InputError, match="'conv2' cannot be split over 3 devices"):
        parallel.open_devices(NETWORK, "numpy", [0, 1, 2], "towers")
    with pytest.raises(InputError, match="no device was given"):
        parallel.open_devices(NETWORK, "numpy", [])
