"""A network's training step and inference on one backend, whole and layer by layer."""

import time
from collections import defaultdict
from dataclasses import dataclass
from math import prod
from statistics import median
from typing import Any

import numpy as np

from minialex import losses, parallel
from minialex.backends import Backend
from minialex.errors import InputError
from minialex.layers import Mode
from minialex.models import Model
from minialex.network import Network
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceGroup

_SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Pass:
    """One direction of a layer: its time, its operations, and the bytes it cannot but move."""

    seconds: float
    flops: float
    bytes: float


@dataclass(frozen=True)
class Row:
    """A layer's passes, None where it is done with its neighbour, as the ReLU by the product before
    it, or where only inference is measured."""

    name: str
    kind: str
    forward: Pass | None
    backward: Pass | None


class Run:
    """A network with its parameters on a backend (or several), on one batch of random images."""

    def __init__(self, b: Backend | DeviceGroup, model: Model, batch: int):
        from minialex import backends

        self.b, self.model, self.batch = b, model, batch
        self.params = parallel.place(b, model.network.init(backends.get("numpy"), 0))
        self.sgd = SGD(model.recipe)
        self.velocities = self.sgd.start(b, self.params)
        drawn = np.random.default_rng(0)
        self.images = drawn.standard_normal((batch, *model.network.input_shape), np.float32)
        self.labels = np.arange(batch) % model.classes
        self._placed: dict[Any, Any] = {}
        self.step = 0

    def train(self) -> None:
        """One step: forward, backward, update; waits for the loss."""
        loss, grads = self._gradients()
        rate = self.model.recipe.lr
        self.sgd.update(self.b, self.params, self.velocities, grads, Rates(rate, rate, 0.0))
        loss()

    def _gradients(self):
        self.step += 1
        softmax = losses.SoftmaxCrossEntropy()
        mode = Mode(training=True, step=self.step)
        b, network = self.b, self.model.network
        return parallel.gradients(b, network, self.params, self.input, self.labels, softmax, mode)

    def infer(self) -> None:
        """The scores of the batch, brought to the host."""
        parallel.infer(self.b, self.model.network, self.params, self.input, self.batch)

    def input(self, b: Backend, first: int, end: int):
        """Those images on that device, where they stay: what is timed is the network."""
        key = (id(b), first, end)
        if key not in self._placed:
            images = b.asarray(self.images[first:end])
            self._placed[key] = b.cast_params({"": {"weight": images}})[""]["weight"]
        return self._placed[key]


class _Laps:
    """Seconds between calls, each waiting for the device."""

    def __init__(self, b: Backend):
        self.b, self.taken, self.last = b, defaultdict[str, list[float]](list), 0.0

    def start(self) -> None:
        self.b.synchronize()
        self.last = time.perf_counter()

    def __call__(self, name: str) -> None:
        self.b.synchronize()
        now = time.perf_counter()
        self.taken[name].append(now - self.last)
        self.last = now


def by_layer(run: Run, rounds: int, training: bool = True) -> list[Row]:
    """Medians over `rounds` passes on one device, each layer waited for before the next starts."""
    b, network = run.b, run.model.network
    if not isinstance(b, Backend):
        raise InputError("layers are timed on one device: name one with --devices")
    x, params = run.input(b, 0, run.batch), b.cast_params(run.params)
    forward, backward = _Laps(b), _Laps(b)
    for step in range(1 + rounds):
        if step == 1:  # the first was for warming up
            forward.taken.clear()
            backward.taken.clear()
        forward.start()
        mode = Mode(training=training, step=step)
        y, saved = network.forward(b, params, x, mode, watch=lambda name, _: forward(name))
        if training:
            begun: list[str] = []

            def arrived(name: str, _, begun=begun) -> None:  # the layer above is done
                if begun:
                    backward(begun[-1])
                begun.append(name)

            dy = b.zeros_like(y)
            backward.start()
            network.backward(b, params, saved, dy, watch=arrived)
            backward(begun[-1])
    return _rows(network, run.batch, b.compute_dtype("float32"), forward.taken, backward.taken)


def _rows(network: Network, batch: int, dtype: str, forward, backward) -> list[Row]:
    rows, shapes, size = [], network.shapes(), _SIZES[dtype]
    for i, (name, layer) in enumerate(network.layers):
        multiplied = 2 * batch * layer.connections(shapes[i])
        maps = [batch * prod(shape) for shape in shapes[i : i + 2]]
        weights = sum(prod(shape) for shape in layer.parameter_shapes(shapes[i]).values())
        ahead = back = None
        if name in forward and not (i and network.pool_follows(i - 1)):
            ahead = Pass(median(forward[name]), multiplied, size * (sum(maps) + weights))
        if name in backward:
            first = i == 0  # its input has no gradient
            numbers = (1 if first else 2) * maps[0] + maps[1] + 2 * weights
            flops = (1 if first else 2) * multiplied
            back = Pass(median(backward[name]), flops, size * numbers)
        rows.append(Row(name, type(layer).__name__, ahead, back))
    return rows
