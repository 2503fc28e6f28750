"""Running statistics: which parameters they are, who changes them, and who does not."""

from dataclasses import dataclass

import numpy as np
import pytest
from helpers.tiny import register_tiny, tiny_bn

import minialex
from minialex import backends
from minialex.errors import InputError
from minialex.layers import BatchNorm, Conv2D, Dense, Layer
from minialex.losses import SoftmaxCrossEntropy
from minialex.models.recipe import Recipe
from minialex.network import Network
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceGroup, SingleDevice
from minialex.training.step import TrainStep
from minialex.tree import flatten, map_tree
from minialex.utils import checkpoint

BACKEND = backends.get("numpy")


@dataclass(frozen=True)
class Shift(Layer):
    """A user's layer: y = x + running_mean, which is learnt."""

    def output_shape(self, input_shape):
        return input_shape

    def parameter_shapes(self, input_shape):
        return {"running_mean": input_shape[-1:]}

    def init(self, b, draw, input_shape, dtype):
        shapes = self.parameter_shapes(input_shape)
        return {name: b.asarray(np.zeros(shape, dtype)) for name, shape in shapes.items()}

    def forward(self, b, params, x, mode):
        return x + params["running_mean"], None

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        return dy, {"running_mean": b.bias_gradient(dy)}


@dataclass(frozen=True)
class Identity(Layer):
    """y = x."""

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, b, params, x, mode):
        return x, None

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        return dy, {}


@dataclass(frozen=True)
class Centre(Shift):
    """y = x less its mean over the images; at test time, less the average of past means."""

    statistics = ("average",)
    keep: float = 0.75

    def parameter_shapes(self, input_shape):
        return {"average": input_shape[-1:]}

    def forward(self, b, params, x, mode):
        mean = x.mean(tuple(range(x.ndim - 1))) if mode.training else params["average"]
        return x - mean, (len(x), mean, mode.training)

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        images, mean, training = saved
        dx = dy - dy.mean(tuple(range(dy.ndim - 1))) if training else dy
        return dx, {"average": images * mean}


def network(layer):
    layers = (("conv1", Conv2D(4, 3, weight_std=0.1)), ("own", layer), ("fc2", Dense(3)))
    return Network(layers, (6, 6, 3))


def step(net, devices, layer_rates=None, batch_size=None):
    """-> the host parameters before and after a step of 4 images, and its slots."""
    sgd = SGD(Recipe(layer_rates=layer_rates or {}))
    more = {"dtype": "float64", "batch_size": batch_size}
    trained = TrainStep(net, devices, SoftmaxCrossEntropy(), sgd, **more)
    state = trained.init(1)
    before = map_tree(np.copy, state.params)
    images = 1 + np.random.default_rng(0).normal(size=(4, 6, 6, 3))
    trained(state, (images, np.arange(4) % 3), Rates(0.1, 0.1, 0.0))
    return before, state


def test_only_declared_parameters_are_statistics():
    net = network(Shift())
    _, state = step(net, SingleDevice(net, BACKEND))
    assert np.abs(state.params["own"]["running_mean"]).min() > 0
    assert net.parameter_count == sum(x.size for of in state.params.values() for x in of.values())
    DeviceGroup(net, [BACKEND] * 2, "data")


def test_a_users_layer_can_keep_statistics():
    net = network(Centre())
    before, state = step(net, SingleDevice(net, BACKEND))
    images = 1 + np.random.default_rng(0).normal(size=(4, 6, 6, 3))
    means = net.until("conv1").infer(BACKEND, before, images).mean((0, 1, 2))
    np.testing.assert_allclose(state.params["own"]["average"], 0.25 * means, rtol=1e-12)
    assert net.parameter_count == network(Shift()).parameter_count - 4
    with pytest.raises(InputError, match="'own' normalises all images of a batch together"):
        step(net, DeviceGroup(net, [BACKEND] * 2, "data"))


def test_a_smaller_last_batch_counts_in_proportion():
    net = network(Centre())
    devices = SingleDevice(net, BACKEND)
    whole, half = (step(net, devices, batch_size=n)[1].params["own"]["average"] for n in (4, 8))
    np.testing.assert_allclose(half, whole / 2, rtol=1e-12)


def test_a_layer_at_rate_0_uses_and_keeps_its_statistics():
    net = network(Centre())
    _, state = step(net, SingleDevice(net, BACKEND), {"own": 0.0})
    assert not state.params["own"]["average"].any()  # so the layer changes nothing
    unchanged = Network((net.layers[0], ("own", Identity()), net.layers[2]), net.input_shape)
    _, wanted = step(unchanged, SingleDevice(unchanged, BACKEND))
    for layer in ("conv1", "fc2"):
        np.testing.assert_array_equal(state.params[layer]["weight"], wanted.params[layer]["weight"])
    net = network(BatchNorm())
    before, state = step(net, SingleDevice(net, BACKEND), {"own": 0.0})
    for name, value in before["own"].items():
        np.testing.assert_array_equal(state.params["own"][name], value)


def test_test_images_can_be_split_over_devices():
    net = tiny_bn(3)
    params = net.init(BACKEND, 1, "float64")
    params["bn1"] |= {"running_mean": np.full(4, 0.3), "running_variance": np.full(4, 0.2)}
    images = np.random.default_rng(0).normal(size=(5, 12, 12, 3))
    found = []
    for devices in (SingleDevice(net, BACKEND), DeviceGroup(net, [BACKEND] * 2)):
        given = devices.to_devices(params)
        found.append(devices.infer(given, lambda b, low, high: b.asarray(images[low:high]), 5))
    np.testing.assert_allclose(*found, rtol=1e-12)
    with pytest.raises(InputError, match=r"'bn1' cannot be split over 2 .* parallel=\"data\""):
        DeviceGroup(net, [BACKEND] * 2, "towers")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"average_epochs": 2}, "running statistics of bn1 do not fit averaged weights"),
        ({"devices": [0, 1]}, "'bn1' normalises all images of a batch together"),
    ],
)
def test_runs_that_are_refused_before_they_start(tmp_path, monkeypatch, setting, sentence):
    register_tiny(monkeypatch)
    settings = {"model": "tiny-bn", "backend": "numpy", "progress": False, "out": tmp_path / "run"}
    with pytest.raises(InputError, match=sentence):
        minialex.train("shapes:48", **settings, **setting)
    assert not (tmp_path / "run").exists()


def test_statistics_have_no_velocities_and_older_checkpoints_load(tmp_path, monkeypatch):
    register_tiny(monkeypatch)
    settings = {"model": "tiny-bn", "recipe": "published", "backend": "numpy", "progress": False}
    run = minialex.train("shapes:48", **settings, epochs=1, out=tmp_path, max_steps=1)
    tensors, described = checkpoint.load(tmp_path / "last.safetensors")
    shapes = run.classifier.model.network.trainable(run.classifier.params)
    names = {name for name in tensors if name.startswith("velocity.")}
    assert names == set(flatten(shapes, "velocity."))
    zeros = {f"velocity.{n}": np.zeros_like(tensors[n]) for n in tensors if "running" in n}
    described.pop("format")
    checkpoint.save(tmp_path / "last.safetensors", tensors | zeros, described)  # as before
    assert len(minialex.train(resume=tmp_path, progress=False).history) == 1
