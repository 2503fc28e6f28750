"""Whole training steps as one launch each, where the backend can: the same bits as op by op.

Augmentation, forward, backward and update become a CUDA graph, and what differs from step to step
(images, labels, where to crop, rates, the number of the step) goes to fixed places in the device's
memory first. The loss comes back a few steps later, so that the host is never waited for; a loss
that is not finite stops all updates after it on the device until the host sees it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from minialex.backends import Backend
from minialex.data.loading.loader import Batch
from minialex.inference.classifier import Classifier
from minialex.layers import Conv2D, Mode
from minialex.network import Network
from minialex.optim import SGD, Rates
from minialex.training.state import State

_LAG = 4  # steps whose losses may be on their way


@dataclass(frozen=True)
class Done:
    """A step whose work has been given to the device."""

    step: int
    batch: Batch
    rates: Rates
    event: Any
    loss: Callable[[], float]  # valid after the event


class CapturedSteps:
    """Training steps of `classifier` on full batches; see `possible`."""

    def __init__(self, classifier: Classifier, loss, seed: int):
        self.classifier, self.loss, self.seed = classifier, loss, seed
        self.recipe, self.network = classifier.model.recipe, classifier.model.network
        self.sgd = SGD(self.recipe)
        self.b: Any = classifier.backend  # a CupyBackend
        self._pending: deque[Done] = deque()
        self._made_for: list[Any] = []
        self._outdated = False

    def takes(self, batch: Batch) -> bool:
        """Whether a batch is of the size that is captured."""
        return len(batch) == self.recipe.batch_size

    def outdated(self) -> None:
        """To be told when parameters were changed by others."""
        self._outdated = True

    def start(self, state: State, batch: Batch, rates: Rates) -> None:
        """Give the device one step."""
        self._prepare(state, batch)
        draws, scale = self.classifier.preprocessing.training_draws(
            batch.positions, seed=self.seed, epoch=state.epoch, noise=rates.colour_noise
        )
        self._inputs.give(
            {
                "images": batch.images,
                "labels": batch.labels,
                "place": np.stack((draws.top, draws.left, draws.flip), axis=1),
                "shift": draws.shift,
                "scale": scale,
                "rates": [self.sgd.rate(rates, *place) for place in self._places],
                "step": state.step,
            }
        )
        self._recording.run()
        self._pending.append(Done(state.step, batch, rates, *self._ring.fetch(state.step)))

    def again(self) -> None:
        """The last step's work once more, on the batch that is there: for measuring."""
        self._recording.run()

    def finished(self, all_of_them: bool = False) -> Iterator[Done]:
        """Steps whose losses are here, in order; without `all_of_them`, hardly waiting."""
        while self._pending:
            if not (all_of_them or len(self._pending) > _LAG or self._pending[0].event.done):
                return
            done = self._pending.popleft()
            done.event.synchronize()
            yield done

    # ------------------------------------------------------------------------------ the graph

    def _prepare(self, state: State, batch: Batch) -> None:
        """Record the graph anew if the arrays are others than the ones it was made for."""
        trees = (state.params, state.velocities)
        arrays = [x for tree in trees for of_layer in tree.values() for x in of_layer.values()]
        if len(arrays) != len(self._made_for) or any(
            a is not b for a, b in zip(arrays, self._made_for, strict=True)
        ):
            self._record(state, batch)
            self._made_for = arrays
        elif self._outdated:
            self.b.refresh_params(state.params, self._own)
        self._outdated = False

    def _record(self, state: State, batch: Batch) -> None:
        from minialex.backends.cuda.graph import Field, Inputs, Recording, Ring

        b, n = self.b, len(batch)
        kind = self.classifier.dtype
        self._params, self._velocities = state.params, state.velocities
        self._places = [(layer, name) for layer, of in state.params.items() for name in of]
        self._own = b.cast_params(state.params)
        self._mean = b.asarray(self.classifier.preprocessing.mean, kind)
        self._ring = Ring(b.queue, kind)
        self._inputs = Inputs(
            b.queue,
            {
                "images": Field(batch.images.shape, "uint8"),
                "labels": Field((n,), "int64"),
                "place": Field((n, 3), "int32"),
                "shift": Field((n, 3), kind),
                "scale": Field((1,), kind),
                "rates": Field((len(self._places),), kind),
                "step": Field((1,), "uint32"),
            },
        )
        self._recording = Recording(b.queue, self._step)

    def _step(self) -> None:
        """Everything between a batch's bytes and the new parameters, from device memory alone."""
        b, at = self.b, self._inputs.arrays
        fixed = self.classifier.preprocessing.mean_corner
        corner = (-1, -1) if fixed is None else (fixed, fixed)
        view = (self.recipe.crop, self._mean, corner, at["shift"], at["scale"])
        kind = b.compute_dtype(self.classifier.dtype)
        channels = input_channels(b, self.network, self.classifier.dtype)
        x = b.crops_at(at["images"], at["place"], *view, kind, channels)
        mode = Mode(training=True, seed=self.seed, step=at["step"])
        scores, saved = self.network.forward(b, self._own, x, mode)
        value, dscores = self.loss(b, scores, at["labels"], None, 1.0)
        grads = self.network.backward(b, self._own, saved, dscores)
        b.keep_loss(value, at["step"], self._ring)
        arrays = []
        for layer, name in self._places:
            weight, own = self._params[layer][name], self._own[layer][name]
            copy = None if own is weight else own
            velocity, gradient = self._velocities[layer][name], grads[layer][name]
            arrays.append((weight, velocity, gradient, copy))
        decays = [self.sgd.decay(*place) for place in self._places]
        momentum, halted = self.recipe.momentum, self._ring.halted
        b.captured_updates(arrays, decays, momentum, at["rates"], halted)


def input_channels(b: Any, network: Network, dtype: str) -> int:
    """How many channels images have in a captured step: some zeros may be copied faster."""
    first, channels = network.layers[0][1], network.input_shape[2]
    if not isinstance(first, Conv2D):
        return channels
    return b.channels_to_copy(channels, first.channels, first.groups, dtype)


def possible(classifier: Classifier, loss, seed: int) -> CapturedSteps | None:
    """Captured steps for a classifier of photographs whose backend can, else None."""
    b, coloured = classifier.backend, classifier.model.network.input_shape[2] == 3
    if isinstance(b, Backend) and b.captures_steps and coloured:
        return CapturedSteps(classifier, loss, seed)
    return None
