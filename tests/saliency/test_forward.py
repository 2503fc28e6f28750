"""Activations, occlusion, receptive fields, strongest images, and arithmetic, each by hand."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers.looking import CROP, LAYERS, SIZE, model_of
from helpers.noise import Noise

from minialex import backends, layers, models
from minialex.data.loading.loader import Loader
from minialex.errors import InputError
from minialex.inference.trained_model import TrainedModel, softmax
from minialex.layers import (
    AveragePool,
    BatchNorm,
    ChannelScale,
    Conv2D,
    Dense,
    Dropout,
    Layer,
    MaxPool,
    ReLU,
    ResponseNorm,
    Sigmoid,
    SpatialResponseNorm,
    Tanh,
)
from minialex.network import Network
from minialex.parallel import SingleDevice
from minialex.saliency import (
    Box,
    activations,
    arithmetic,
    occlusion,
    receptive_field,
    strongest,
    unit_occlusion,
)

EVERY = (  # one layer of each kind
    ("scale", ChannelScale((0.01, 0.02, -0.01))),
    ("conv1", Conv2D(4, 3, stride=2, pad=1, weight_std=0.5)),
    ("norm1", ResponseNorm(3, 1.0, 0.5, 0.75, groups=2)),
    ("pool1", MaxPool(3, 2, rounding="ceil", pad=1)),
    ("relu1", ReLU()),
    ("conv2", Conv2D(6, 2, pad=1, groups=2, weight_std=0.5, bias=0.1)),
    ("norm2", SpatialResponseNorm(3, 1.0, 0.5, 0.75)),
    ("pool2", AveragePool(3, 2, pad=1, count_pads=True)),
    ("tanh2", Tanh()),
    ("sigmoid2", Sigmoid()),
    ("fc3", Dense(5, weight_std=0.5, bias=0.2)),
    ("relu3", ReLU()),
    ("norm3", ResponseNorm(3, 1.0, 0.5, 0.75)),
    ("bn3", BatchNorm(epsilon=0.1)),
    ("drop3", Dropout()),
    ("fc4", Dense(3, weight_std=0.5)),
)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def test_activations_are_each_layers_own(image):
    model = model_of()
    found = activations(model, image[None])
    assert list(found) == [name for name, _ in LAYERS]
    b = model.devices.backend
    [view] = model.preprocessing.views(1)
    x = model.preprocessing.test_input(b, image[None], view, "float64")
    for name, y in found.items():
        np.testing.assert_allclose(y, model.network.until(name).infer(b, model.params, x))
    some = activations(model, image[None], ["fc4", "relu1"])
    assert list(some) == ["relu1", "fc4"]
    mirrored = activations(model, image[None], ["fc4"], view=(0, 2, True))["fc4"]
    np.testing.assert_allclose(mirrored, model.scores(image[None], (0, 2, True)))
    with pytest.raises(InputError, match="unknown layer 'relu9'"):
        activations(model, image[None], ["relu9"])


def test_occlusion_is_what_covering_by_hand_gives(image):
    model, label = model_of(), 1
    found = occlusion(model, image, label, window=4, stride=5)
    assert found.tops == found.lefts == (0, 5, 9)
    b = model.devices.backend
    [view] = model.preprocessing.views(1)
    x = model.preprocessing.test_input(b, image[None], view, "float64")

    def probability(x):
        return softmax(model.network.infer(b, model.params, x))[0, label]

    assert found.value == pytest.approx(probability(x))
    for i, top in enumerate(found.tops):
        for j, left in enumerate(found.lefts):
            covered = x.copy()
            covered[:, top : top + 4, left : left + 4] = 0
            drop = probability(x) - probability(covered)
            assert found.drops[i, j] == pytest.approx(drop, abs=1e-12)
    assert np.abs(found.drops).max() > 1e-3
    # in the picture, what is covered has the training images' mean colour
    grey = image.copy()
    grey[1 : 1 + 4, 1 : 1 + 4] = 100
    direct = model.probabilities(grey[None])[0, label]
    assert found.value - found.drops[0, 0] == pytest.approx(direct)
    seen = []
    usual = occlusion(model, image, label, on_batch=seen.append)
    assert usual.drops.shape == (12, 12)
    assert sum(seen) == 1 + 12 * 12


@pytest.mark.parametrize(("layer", "channel", "pixel"), [("relu1", 2, (1, 3)), ("fc4", 1, None)])
def test_occlusion_of_a_unit(image, layer, channel, pixel):
    model, seen = model_of(), []
    given = {"window": 2, "stride": 3, "on_batch": seen.append}
    found = unit_occlusion(model, image, layer, channel, pixel, **given)
    b = model.devices.backend
    [view] = model.preprocessing.views(1)
    x = model.preprocessing.test_input(b, image[None], view, "float64")

    def unit(x):
        y = model.network.until(layer).infer(b, model.params, x)[0, ..., channel]
        return float(y if pixel is None else y[pixel])

    assert found.value == pytest.approx(unit(x))
    for i, top in enumerate(found.tops):
        for j, left in enumerate(found.lefts):
            covered = x.copy()
            covered[:, top : top + 2, left : left + 2] = 0
            assert found.drops[i, j] == pytest.approx(unit(x) - unit(covered), abs=1e-12)
    assert np.abs(found.drops).max() > 1e-3
    if pixel is None:
        assert sum(seen) == 1 + found.drops.size
    else:  # only the windows that touch what it depends on are computed
        box = receptive_field(model.network, layer, pixel)
        touching = np.zeros((13, 13), int)
        touching[box.top : box.bottom, box.left : box.right] = 1
        inside = [touching[t : t + 2, k : k + 2].any() for t in found.tops for k in found.lefts]
        assert sum(seen) == 1 + sum(inside) < 1 + found.drops.size


def test_occlusion_of_a_channel_is_that_of_its_strongest_pixel(image):
    model = model_of()
    y = activations(model, image[None], ["relu1"])["relu1"][0, ..., 2]
    strongest = np.unravel_index(y.argmax(), y.shape)
    found = unit_occlusion(model, image, "relu1", 2)
    assert found.value == pytest.approx(y.max())
    by_hand = unit_occlusion(model, image, "relu1", 2, strongest)
    np.testing.assert_array_equal(found.drops, by_hand.drops)


@pytest.mark.parametrize(
    ("window", "stride", "sentence"),
    [
        (0, 1, "window is 0: it must be a whole number of at least 1 and at most 13"),
        (14, 1, "window is 14"),
        (2.5, 1, "window is 2.5"),
        (3, 0, "stride is 0: it must be a whole number of at least 1"),
    ],
)
def test_a_window_that_cannot_cover(image, window, stride, sentence):
    with pytest.raises(InputError, match=sentence):
        occlusion(model_of(), image, 0, window, stride)
    with pytest.raises(InputError, match="classes 0 to 2, not 3"):
        occlusion(model_of(), image, 3)


def test_receptive_fields_of_the_paper():
    network = models.get("alexnet").network
    assert receptive_field(network, "conv1", (0, 0)) == Box(0, 0, 11, 11)
    assert receptive_field(network, "norm1", (54, 1)) == Box(216, 4, 227, 15)
    assert receptive_field(network, "pool1", (1, 1)) == Box(8, 8, 27, 27)  # 19 pixels
    middle = receptive_field(network, "relu5", (6, 6))
    assert (middle.bottom - middle.top, middle.right - middle.left) == (163, 163)
    assert receptive_field(network, "fc7") == Box(0, 0, 227, 227)


def test_a_receptive_field_is_what_the_unit_depends_on():
    """Pixels outside leave the unit's value, and those at its edges change it in some image."""
    model = model_of(EVERY[:9])
    b = model.devices.backend
    x = np.random.default_rng(0).normal(0, 50, (6, CROP, CROP, 3))
    for name in ("pool1", "conv2", "norm2", "tanh2"):
        network, changes = model.network.until(name), np.zeros((CROP, CROP), bool)
        before = network.infer(b, model.params, x)[:, 1, 1]
        for h, w in np.ndindex(CROP, CROP):
            moved = x.copy()
            moved[:, h, w] *= -3
            changes[h, w] = np.any(network.infer(b, model.params, moved)[:, 1, 1] != before)
        rows, columns = np.flatnonzero(changes.any(1)), np.flatnonzero(changes.any(0))
        seen = Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
        assert receptive_field(network, name, (1, 1)) == seen


