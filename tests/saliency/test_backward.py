"""Back to the pixels: the deconvnet against loops, gradients against differences and loops."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.looking import CROP, LAYERS, SIZE, model_of
from helpers.standard import ELSEWHERE, Strict

from minialex import backends
from minialex.errors import InputError
from minialex.inference.trained_model import TrainedModel
from minialex.layers import (
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    MaxPool,
    ReLU,
    ResponseNorm,
    Sigmoid,
    Tanh,
)
from minialex.network import Network
from minialex.parallel import DeviceConfig
from minialex.saliency import (
    RULES,
    deconvolution,
    grad_cam,
    grad_cam_layer,
    gradient,
    guided_gradient,
    to_pixels,
)
from minialex.saliency.forward import forward
from minialex.saliency.grad_cam import score_gradient
from minialex.testing.tolerance import assert_close
from reference import saliency

BACKENDS = {
    "cupy": lambda: backends.get("cupy"),
    "numba": lambda: backends.get("numba"),
    "numpy": lambda: backends.get("numpy"),
    "strict": lambda: Strict(ELSEWHERE),
}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)


def steps_of(model, count):
    """The first layers as the reference takes them."""
    found = []
    for (name, layer), shape in zip(
        model.network.layers[:count], model.network.shapes(), strict=False
    ):
        if isinstance(layer, Conv2D):
            own = model.params[name]
            weight, bias = np.asarray(own["weight"]), np.asarray(own["bias"])
            found.append(("convolution", weight, bias, *layer.geometry(shape)))
        elif isinstance(layer, ReLU):
            found.append(("relu",))
        elif isinstance(layer, ResponseNorm):
            found.append(("norm", *layer.constants()))
        else:
            found.append(("max", *layer.geometry(shape)))
    return found


# without pooling, whose maxima are where a ReLU passes anyway
PLAIN = (*LAYERS[:2], *LAYERS[4:6])


@pytest.mark.parametrize("layers", [LAYERS[:6], PLAIN], ids=["pooled", "plain"])
@pytest.mark.parametrize("rule", RULES)
def test_pixels_are_those_of_the_loops(images, rule, layers):
    model = model_of(layers)
    steps = steps_of(model, len(layers))
    outputs = saliency.forward(steps, forward(model, images).x)
    y = outputs[-1]
    dy = np.zeros_like(y)
    for n in range(len(y)):
        p, q = np.unravel_index(np.argmax(y[n, :, :, 4]), y.shape[1:3])
        dy[n, p, q, 4] = y[n, p, q, 4] if rule == "deconvolution" else 1
    wanted = saliency.backward(steps, outputs, dy, rule)
    assert np.abs(wanted).max() > 0.01
    found = to_pixels(model, images, "relu2", 4, rule=rule)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_the_rules_differ(images):
    model = model_of()
    found = [to_pixels(model, images, "relu2", 4, rule=rule) for rule in RULES]
    assert not any(np.allclose(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    for rule, function in zip(RULES, (gradient, guided_gradient, deconvolution), strict=True):
        again = function(model, images, "relu2", 4)
        np.testing.assert_array_equal(again, to_pixels(model, images, "relu2", 4, rule=rule))


@pytest.mark.parametrize(("layer", "pixel"), [("norm1", (2, 4)), ("conv2", (0, 1)), ("fc4", None)])
def test_the_gradient_is_that_of_central_differences(images, layer, pixel):
    layers = LAYERS if layer != "conv2" else (*LAYERS[:3], ("pool1", AveragePool(3, 2)), LAYERS[4])
    model, channel = model_of(tuple(layers)), 1
    b = model.devices.backend
    way = np.random.default_rng(0).normal(size=(2, CROP, CROP, 3))
    network, x = model.network.until(layer), forward(model, images).x

    def unit(t):
        y = network.infer(b, model.params, x + t * way)
        return y[(slice(None), *(pixel or ()), channel)].sum()

    numeric = (unit(1e-6) - unit(-1e-6)) / 2e-6
    analytic = np.sum(gradient(model, images, layer, channel, pixel) * way)
    assert analytic == pytest.approx(numeric, rel=1e-6)


def test_tanh_has_its_own_gradient(images):
    layers = (LAYERS[0], ("tanh1", Tanh()), *LAYERS[6:7], LAYERS[9])
    model = model_of(layers)
    guided, plain = (
        to_pixels(model, images, "fc4", 0, rule=rule) for rule in ("guided", "gradient")
    )
    np.testing.assert_array_equal(guided, plain)


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_every_backend_agrees(images, name):
    wanted, b = model_of(), BACKENDS[name]()
    model = model_of(b=b, dtype="float32")
    for rule in RULES:
        found = to_pixels(model, images, "fc4", 2, rule=rule)
        assert found.dtype == np.float32
        assert_close(found, to_pixels(wanted, images, "fc4", 2, rule=rule), "float32", 36)
    assert_close(grad_cam(model, images, 1), grad_cam(wanted, images, 1), "float32", 36)


def test_devices_that_share_the_work_agree(images):
    model = model_of()
    devices = DeviceConfig("numpy", (0, 1), "towers").open(model.network)
    shared = TrainedModel(
        model.network, devices.to_devices(model.params), model.preprocessing, devices, "float64"
    )
    found, wanted = (deconvolution(m, images, "conv2", 5) for m in (shared, model))
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_grad_cam_is_its_formula_and_its_gradient_that_of_differences(images):
    model, label = model_of(), 2
    b = model.devices.backend
    assert grad_cam_layer(model.network) == "relu2"
    y, dy = score_gradient(model, images, label, "relu2")
    after, way = model.network.after("relu2"), np.random.default_rng(0).normal(size=y.shape)
    up, down = (after.infer(b, model.params, y + t * way)[:, label].sum() for t in (1e-6, -1e-6))
    assert np.sum(dy * way) == pytest.approx((up - down) / 2e-6, rel=1e-6)
    cam = grad_cam(model, images, label)
    for n, p, q in np.ndindex(cam.shape):
        total = sum(dy[n, :, :, c].mean() * y[n, p, q, c] for c in range(y.shape[3]))
        assert cam[n, p, q] == pytest.approx(max(0.0, total))
    assert cam.max() > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("relu7", 0), "unknown layer 'relu7': did you mean 'relu"),
        (("relu2", 6), "relu2 has channels 0 to 5, not 6"),
        (("relu2", 0, (0, 3)), "relu2 has 3 x 3 pixels: there is no"),
        (("fc4", 0, (0, 0)), "fc4 has no pixels"),
        (("relu2", 0, None, "guess"), "unknown rule 'guess'"),
    ],
)
def test_what_there_is_not(images, arguments, said):
    with pytest.raises(InputError, match=said):
        to_pixels(model_of(), images, *arguments)


@pytest.mark.parametrize(
    ("after", "name"),
    [((BatchNorm(), ReLU()), "2"), ((ReLU(), BatchNorm()), "1"), ((BatchNorm(),), "1"),
     ((Tanh(),), "1"), ((Sigmoid(),), "1"), ((MaxPool(2, 2), ReLU()), "0")],
)  # fmt: skip
def test_grad_cam_takes_the_last_convolution_after_its_normalisation_and_activation(after, name):
    named = tuple((str(i), one) for i, one in enumerate((Conv2D(4, 3), *after, Dense(3))))
    assert grad_cam_layer(Network(named, (CROP, CROP, 3))) == name


def test_the_gradient_through_batch_normalisation_is_that_of_running_statistics(images):
    model = model_of((*LAYERS[:5], ("bn2", BatchNorm(epsilon=0.1)), *LAYERS[5:]))
    rng = np.random.default_rng(4)
    own = {name: rng.uniform(0.5, 2, value.shape) for name, value in model.params["bn2"].items()}
    model = replace(model, params={**model.params, "bn2": own})
    y, dy = score_gradient(model, images, 1, "conv2")
    after, way = model.network.after("conv2"), rng.normal(size=y.shape)
    b, params = model.devices.backend, model.params
    up, down = (after.infer(b, params, y + t * way)[:, 1].sum() for t in (1e-6, -1e-6))
    assert np.sum(dy * way) == pytest.approx((up - down) / 2e-6, rel=1e-6)


def test_grad_cam_needs_pixels(images):
    with pytest.raises(InputError, match="fc3 has an output without pixels"):
        grad_cam(model_of(), images, 0, "fc3")
    with pytest.raises(InputError, match="no convolution"):
        grad_cam_layer(Network(LAYERS[6:], (3, 3, 2)))
    with pytest.raises(InputError, match="channels 0 to 2, not 3"):
        grad_cam(model_of(), images, 3)
