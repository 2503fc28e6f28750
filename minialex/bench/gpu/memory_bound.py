"""Memory-bound kernels: normalisation, pooling, dropout, sums over rows, crops, the update."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from minialex import backends, losses, models
from minialex.bench.gpu.plan import Plan, Run, initial_params, on_device
from minialex.fusion import Stage
from minialex.layers import Dropout, Layer, MaxPool, Mode, ReLU
from minialex.network import Network
from minialex.optim import SGD, VELOCITY
from minialex.parallel import SingleDevice
from minialex.training.feed import input_channels

_ARGMAX = 2  # bytes of a maximum's tap


def memory_bound(
    precision: str, measured: dict[str, float], plan: Plan
) -> Iterator[dict[str, Any]]:
    """A row for each kernel by itself: its minimum memory traffic, time, share of a copy's rate.

    A training step fuses some of them with others: dropout after a dense layer with its bias, and
    in half precision most biases' gradients with the weights'.
    """
    b: Any = backends.get("cupy", 0, precision)
    most = measured.get("bytes_per_second")
    for name, least, run in _listed(b, plan):
        seconds = on_device(b, {name: run}, plan)[name]
        rate = least / seconds
        yield {
            "kernel": name,
            "bytes": least,
            "us": 1e6 * seconds,
            "gigabytes_per_second": rate / 1e9,
            "share": rate / most if most else None,
        }


def _listed(b: Any, plan: Plan) -> Iterator[tuple[str, int, Run]]:
    """(name, fewest bytes, run) of a step's kernels at the suite's batch."""
    model, n, kind = models.get(plan.model), plan.kernel_batch, b.compute_dtype("float32")
    network, recipe = model.network, model.recipe
    shapes, draw = network.shapes(), np.random.default_rng(0)

    def device(shape):
        return b.asarray(draw.normal(size=shape).astype("float32"), kind)

    size, crop = recipe.resize, recipe.crop
    images = b.asarray(draw.integers(0, 256, (n, size, size, 3), np.uint8))
    corners = b.asarray(np.zeros((n, 3)), "int32")
    mean, shift = (b.asarray(np.zeros(s), "float32") for s in ((size, size, 3), (n, 3)))
    view = (crop, mean, (-1, -1), shift, 1.0, kind)
    x = b.crops_at(images, corners, *view)
    # The zeros that they write to a fourth channel are not counted
    cut = partial(b.crops_at, images, corners, *view, input_channels(b, network, "float32"))
    yield "crops", x.nbytes + x.size, cut
    for stage in network.stages(training=True):  # those without weights
        end = stage.index + len(stage.names)
        if any(layer.parameter_shapes(shapes[i]) for i, layer in _layers(network, stage)):
            continue
        x, dy, mode = device((n, *shapes[stage.index])), device((n, *shapes[end])), Mode(True)
        _, kept = stage.forward(b, {}, x, mode)
        last, name = network.layers[end - 1][1], " and ".join(stage.names)
        small = dy.nbytes + (_ARGMAX * dy.size if isinstance(last, MaxPool) else 0)
        yield name, x.nbytes + small, partial(stage.forward, b, {}, x, mode)
        read = 1 if isinstance(stage.layer, MaxPool) else 2  # all but the maxima read x again
        backward = partial(stage.backward, b, {}, kept, dy)
        yield f"{name}, backward", read * x.nbytes + small, backward
    for i, (name, layer) in enumerate(network.layers):
        x, dy = device((n, *shapes[i])), device((n, *shapes[i + 1]))
        if isinstance(layer, Dropout):
            drawn = (layer.keep, 1.0, 0, 0, 0)
            yield name, 2 * x.nbytes, partial(b.dropout, x, *drawn)
            backward = partial(b.relu_dropout_gradient, dy, x, 1.0)
            yield f"{name} and ReLU, backward", 3 * x.nbytes, backward
        elif isinstance(layer, ReLU):
            yield f"{name}, backward", 3 * x.nbytes, partial(b.relu_gradient, dy, x)
            yield f"{name}'s bias, backward", dy.nbytes, partial(b.bias_gradient, dy)
    scores, labels = device((n, network.classes)), b.asarray(np.arange(n) % network.classes)
    loss = losses.SoftmaxCrossEntropy()
    yield "loss", 2 * scores.nbytes, partial(loss, b, scores, labels, None, 1.0)
    params = SingleDevice(network, b).to_devices(initial_params(plan.model))
    velocities = SGD(recipe).start(b, params)[VELOCITY]
    triples = [
        (value, velocities[layer][name], velocities[layer][name], 0.0, 0.0)
        for layer, of_layer in params.items()
        for name, value in of_layer.items()
    ]
    count = sum(value.size for value, *_ in triples)
    yield "update", 5 * 4 * count, partial(b.sgd_updates, triples, 0.9)


def _layers(network: Network, stage: Stage) -> list[tuple[int, Layer]]:
    """(position, layer) of a stage's layers."""
    return [(i, network.layers[i][1]) for i in range(stage.index, stage.index + len(stage.names))]
