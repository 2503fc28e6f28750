"""Memory-bound kernels: normalisation, pooling, dropout, sums over rows, crops, the update."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from minialex import backends, losses, models
from minialex.backends.cuda import implicit
from minialex.bench.gpu.plan import Plan, Run, copies, initial_params, on_device
from minialex.fusion import Stage
from minialex.layers import Conv2D, Dropout, MaxPool, Mode, ReLU
from minialex.models import Model
from minialex.network import Network
from minialex.optim import SGD, VELOCITY
from minialex.parallel import SingleDevice
from minialex.training.feed import input_layout

_ARGMAX = 2  # bytes of a maximum's tap
Make = Callable[[], Run]  # a kernel's run, with new arrays


def memory_bound(
    precision: str, measured: dict[str, float], plan: Plan
) -> Iterator[dict[str, Any]]:
    """A row for each kernel by itself: its minimum memory traffic, time, share of a copy's rate.

    A training step fuses some of them with others: dropout after a dense layer with its bias, and
    in half precision most biases' gradients with the weights'. `copies` of the arrays take turns.
    """
    b: Any = backends.get("cupy", 0, precision)
    most = measured.get("bytes_per_second")
    for name, least, make in _listed(b, plan):
        runs = [make() for _ in range(copies(b, least))]
        seconds = on_device(b, {name: runs}, plan)[name]
        rate = least / seconds
        yield {
            "kernel": name,
            "bytes": least,
            "copies": len(runs),
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


def _listed(b: Any, plan: Plan) -> Iterator[tuple[str, int, Make]]:
    """(name, fewest bytes, a function that makes its run) of a step's kernels."""
    model, kind = models.get(plan.model), b.compute_dtype("float32")
    kernels = dict(_kernels(b, plan))
    for moved in traffic(model, plan.kernel_batch, b.asarray(np.zeros(1), kind).itemsize):
        yield moved.kernel, moved.bytes, kernels[moved.kernel]


def _kernels(b: Any, plan: Plan) -> Iterator[tuple[str, Make]]:
    """(name, a function that makes its run) of a step's kernels at the suite's batch."""
    model, n, kind = models.get(plan.model), plan.kernel_batch, b.compute_dtype("float32")
    network = model.network
    shapes, draw = network.shapes(), np.random.default_rng(0)

    def device(shape):
        return b.asarray(draw.normal(size=shape).astype("float32"), kind)

    yield "crops", partial(_crops, b, model, n)
    for stage in network.stages(training=True):  # those without weights
        end = stage.index + len(stage.names)
        if _has_weights(network, stage):
            continue
        x, dy = device((n, *shapes[stage.index])), device((n, *shapes[end]))
        name = " and ".join(stage.names)
        yield name, partial(_stage, b, stage, x)
        yield f"{name}, backward", partial(_stage, b, stage, x, dy)
    for i, (name, layer) in enumerate(network.layers):
        x, dy = device((n, *shapes[i])), device((n, *shapes[i + 1]))
        if isinstance(layer, Dropout):
            drawn = (layer.keep, 1.0, 0, 0, 0)
            yield name, partial(_on_copies, b, b.dropout, (x,), *drawn)
            both = partial(_on_copies, b, b.relu_dropout_gradient, (dy, x), 1.0)
            yield f"{name} and ReLU, backward", both
        elif isinstance(layer, ReLU):
            yield f"{name}, backward", partial(_on_copies, b, b.relu_gradient, (dy, x))
            yield f"{name}'s bias, backward", partial(_on_copies, b, b.bias_gradient, (dy,))
    scores, labels = device((n, network.classes)), b.asarray(np.arange(n) % network.classes)
    loss = partial(losses.SoftmaxCrossEntropy(), b)
    yield "loss", partial(_on_copies, b, loss, (scores,), labels, None, 1.0)
    yield "update", partial(_update, b, model, plan)


def _on_copies(b: Any, op: Callable, arrays: tuple[Any, ...], *more: Any) -> Run:
    return partial(op, *(_copy(b, x) for x in arrays), *more)


def _copy(b: Any, x: Any) -> Any:
    return b.scale(x, 1.0)


def _crops(b: Any, model: Model, n: int) -> Run:
    recipe, draw, kind = model.recipe, np.random.default_rng(0), b.compute_dtype("float32")
    size, crop = recipe.resize, recipe.crop
    images = b.asarray(draw.integers(0, 256, (n, size, size, 3), np.uint8))
    corners = b.asarray(np.zeros((n, 3)), "int32")
    mean, shift = (b.asarray(np.zeros(s), "float32") for s in ((size, size, 3), (n, 3)))
    view = (crop, mean, (-1, -1), shift, 1.0, kind)
    return partial(b.crops_at, images, corners, *view, *input_layout(b, model.network, "float32"))


def _stage(b: Any, stage: Stage, x: Any, dy: Any = None) -> Run:
    """A stage's forward pass; its backward pass if there is a gradient."""
    x, mode = _copy(b, x), Mode(True)
    if dy is None:
        return partial(stage.forward, b, {}, x, mode)
    _, kept = stage.forward(b, {}, x, mode)
    return partial(stage.backward, b, {}, kept, _copy(b, dy))


def _update(b: Any, model: Model, plan: Plan) -> Run:
    params = SingleDevice(model.network, b).to_devices(initial_params(plan.model))
    velocities = SGD(model.recipe).start(b, params)[VELOCITY]
    triples = [
        # a rate: without one, nothing is read or written
        (value, velocities[layer][name], velocities[layer][name], 1e-12, 0.0)
        for layer, of_layer in params.items()
        for name, value in of_layer.items()
    ]
    return partial(b.sgd_updates, triples, 0.9)


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
