"""A network's training step and inference on one backend, whole and layer by layer."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from statistics import median
from typing import Any

import numpy as np

from minialex import losses
from minialex.backends import Backend
from minialex.bench.subject import Subject
from minialex.errors import InputError
from minialex.layers import Dense, Mode
from minialex.network import Network
from minialex.optim import SGD, Rates
from minialex.parallel import Devices, Inputs
from minialex.training.feed import Tensors
from minialex.training.step import StepState, TrainStep
from minialex.tree import map_tree

_SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Pass:
    """One direction of a layer: its time, its operations, and its minimum memory traffic."""

    seconds: float
    flops: float
    bytes: float


@dataclass(frozen=True)
class Row:
    """A layer's passes: None if it is fused with the layer above, or was not run."""

    name: str
    kind: str
    forward: Pass | None
    backward: Pass | None


class Run:
    """A network with its parameters on a backend (or several), and one batch of images."""

    def __init__(self, devices: Devices, subject: Subject, batch: int):
        self.devices, self.model, self.batch = devices, subject.model, batch
        self.params = devices.to_devices(
            map_tree(np.copy, subject.params)
        )  # which training changes
        self.images = subject.images(batch)
        self.labels = np.arange(batch) % self.model.classes
        self._placed: dict[Any, Any] = {}

    def train(self) -> float:
        """One step: forward, backward, update; waits for the loss, which it returns."""
        rate = self.model.recipe.lr
        step, state = self._training
        return step(state, self.labels, Rates(rate, rate, 0.0))

    @cached_property
    def _training(self) -> tuple[TrainStep, StepState]:
        network, devices = self.model.network, self.devices
        loss, sgd = losses.SoftmaxCrossEntropy(), SGD(self.model.recipe)
        slots = sgd.start(devices, network.trainable(self.params))
        step = TrainStep(network, devices, loss, sgd, feed=_Resident(self.input))
        return step, StepState(self.params, slots)

    def infer(self) -> np.ndarray:
        """The scores of the batch, copied to the host."""
        return self.devices.infer(self.params, self.input, self.batch)

    def input(self, b: Backend, first: int, end: int):
        """The images on their device, where they stay, so that only the network is timed."""
        key = (id(b), first, end)
        if key not in self._placed:
            images = b.asarray(self.images[first:end])
            self._placed[key] = b.cast_params({"": {"weight": images}})[""]["weight"]
        return self._placed[key]


def zero_inputs(run: Run) -> dict[str, float]:
    """For each dense layer, the share of its inputs that are zero in all images of the batch.

    The Numba backend skips their weights for up to four images.
    """
    layers, found = run.model.network.layers, {}
    for (before, _), (name, layer) in pairwise(layers):
        if isinstance(layer, Dense):
            x = run.devices.infer(run.params, run.input, run.batch, until=before)
            found[name] = float((x == 0).all(axis=0).mean())
    return found


def zeros_text(zeros: dict[str, float]) -> str:
    """What `zero_inputs` has found, in words."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zeros.items())
    return f"dense inputs that are zero for the whole batch: {shares}"


class _Resident(Tensors):
    """Batches of labels only; the images are on the devices."""

    def __init__(self, input: Inputs):
        super().__init__()
        self._input = input

    def labels(self, batch: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return batch

    def inputs(self, batch: Any, epoch: int, noise: float) -> Inputs:
        return self._input


def by_stage(run: Run, rounds: int, training: bool = True) -> list[Row]:
    """Medians over `rounds` passes on one device, each stage waited for before the next starts.

    One row per layer; a fused stage's numbers are in the row of its first layer.
    """
    network = run.model.network
    if len(run.devices.backends) > 1:
        raise InputError("layers are timed on one device: give one with --devices")
    b, params = run.devices.whole(run.params)
    b = b if training else b.for_inference()
    x, params = run.input(b, 0, run.batch), b.cast_params(params)
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
    """Append the seconds that the block takes, including the device's work."""
    b.synchronize()
    start = time.perf_counter()
    yield
    b.synchronize()
    seconds.append(time.perf_counter() - start)


def _rows(network: Network, stages, batch: int, dtype: str, forward, backward) -> list[Row]:
    rows, shapes, size = [], network.shapes(), _SIZES[dtype]
    first_of = {stage.index: stage for stage in stages}
    for i, (name, layer) in enumerate(network.layers):
        forward_pass = backward_pass = None
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
            forward_pass = Pass(median(forward[name]), multiplied, least)
            if backward:
                both = 1 if i == 0 else 2  # the first layer's input has no gradient
                least = size * (both * arriving + leaving + 2 * weights)
                backward_pass = Pass(median(backward[name]), both * multiplied, least)
        rows.append(Row(name, type(layer).__name__, forward_pass, backward_pass))
    return rows
