"""A network's training step and inference on one backend, whole and layer by layer."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
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
    """A layer's passes: None where it is fused with the layer above, or was not run."""

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


def by_stage(run: Run, rounds: int, training: bool = True) -> list[Row]:
    """Medians over `rounds` passes on one device, each stage waited for before the next starts.

    A row a layer; a stage's numbers stand in the row of its first.
    """
    b, network = run.b, run.model.network
    if not isinstance(b, Backend):
        raise InputError("layers are timed on one device: name one with --devices")
    x, params = run.input(b, 0, run.batch), b.cast_params(run.params)
    forward, backward = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    stages = network.stages(training)
    for step in range(1 + rounds):
        if step == 1:  # the first was for warming up
            forward.clear()
            backward.clear()
        mode, y, saved = Mode(training=training, step=step), x, []
        for stage in stages:
            with _lap(b, forward[stage.name]):
                y, kept = stage.forward(b, params, y, mode)
            saved.append((stage, kept))
        dy = b.zeros_like(y)
        while training and saved:
            stage, kept = saved.pop()
            with _lap(b, backward[stage.name]):
                dy, _ = stage.backward(b, params, kept, dy, input_gradient=stage.index > 0)
    return _rows(network, stages, run.batch, b.compute_dtype("float32"), forward, backward)


@contextmanager
def _lap(b: Backend, seconds: list[float]) -> Iterator[None]:
    """Append what the block takes, the device's work included."""
    b.synchronize()
    start = time.perf_counter()
    yield
    b.synchronize()
    seconds.append(time.perf_counter() - start)


def _rows(network: Network, stages, batch: int, dtype: str, forward, backward) -> list[Row]:
    rows, shapes, size = [], network.shapes(), _SIZES[dtype]
    first_of = {stage.index: stage for stage in stages}
    for i, (name, layer) in enumerate(network.layers):
        ahead = back = None
        if stage := first_of.get(i):
            last = i + len(stage.names)
            of_stage = [network.layers[j][1] for j in range(i, last)]
            multiplied = (
                2
                * batch
                * sum(one.connections(shapes[j]) for j, one in enumerate(of_stage, start=i))
            )
            weights = sum(prod(shape) for shape in layer.parameter_shapes(shapes[i]).values())
            arriving, leaving = batch * prod(shapes[i]), batch * prod(shapes[last])
            least = size * (arriving + leaving + weights)
            ahead = Pass(median(forward[name]), multiplied, least)
            if backward:
                both = 1 if i == 0 else 2  # the first layer's input has no gradient
                least = size * (both * arriving + leaving + 2 * weights)
                back = Pass(median(backward[name]), both * multiplied, least)
        rows.append(Row(name, type(layer).__name__, ahead, back))
    return rows
