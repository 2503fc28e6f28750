"""A training step on CUDA: what it computes, what it copies, and its memory."""

import cuda_on_cpu
import numpy as np
import pytest
from helpers.slim import narrow, slim
from helpers.steps import step_of, step_peak
from helpers.strategies import grid
from helpers.tiny import tiny_bn

from minialex import backends, models, parallel
from minialex.backends.base import Backend
from minialex.losses import SoftmaxCrossEntropy
from minialex.models.recipe import Recipe
from minialex.optim import LARS, SGD, Adam, Rates
from minialex.parallel import SingleDevice
from minialex.testing.tolerance import assert_close
from minialex.training.step import TrainStep
from minialex.tree import leaves, map_tree


@pytest.mark.parametrize("units", [256, pytest.param(4096, marks=pytest.mark.slow)])
def test_a_step_of_the_whole_network_agrees(units):
    network = narrow(models.get("alexnet", 10).network, units)
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
    network = slim(models.get("cifar10", 10).network, 4)
    values = []
    for name in ("numpy", "cupy"):
        step, _ = step_of(network, SingleDevice(network, backends.get(name)), 6, "float64")
        values.append([step(i)() for i in range(10)])
    np.testing.assert_allclose(values[1], values[0], rtol=1e-9)


def test_steps_with_batch_norm_agree_op_by_op():
    """Each step averages its statistics into the running ones, which a compiled step would not."""
    network, found = tiny_bn(3), []
    batch = grid((6, *network.input_shape), 0).astype("float32"), np.arange(6) % 3
    for name in ("numpy", "cupy"):
        devices = SingleDevice(network, backends.get(name))
        own = {"seed": 3, "batch_size": 6}
        step = TrainStep(network, devices, SoftmaxCrossEntropy(), SGD(Recipe()), **own)
        state = step.init(1)
        losses = [step(state, batch, Rates(0.1, 0.1, 0.0)) for _ in range(3)]
        found.append((losses, map_tree(devices.to_numpy, state.params)))
    (theirs, wanted), (ours, params) = found
    assert ours == pytest.approx(theirs, rel=1e-5)
    for layer, name, value in leaves(wanted):
        assert_close(params[layer][name], value, "float32", 3000, f"{layer}.{name}")


@pytest.mark.parametrize("optimizer", [Adam, LARS, SGD])
def test_a_step_that_overflows_changes_nothing(optimizer):
    """Not even the number of updates, by which Adam corrects its means."""
    network = tiny_bn(3).without_dropout()
    devices = SingleDevice(network, backends.get("cupy", precision="fp16"))
    batch = grid((6, *network.input_shape), 0).astype("float32"), np.arange(6) % 3
    step = TrainStep(network, devices, SoftmaxCrossEntropy(), optimizer(Recipe()))
    found = []
    for overflows in (0, 3):
        state = step.init(1)
        before = _bits(devices, state)
        state.loss_scale = 2.0**60  # far beyond float16
        for _ in range(overflows):
            step(state, batch, Rates(0.1, 0.1, 0.0))
            assert _bits(devices, state) == before
        assert (state.skipped, state.updates) == (overflows, 0)
        state.loss_scale, state.good_steps = 2.0**10, 0
        for _ in range(2):
            step(state, batch, Rates(0.1, 0.1, 0.0))
        assert (state.step, state.updates) == (overflows + 2, 2)
        found.append(_bits(devices, state))
    assert found[0] == found[1] != before


def _bits(devices, state):
    trees = state.params, *state.slots.values()
    return [devices.to_numpy(x).tobytes() for tree in trees for *_, x in leaves(tree)]


@pytest.mark.standin
@pytest.mark.parametrize(
    ("devices", "scheme"), [(0, None), ([0, 1], None), ([0, 1], "data"), ([0, 1], "hybrid")]
)
def test_a_step_copies_back_only_the_loss(devices, scheme):
    """Only the images, their crop positions and the labels are copied to the device."""
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
def test_batch_128_fits_in_the_memory_of_a_gtx_580(precision):
    """3 GB (paper, section 3.2), on one device, and in half of it on two."""
    network = models.get("alexnet").network
    one, two = (step_peak(network, devices, precision, 128) for devices in (0, [0, 1]))
    print(f"{precision}: {one / 1e9:.3f} GB on one device, {two / 1e9:.3f} GB on each of two")
    assert one < 1.5e9
    assert two < 0.9e9