@pytest.mark.parametrize("pixel", [(-1, 0), (0, 3), (3, 0)])
def test_a_pixel_that_is_not_there_has_no_receptive_field(pixel):
    with pytest.raises(InputError, match="pool1 has 3 x 3 pixels: there is no"):
        receptive_field(model_of().network, "pool1", pixel)


def test_strongest_images_by_sorting_all():
    data = Noise(41)
    model = model_of(dtype="float32")
    loader, seen = Loader(data, SIZE, workers=1), []
    found = strongest(model, loader, ["relu3", "relu1"], 3, on_batch=seen.append)
    assert list(found) == ["relu1", "relu3"]
    assert seen == [32, 9]
    images = np.stack([data.image(i, SIZE) for i in range(41)])
    outputs = activations(model, images, found)
    for name, one in found.items():
        y = outputs[name].reshape(41, -1, outputs[name].shape[-1])
        for k in range(y.shape[2]):
            peaks = y[:, :, k].max(axis=1)
            np.testing.assert_allclose(one.values[k], np.sort(peaks)[::-1][:3], rtol=1e-5)
            places = zip(one.indices[k], one.pixels[k], strict=True)
            at = [(i, *pixel, k) if name == "relu1" else (i, k) for i, pixel in places]
            there = [outputs[name][place] for place in at]
            np.testing.assert_allclose(there, one.values[k], rtol=1e-5)
    some = strongest(model, loader, ["relu3"], 5, images=[3, 8])["relu3"]
    assert some.values.shape == (5, 2)
    assert set(some.indices.ravel()) == {3, 8}
    with pytest.raises(InputError, match="at least 1"):
        strongest(model, loader, count=0)


