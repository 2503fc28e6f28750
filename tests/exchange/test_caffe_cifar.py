"""Real networks trained by Caffe on CIFAR-10 have the same accuracy here, on every backend."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.caffe_files import blob

from minialex.data.dataset import Splits, subset
from minialex.data.sources.open import open_data
from minialex.data.statistics import measure
from minialex.errors import InputError
from minialex.exchange.read import read
from minialex.inference.classifier import from_portable
from minialex.inference.trained_model import TrainedModel
from minialex.layers import AveragePool, MaxPool, SpatialResponseNorm
from minialex.parallel import DeviceConfig
from minialex.training.train import train

FULL, QUICK = "cifar10_full_iter_10000", "cifar10_quick_iter_5000"
PUBLISHED = {FULL: 0.7266, QUICK: 0.7384}  # of all 5,000 images, by PyTorch and another reader
FIRST = {FULL: 0.710, QUICK: 0.700}  # of the first 500
COUNT = 500


@pytest.fixture(scope="module")
def cifar(shared_data):
    folder = shared_data / "cifar-10-batches-bin"
    if not folder.is_dir() or not (shared_data / "caffe_cifar10").is_dir():
        pytest.skip(f"no CIFAR-10 and networks of Caffe's in {shared_data}")
    return folder


@pytest.fixture(scope="module")
def images(cifar):
    """The first test images, and their labels."""
    val = open_data(cifar).val
    return np.stack([val.image(i, 32) for i in range(COUNT)]), val.labels[:COUNT]


@pytest.fixture(scope="module")
def portable(cifar, tmp_path_factory):
    """A network by its file's name, with the mean image of the training images in Caffe's file."""
    models = {}
    image = measure(open_data(cifar).train, 32).mean
    mean = tmp_path_factory.mktemp("caffe") / "mean.binaryproto"
    mean.write_bytes(blob(image.transpose(2, 0, 1)[None], old=True))
    for name in PUBLISHED:
        path = cifar.parent / "caffe_cifar10" / f"{name}.caffemodel"
        models[name] = read(path, mean=mean)
    return models


def right(found, images, backend="numba", network=None, params=None):
    """The share of images whose class is the most probable."""
    network = network or found.model.network
    devices = DeviceConfig(backend).open(network)
    placed = devices.to_devices(params or found.params)
    model = TrainedModel(network, placed, found.preprocessing, devices)
    return float((model.probabilities(images[0]).argmax(1) == images[1]).mean())


def with_layers(network, change):
    kept = ((name, change(layer)) for name, layer in network.layers)
    return replace(network, layers=tuple((n, layer) for n, layer in kept if layer is not None))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_first_images_are_classified_correctly(portable, images, name):
    assert right(portable[name], images) == pytest.approx(FIRST[name], abs=0.003)


@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_backends_agree(portable, images, backend):
    few = images[0][:12]
    found = []
    for each in (backend, "numba"):
        model = from_portable(portable[FULL], DeviceConfig(each)).trained
        found.append(model.scores(few, (0, 0, False)))
    np.testing.assert_allclose(*found, atol=1e-4 * np.abs(found[1]).max())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numpy", "numba", "cupy"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_accuracy(portable, cifar, name, backend):
    """All 5,000 images: minutes on the CUDA stand-in."""
    found = from_portable(portable[name], DeviceConfig(backend)).evaluate(cifar)
    assert 1 - found.top1_error == pytest.approx(PUBLISHED[name], abs=0.003)


def _chw(params):
    """Dense inputs in C H W order, as in Caffe."""
    weight = params["ip1"]["weight"]
    size = int((len(weight) / 64) ** 0.5)
    moved = weight.reshape(size, size, 64, -1).transpose(2, 0, 1, 3).reshape(weight.shape)
    return {**params, "ip1": {**params["ip1"], "weight": moved}}


def _blue_first(params):
    return {**params, "conv1": {**params["conv1"], "weight": params["conv1"]["weight"][:, :, ::-1]}}


@pytest.mark.parametrize("name", PUBLISHED)
def test_common_porting_mistakes_cost_ten_points(portable, images, name):
    """So the accuracy proves that none of these mistakes is made here."""
    found = portable[name]
    network, params = found.model.network, found.params
    floor = with_layers(  # fits in its place, but pads
        network,
        lambda a: (
            replace(a, pad=1, rounding="floor") if isinstance(a, MaxPool | AveragePool) else a
        ),
    )
    bare = with_layers(network, lambda a: None if isinstance(a, SpatialResponseNorm) else a)
    wrong = {
        "colours": right(found, images, params=_blue_first(params)),
        "flatten order": right(found, images, params=_chw(params)),
        "pooling": right(found, images, network=floor),
    }
    if bare != network:
        wrong["normalisation"] = right(found, images, network=bare)
    assert max(wrong.values()) < FIRST[name] - 0.1, wrong


def test_a_solver_state_continues_at_its_loss(cifar, tmp_path):
    """0.9 on new images; from scratch it is 2.3, and takes thousands of steps."""
    data = open_data(cifar)
    few = Splits(subset(data.train, np.arange(200)), subset(data.val, np.arange(50)))
    run = train(
        few,
        out=tmp_path / "run",
        initial=cifar.parent / "caffe_cifar10" / "cifar10_quick_iter_4000.solverstate",
        lr=0.001,
        schedule="constant",
        weight_decay=0.004,
        batch_size=100,
        epochs=1,
        mirror=False,
        crops=False,
        backend="numba",
        progress=False,
    )
    [row] = run.history
    assert row["step"] == 4002
    assert row["train_loss"] < 1.1


def test_fine_tuned_to_fewer_classes(cifar, tmp_path):
    """Three of the ten classes, learnt in three passes over 90 images: chance is a third."""
    data, classes = open_data(cifar), (0, 1, 8)  # aeroplanes, cars, ships
    parts = []
    for part, count in ((data.train, 30), (data.val, 40)):
        chosen = np.concatenate([np.flatnonzero(part.labels == k)[:count] for k in classes])
        parts.append(_Three(subset(part, chosen), classes))
    run = train(
        Splits(*parts),
        out=tmp_path / "run",
        initial=cifar.parent / "caffe_cifar10" / f"{FULL}.caffemodel",
        replace_classifier=True,
        lr=0.001,
        schedule="constant",
        batch_size=20,
        epochs=3,
        crops=False,
        backend="numba",
        progress=False,
    )
    assert run.classifier.model.classes == 3
    assert run.history[-1]["val_top1_error"] < 0.45


class _Three:
    """A part of CIFAR-10 with the labels of three classes."""

    def __init__(self, part, classes):
        names = tuple(part.class_ids[k] for k in classes)
        self.name, self.layout, self.native_size = "three", "part of CIFAR-10", 32
        self.class_ids = self.class_names = names
        self.labels = np.searchsorted(classes, part.labels)
        self.part = part

    def __len__(self):
        return len(self.part)

    def image(self, index, size):
        return self.part.image(index, size)

    def describe(self, index):
        return self.part.describe(index)


def test_a_definition_for_deployment_does_not_hide_the_mean(shared_data):
    """It says nothing of what was subtracted from the images; the weights' file does."""
    folder = shared_data / "caffe_cifar10"
    weights = folder / "cifar10_quick_iter_5000.caffemodel"
    if not weights.is_file():
        pytest.skip(f"no networks of Caffe's in {shared_data}")
    for definition in (None, folder / "cifar10_quick.prototxt"):
        with pytest.raises(InputError, match="minus the mean image"):
            read(weights, definition=definition)
