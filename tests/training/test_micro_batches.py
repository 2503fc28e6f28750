"""Micro-batches: the gradient of the whole batch, in fixed sums that do not see the machine."""

import numpy as np
import pytest
from helpers.tiny import photographs, register_tiny, tiny, tiny_bn
from safetensors.numpy import load_file

import minialex
from minialex import backends
from minialex.data.dataset import Splits
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.layers import Mode
from minialex.losses import SoftmaxCrossEntropy
from minialex.models.recipe import Recipe
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceGroup, SingleDevice
from minialex.training.micro_batches import MicroBatches
from minialex.training.step import TrainStep
from minialex.tree import leaves

BATCH = 10


def updated(devices, micro_batch, dtype="float64"):
    """{parameter: value} after a step with dropout on ten images."""
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(BATCH, 12, 12, 3)).astype(dtype), np.arange(BATCH) % 3
    sgd = SGD(Recipe(weight_decay=0.0))
    step = TrainStep(
        devices.network,
        devices,
        SoftmaxCrossEntropy(),
        sgd,
        seed=5,
        dtype=dtype,
        micro_batch=micro_batch,
    )
    state = step.init(seed=1)
    loss = step(state, batch, Rates(1.0, 1.0, 0.0))
    found = {(layer, name): devices.to_numpy(x) for layer, name, x in leaves(state.params)}
    return {"loss": loss, **found}


@pytest.mark.parametrize("micro_batch", [1, 3, 4, 16])
def test_the_sum_is_the_gradient_of_the_batch(micro_batch):
    network = tiny(3)
    wanted = updated(SingleDevice(network, backends.get("numpy")), None)
    for devices in (
        SingleDevice(network, backends.get("numpy")),
        DeviceGroup(network, [backends.get("numpy")] * 2, "towers"),
        DeviceGroup(network, [backends.get("numpy")] * 2, "data"),
    ):
        found = updated(devices, micro_batch)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12, err_msg=str(name))


@pytest.mark.parametrize("network", [tiny(3), tiny_bn(3)], ids=["lrn", "bn"])
@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_fixed_sums_have_the_same_bits_on_one_thread_and_on_two(name, network):
    if name == "numba" and backends.get(name).threads < 2:
        pytest.skip("one core")
    found = []
    for threads in (1, 2):
        b = backends.get(name, threads=threads).with_fixed_sums()
        found.append(updated(SingleDevice(network, b), 4, "float32"))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_batch_norm_averages_the_statistics_of_the_micro_batches():
    b, network = backends.get("numpy"), tiny_bn(3)
    conv, params = network.layers[0][1], network.init(b, 1, "float64")
    images = np.random.default_rng(0).normal(size=(BATCH, 12, 12, 3))  # as in `updated`
    y, _ = conv.forward(b, params["conv1"], images, Mode())
    for micro_batch in (4, None):
        found = updated(SingleDevice(network, b), micro_batch)
        parts = np.split(y, [4, 8]) if micro_batch else [y]  # the last one has two images
        means, variances = (
            sum(len(part) * of(part) for part in parts) / BATCH
            for of in (lambda x: x.mean((0, 1, 2)), lambda x: x.var((0, 1, 2), ddof=1))
        )
        np.testing.assert_allclose(found["bn1", "running_mean"], 0.1 * means, rtol=1e-9)
        np.testing.assert_allclose(found["bn1", "running_variance"], 0.9 + 0.1 * variances)


def test_batch_norm_is_not_split_over_devices():
    with pytest.raises(InputError, match="'bn1' normalises all images of a batch together"):
        updated(DeviceGroup(tiny_bn(3), [backends.get("numpy")] * 2, "data"), None)


class Unreadable:
    """A data set of which one image cannot be read."""

    def __init__(self, whole, bad):
        self.whole, self.bad = whole, bad

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def __len__(self):
        return len(self.whole)

    def image(self, index, size):
        if index in self.bad:
            raise InputError(f"image {index} is truncated")
        return self.whole.image(index, size)


def run(data, folder, **settings):
    settings = {"micro_batch": 4, "backend": "numpy", "report": False, **settings}
    result = minialex.train(
        data, out=folder, model="tiny", recipe="published", epochs=2, progress=False, **settings
    )
    return result, load_file(folder / "last.safetensors")


def test_a_run_stopped_within_an_epoch_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    register_tiny(monkeypatch)
    data = photographs(tmp_path / "data")
    whole, wanted = run(data, tmp_path / "whole")
    assert whole.history[-1]["step"] == 6  # 36 images, in batches of 16, 16 and 4
    run(data, tmp_path / "parts", max_steps=2)
    _, found = run(data, tmp_path / "parts", resume=True)
    assert wanted.keys() == found.keys()
    assert all(np.array_equal(wanted[name], found[name]) for name in wanted)
    with pytest.raises(InputError, match="micro_batch=4, not 2"):
        run(data, tmp_path / "parts", resume=True, micro_batch=2)


def test_with_unreadable_images_the_sum_is_over_the_others(tmp_path, monkeypatch):
    register_tiny(monkeypatch)
    whole = open_data(photographs(tmp_path / "data"))
    splits = Splits(Unreadable(whole.train, range(16)), whole.val)
    exact = {"dropout": False, "dtype": "float64"}
    result, found = run(splits, tmp_path / "run", micro_batch=1, **exact)
    assert [row["left_out"] for row in result.history] == [16, 16]
    _, wanted = run(splits, tmp_path / "at once", micro_batch=None, **exact)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


def test_what_follows_a_loss_that_is_not_finite_is_forgotten_whole():
    """A step that is not started any more counts as well: its images are trained on again."""
    sgd, devices = SGD(Recipe()), SingleDevice(tiny(3), backends.get("numpy"))
    step = TrainStep(devices.network, devices, SoftmaxCrossEntropy(), sgd)
    state = step.init(seed=1)
    batch = np.zeros((4, 12, 12, 3), "float32"), np.zeros(4, int)
    bad = np.full_like(batch[0], np.nan), batch[1]
    for one in (bad, batch):
        step.start(state, one, Rates(0.1, 0.1, 0.0))
    assert next(step.finished()).step == 0
    assert step.forget() == 4


def test_a_batch_without_a_readable_image_has_no_loss():
    sgd, devices = SGD(Recipe()), SingleDevice(tiny(3), backends.get("numpy"))
    step = TrainStep(devices.network, devices, SoftmaxCrossEntropy(), sgd, micro_batch=2)
    state = step.init(seed=1)
    assert np.isnan(step(state, MicroBatches(0, 2, 2, lambda: iter(())), Rates(0.1, 0.1, 0.0)))


def test_a_loss_that_is_not_finite_keeps_its_micro_batch(tmp_path, monkeypatch):
    register_tiny(monkeypatch)
    data = photographs(tmp_path / "data")
    with pytest.raises(minialex.TrainingError, match="not finite"):
        run(data, tmp_path / "run", lr=1e30)
    [path] = (tmp_path / "run").glob("nonfinite-step-*.npz")
    assert len(np.load(path)["labels"]) == 4
