"""Memory-bound kernels: normalisation, pooling, dropout, sums over rows, crops, the update."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from minialex import backends, losses, models
from minialex.backends.cuda import implicit
from minialex.bench.gpu.plan import Plan, Run, initial_params, on_device
from minialex.fusion import Stage
from minialex.layers import Conv2D, Dropout, MaxPool, Mode, ReLU
from minialex.models import Model
from minialex.network import Network
from minialex.optim import SGD, VELOCITY
from minialex.parallel import SingleDevice
from minialex.training.feed import input_layout

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


@dataclass(frozen=True)
class Traffic:
    """A kernel's fewest bytes; `alone`: a training step in half precision runs it by itself."""

    kernel: str
    bytes: int
    alone: bool = True


def traffic(model: Model, batch: int, itemsize: int) -> Iterator[Traffic]:
    """The memory-bound kernels of a step."""
    network, crop = model.network, model.recipe.crop
    sizes = [batch * prod(shape) for shape in network.shapes()]  # numbers
    pixels = batch * crop * crop * 3
    # zeros beyond the images are not counted
    yield Traffic("crops", pixels * itemsize + pixels)
    for stage in network.stages(training=True):  # those without weights
        end = stage.index + len(stage.names)
        if not _has_weights(network, stage):
            x, y = sizes[stage.index] * itemsize, sizes[end] * itemsize
            last, name = network.layers[end - 1][1], " and ".join(stage.names)
            small = y + (_ARGMAX * sizes[end] if isinstance(last, MaxPool) else 0)
            yield Traffic(name, x + small)
            # all but the maxima read x again
            yield Traffic(
                f"{name}, backward", (1 if isinstance(stage.layer, MaxPool) else 2) * x + small
            )
    for i, (name, layer) in enumerate(network.layers):
        x, y = sizes[i] * itemsize, sizes[i + 1] * itemsize
        if isinstance(layer, Dropout):
            yield Traffic(name, 2 * x)
            yield Traffic(f"{name} and ReLU, backward", 3 * x)
        elif isinstance(layer, ReLU):
            yield Traffic(f"{name}, backward", 3 * x, alone=False)
            yield Traffic(f"{name}'s bias, backward", y, not _bias_is_a_row(network, i - 1))
    yield Traffic("loss", 2 * batch * network.classes * itemsize)
    yield Traffic("update", 5 * 4 * network.parameter_count)


def _listed(b: Any, plan: Plan) -> Iterator[tuple[str, int, Run]]:
    """(name, fewest bytes, run) of a step's kernels at the suite's batch."""
    model, kind = models.get(plan.model), b.compute_dtype("float32")
    runs = dict(_runs(b, plan))
    for moved in traffic(model, plan.kernel_batch, b.asarray(np.zeros(1), kind).itemsize):
        yield moved.kernel, moved.bytes, runs[moved.kernel]


def _runs(b: Any, plan: Plan) -> Iterator[tuple[str, Run]]:
    """(name, run) of a step's kernels at the suite's batch."""
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
    cut = partial(b.crops_at, images, corners, *view, *input_layout(b, network, "float32"))
    yield "crops", cut
    for stage in network.stages(training=True):  # those without weights
        end = stage.index + len(stage.names)
        if _has_weights(network, stage):
            continue
        x, dy, mode = device((n, *shapes[stage.index])), device((n, *shapes[end])), Mode(True)
        _, kept = stage.forward(b, {}, x, mode)
        name = " and ".join(stage.names)
        yield name, partial(stage.forward, b, {}, x, mode)
        yield f"{name}, backward", partial(stage.backward, b, {}, kept, dy)
    for i, (name, layer) in enumerate(network.layers):
        x, dy = device((n, *shapes[i])), device((n, *shapes[i + 1]))
        if isinstance(layer, Dropout):
            drawn = (layer.keep, 1.0, 0, 0, 0)
            yield name, partial(b.dropout, x, *drawn)
            yield f"{name} and ReLU, backward", partial(b.relu_dropout_gradient, dy, x, 1.0)
        elif isinstance(layer, ReLU):
            yield f"{name}, backward", partial(b.relu_gradient, dy, x)
            yield f"{name}'s bias, backward", partial(b.bias_gradient, dy)
    scores, labels = device((n, network.classes)), b.asarray(np.arange(n) % network.classes)
    loss = losses.SoftmaxCrossEntropy()
    yield "loss", partial(loss, b, scores, labels, None, 1.0)
    params = SingleDevice(network, b).to_devices(initial_params(plan.model))
    velocities = SGD(recipe).start(b, params)[VELOCITY]
    triples = [
        # a rate: without one, nothing is read or written
        (value, velocities[layer][name], velocities[layer][name], 1e-12, 0.0)
        for layer, of_layer in params.items()
        for name, value in of_layer.items()
    ]
    yield "update", partial(b.sgd_updates, triples, 0.9)


def _has_weights(network: Network, stage: Stage) -> bool:
    at, shapes = range(stage.index, stage.index + len(stage.names)), network.shapes()
    return any(network.layers[i][1].parameter_shapes(shapes[i]) for i in at)


def _bias_is_a_row(network: Network, index: int) -> bool:
    """Whether a layer's bias gradient is one more row of its weights', in half precision."""
    layer = network.layers[index][1]
    if not isinstance(layer, Conv2D):
        return False
    shape = network.shapes()[index]
    _, pads, _ = layer.geometry(shape)
    kernel, stride = (layer.kernel,) * 2, (layer.stride,) * 2
    sizes = implicit.Convolution.of((1, *shape), kernel, layer.channels, stride, pads, layer.groups)
    return sizes.as_copied(2).rows % implicit.ROWS > 0