@pytest.mark.parametrize("name", [name for name, _ in EVERY])
@pytest.mark.parametrize("at", [0, -1])
def test_the_products_sum_to_the_units_value(image, name, at):
    """At a corner, where windows reach beyond the edge, and for the strongest unit."""
    model = model_of(EVERY)
    y = activations(model, image[None], [name])[name][0]
    pixel = None if y.ndim == 1 else (0, 0) if at == 0 else (y.shape[0] - 1, y.shape[1] - 1)
    channel = y.shape[-1] - 1
    found = arithmetic(model, image, name, channel, pixel)
    assert found.computed == y[(*(pixel or ()), channel)]
    assert found.value == pytest.approx(found.computed, rel=1e-9, abs=1e-12)
    if found.weights is not None and name != "scale":
        assert found.products.sum() + found.bias == pytest.approx(found.value)
    if y.ndim == 3:
        strong = arithmetic(model, image, name, channel)
        assert strong.computed == y[..., channel].max()
        assert strong.value == pytest.approx(strong.computed, rel=1e-9, abs=1e-12)


def test_every_kind_of_layer_is_tried():
    named = (getattr(layers, name) for name in layers.__all__)
    kinds = {one for one in named if isinstance(one, type) and issubclass(one, Layer)}
    assert {type(layer) for _, layer in EVERY} == kinds - {Layer}


def test_the_arithmetic_of_batch_normalisation_is_of_the_running_statistics(image):
    named = (LAYERS[0], ("bn1", BatchNorm(epsilon=0.1)), *LAYERS[1:])
    model = model_of(named)
    rng = np.random.default_rng(4)
    own = {name: rng.uniform(0.5, 2, value.shape) for name, value in model.params["bn1"].items()}
    model = replace(model, params={**model.params, "bn1": own})
    x = activations(model, image[None], ["conv1"])["conv1"][0]
    found = arithmetic(model, image, "bn1", 2, (3, 4))
    deviation = np.sqrt(own["running_variance"][2] + 0.1)
    by_hand = own["weight"][2] * (x[3, 4, 2] - own["running_mean"][2]) / deviation + own["bias"][2]
    assert found.value == pytest.approx(by_hand)
    assert found.computed == pytest.approx(by_hand)
    assert found.inputs.tolist() == [x[3, 4, 2]]


def test_arithmetic_of_the_users_own_layer_is_not_known(image):
    @dataclass(frozen=True)
    class Square(Layer):
        def output_shape(self, input_shape):
            return input_shape

        def forward(self, b, params, x, mode):
            return x * x, x

    b = backends.get("numpy")
    given = model_of()
    network = Network((("conv1", LAYERS[0][1]), ("square", Square())), (CROP, CROP, 3))
    params = {"conv1": given.params["conv1"]}
    model = TrainedModel(network, params, given.preprocessing, SingleDevice(network, b), "float64")
    with pytest.raises(InputError, match="arithmetic of a Square"):
        arithmetic(model, image, "square", 0)
