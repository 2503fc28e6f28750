"""Whole networks against PyTorch on the CPU: scores, loss, every gradient, ten SGD steps."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.slim import narrow
from helpers.strategies import grid
from helpers.tiny import tiny_bn

from minialex import backends, models
from minialex.layers import AveragePool, Dropout, MaxPool, Mode, SpatialResponseNorm
from minialex.losses import SoftmaxCrossEntropy
from minialex.models.recipe import Recipe
from minialex.network import Network
from minialex.optim import SGD, Rates
from minialex.parallel import SingleDevice
from minialex.testing.tolerance import assert_close
from minialex.training.step import TrainStep
from minialex.tree import leaves

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
witness = pytest.importorskip("helpers.witness")

b = backends.get("numpy")


def tensors(params):
    return {
        layer: {name: torch.tensor(a, requires_grad=True) for name, a in of_layer.items()}
        for layer, of_layer in params.items()
    }


def photographs(network, n, dtype):
    """Numbers on the scale of images minus their mean, and labels."""
    images = 60 * grid((n, *network.input_shape), 0)
    return images.astype(dtype), np.arange(n) % network.classes


def masks(network, params, images, mode):
    """The units that our dropout layers keep, by layer."""
    found, shapes = {}, network.shapes()
    for i, (name, layer) in enumerate(network.layers):
        if isinstance(layer, Dropout):
            units = int(np.prod(shapes[i]))
            kept = b.dropout_mask((len(images), units), layer.keep, mode.seed, i, mode.step)
            found[name] = torch.tensor(kept.reshape(len(images), *shapes[i]))
    return found


# Dropout in training has two forms; four networks cover them, one with batch normalisation.
# At test time: every network.
# The slow ones differ from others only in what those and the loops of the reference cover.
_SLOW = ("alexnet-half", "alexnet-single", "bvlc-alexnet", "alexnet-six")
CASES = [
    pytest.param(name, False, marks=pytest.mark.slow if name in _SLOW else ())
    for name in models.names()
]
CASES += [pytest.param(name, True) for name in ("alexnet", "alexnet-64", "caffenet", "alexnet-bn")]

# VGG-16 at full size is 21 times AlexNet's work: the same layers over fewer channels and pixels.
_FEW = {"input_size": 64, "width": 8, "hidden": 64, "init": "glorot"}
REDUCED: dict[str, dict] = {name: _FEW for name in ("vgg-11", "vgg-16", "vgg-19")}
REDUCED["cnn-m-2048"] = {"input_size": 96, "hidden": (64, 48), "channels": 20}


@pytest.mark.parametrize(("name", "training"), CASES)
def test_scores_loss_and_every_gradient(name, training):
    """In float64: in float32 a ReLU near zero may round to either side."""
    dtype = "float64"
    network = models.get(name, 10, **REDUCED.get(name, {})).network
    if (name, training) != ("alexnet", True):
        network = narrow(network)
    params = network.init(b, 0, dtype)
    images, labels = photographs(network, 2, dtype)
    mode = Mode(training=training, seed=3, step=5)
    scores, saved = network.forward(b, params, images, mode)
    loss, dscores = b.softmax_cross_entropy(scores, labels)
    grads = network.backward(b, params, saved, dscores)

    theirs = {  # in the memory of ours: four sets of 60 million numbers would be 2 GB
        layer: {name: torch.from_numpy(a).requires_grad_() for name, a in of_layer.items()}
        for layer, of_layer in params.items()
    }
    kept = masks(network, params, images, mode) if training else None
    their_scores = witness.forward(network, theirs, torch.tensor(images), kept)
    their_loss = torch.nn.functional.cross_entropy(their_scores, torch.tensor(labels))
    their_loss.backward()
    assert_close(scores, their_scores.detach(), dtype, 4096, "scores")
    assert_close(float(loss), their_loss.item(), dtype, 4096, "loss")
    for layer, of_layer in network.trainable(grads).items():
        # a bias before batch normalisation has a gradient of rounding alone
        cancelled = layer.replace("conv", "bn") in grads.keys() - {layer}
        largest = theirs[layer]["weight"].grad.abs().max().item() if cancelled else 0.0
        for parameter, gradient in of_layer.items():
            wanted = theirs[layer][parameter].grad.numpy()
            size = max(np.abs(wanted).max(), largest)
            what = f"gradient of {layer}.{parameter}"
            gradient /= size
            wanted /= size
            assert_close(gradient, wanted, dtype, 4096, what)
            theirs[layer][parameter].grad = None


def test_steps_and_running_statistics_of_batch_norm():
    network = tiny_bn(3)
    sgd, rate = SGD(Recipe()), 0.1
    step = TrainStep(
        network, SingleDevice(network, b), SoftmaxCrossEntropy(), sgd, seed=3, dtype="float64"
    )
    state = step.init(0)
    theirs = tensors(state.params)
    their_optimiser = torch.optim.SGD(
        [value for of_layer in theirs.values() for value in of_layer.values()],
        lr=rate,
        momentum=sgd.recipe.momentum,
        weight_decay=sgd.recipe.weight_decay,
    )
    images, labels = photographs(network, 6, "float64")
    for _ in range(3):
        kept = masks(network, state.params, images, step.mode(state.step))
        step(state, (images, labels), Rates(rate, rate, 0.0))
        their_optimiser.zero_grad()
        scores = witness.forward(network, theirs, torch.tensor(images), kept)
        torch.nn.functional.cross_entropy(scores, torch.tensor(labels)).backward()
        their_optimiser.step()
    for layer, name, value in leaves(state.params):
        assert_close(value, theirs[layer][name].detach(), "float64", 4096, f"{layer}.{name}")
    assert np.abs(state.params["bn1"]["running_mean"]).max() > 0.1


def test_scores_in_float32():
    """In float32, as users run it."""
    network = models.get("alexnet", 10).network
    params = network.init(b, 0, "float32")
    images, _ = photographs(network, 2, "float32")
    wanted = witness.forward(network, tensors(params), torch.tensor(images)).detach()
    assert_close(network.infer(b, params, images), wanted, "float32", 4096, "scores")


def test_ten_steps_of_sgd():
    """PyTorch's own optimiser: with a constant rate its velocity is ours divided by the rate."""
    model = models.get("alexnet-64", 10)
    network, recipe = model.network, model.recipe
    params = network.init(b, 0, "float64")
    optimiser = SGD(recipe)
    velocities = optimiser.start(b, params)
    rate, losses = 1e-4, []  # learns: in a run that diverges, rounding grows without bound
    theirs = tensors(params)
    leaves = [value for of_layer in theirs.values() for value in of_layer.values()]
    their_optimiser = torch.optim.SGD(
        leaves, lr=rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    images, labels = photographs(network, 2, "float64")
    for step in range(10):
        mode = Mode(training=True, seed=3, step=step)
        scores, saved = network.forward(b, params, images, mode)
        loss, dscores = b.softmax_cross_entropy(scores, labels)
        grads = network.backward(b, params, saved, dscores)
        optimiser.update(b, params, velocities, grads, Rates(rate, rate, 0.0))

        their_optimiser.zero_grad()
        kept = masks(network, params, images, mode)
        their_scores = witness.forward(network, theirs, torch.tensor(images), kept)
        their_loss = torch.nn.functional.cross_entropy(their_scores, torch.tensor(labels))
        their_loss.backward()
        their_optimiser.step()
        assert_close(float(loss), their_loss.item(), "float64", 4096, f"loss of step {step}")
        losses.append(float(loss))
    # ten seeds of weights and dropout: 0.30 to 0.44 times (deviation 0.05); without updates 1
    assert sum(losses[-3:]) < 0.75 * sum(losses[:3])
    for layer, of_layer in params.items():
        for parameter, value in of_layer.items():
            wanted = theirs[layer][parameter].detach()
            assert_close(value, wanted, "float64", 4096, f"{layer}.{parameter} after ten steps")


@pytest.mark.parametrize(
    "layer",
    [
        AveragePool(3, 2, pad=1, rounding="ceil", count_pads=True),
        AveragePool(3, 2, pad=1, rounding="ceil"),
        AveragePool(2, 3, rounding="ceil", count_pads=True),
        MaxPool(3, 2, pad=1, rounding="ceil"),
        SpatialResponseNorm(5, 1.0, 1.0, 0.75),
    ],
    ids=repr,
)
@pytest.mark.parametrize("size", [6, 7])
def test_windows_and_their_gradients(layer, size):
    """Windows that overhang the right edge, with and without padding: two sizes."""
    network = Network((("layer", layer),), (size, size + 1, 3))
    x = grid((2, *network.input_shape), 0)
    theirs = torch.tensor(x, requires_grad=True)
    wanted = witness.forward(network, {}, theirs)  # (N, C, P, Q)
    y, saved = network.forward(b, {}, x, Mode())
    assert_close(y, wanted.detach().permute(0, 2, 3, 1), "float64", 64, "y")
    dy = grid(y.shape, 1)
    wanted.backward(torch.tensor(dy).permute(0, 3, 1, 2))
    dx, _ = layer.backward(b, {}, saved[0][1], dy)
    assert_close(dx, theirs.grad, "float64", 64, "dx")


def test_the_hinge_loss_is_pytorchs_times_the_classes():
    scores, labels = grid((5, 7), 0), np.array([0, 6, 3, 3, 1])
    loss, gradient = b.hinge(scores, labels, 0.97)
    theirs = torch.tensor(scores, requires_grad=True)
    their_loss = 7 * torch.nn.functional.multi_margin_loss(
        theirs, torch.tensor(labels), margin=0.97
    )
    their_loss.backward()
    assert_close(float(loss), their_loss.item(), "float64", 7)
    assert_close(gradient, theirs.grad, "float64", 7)


def test_the_comparison_catches_a_planted_bug():
    """A normalisation whose α is divided by n, which a comparison at α = 1e-4 could overlook."""
    network = models.get("alexnet-64", 10).network
    params = network.init(b, 0, "float64")
    images, _ = photographs(network, 2, "float64")
    wrong = replace(
        network,
        layers=tuple(
            (n, replace(l, alpha=l.alpha / l.n) if n == "norm1" else l) for n, l in network.layers
        ),
    )
    scores = wrong.infer(b, params, images)
    wanted = witness.forward(network, tensors(params), torch.tensor(images)).detach()
    with pytest.raises(AssertionError, match="off by"):
        assert_close(scores, wanted, "float64", 4096)


def test_targets_in_place_of_labels():
    """Rows of any sum, as weights of classes make them."""
    scores, targets = (np.random.default_rng(k).normal(size=(6, 5)) for k in (0, 1))
    theirs, targets = torch.tensor(scores, requires_grad=True), np.abs(targets)
    wanted = torch.nn.functional.cross_entropy(theirs, torch.tensor(targets))
    wanted.backward()
    loss, dscores = b.soft_cross_entropy(scores, targets)
    assert_close(float(loss), wanted.item(), "float64", 30, "loss")
    assert_close(dscores, theirs.grad.numpy(), "float64", 5, "dscores")
