"""A training step: the one place where forward, loss, backward and update meet.

    step = TrainStep(network, devices, loss, SGD(recipe))
    state = step.init(seed=0)
    loss = step(state, (images, labels), rates)

Steps run asynchronously: `start` begins one, and `finished` returns the losses that are ready,
which on a GPU is some steps later; calling the step does both. If the backend can compile steps,
full batches run compiled, with bit-for-bit the same result.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from minialex import backends
from minialex.backends.base import Backend
from minialex.errors import InputError
from minialex.layers import Mode
from minialex.losses import Loss
from minialex.network import Network
from minialex.optim import Optimizer, Rates, Slots
from minialex.parallel import Devices
from minialex.parallel.gradient_sum import GradientSum
from minialex.parallel.world import World
from minialex.precision import LossScale, check_training
from minialex.training.feed import Feed, Tensors
from minialex.training.micro_batches import MicroBatches, of_arrays
from minialex.tree import Tree, leaves


@dataclass
class StepState:
    """Parameters, their optimiser slots, and counters: everything that a step changes."""

    params: Tree
    slots: Slots
    step: int = 0  # steps done
    epoch: int = 0  # epochs finished
    loss_scale: float = LossScale.value  # of fp16 (see `LossScale`)
    good_steps: int = 0
    since: int = 0  # the step at which the slots were zeros
    skipped: int = 0  # steps since then that changed nothing, by an overflow in fp16

    @property
    def updates(self) -> int:
        """Updates of the slots since they were zeros."""
        return self.step - self.since - self.skipped


@dataclass(frozen=True)
class Done:
    """A finished step, and its loss before the update.

    If the loss is not finite, neither this step nor any later one updated the parameters.
    """

    step: int
    batch: Any
    rates: Rates
    loss: float

    @property
    def finite(self) -> bool:
        """Whether the loss is a number."""
        return bool(np.isfinite(self.loss))


@dataclass(frozen=True)
class _Pending:
    step: int
    batch: Any
    rates: Rates
    loss: Callable[[], float]
    ready: Callable[[], bool]


class TrainStep:
    """Steps of `network` on `devices`.

    `optimizer` minimises `loss`; `feed` turns batches into inputs (default: host arrays, used as
    is). `batch_size` is the size of full batches, which may run compiled; None disables that.
    With `micro_batch`, a batch is computed in parts of so many images, op by op, and their
    gradients are summed in a fixed binary tree; batches are `MicroBatches`, or host arrays. The
    ranks of `world` share them out; if `linked`, their gradients go from device to device where
    that is possible. A batch without a readable image makes no step.
    """

    def __init__(
        self,
        network: Network,
        devices: Devices,
        loss: Loss,
        optimizer: Optimizer,
        *,
        feed: Feed | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        dtype: str = "float32",
        micro_batch: int | None = None,
        world: World = World(),  # noqa: B008  it has no state
        linked: bool = True,
    ):
        check_training(devices.precision)
        self.network, self.devices, self.loss, self.optimizer = network, devices, loss, optimizer
        self.feed: Feed = feed or Tensors(dtype)
        self.batch_size, self.seed, self.dtype = batch_size, seed, dtype
        self.micro_batch, self.world = micro_batch, world
        rates = optimizer.recipe.layer_rates
        self._fixed = tuple(n for n in network.layers_with_statistics if rates.get(n) == 0)
        self._pending: deque[_Pending] = deque()
        self._exchange_seconds = 0.0
        self.link = world.link(devices.backends) if linked and micro_batch is not None else None
        # each device has images
        whole = micro_batch is None and (batch_size or 0) >= len(devices.backends)
        compilable = whole and self.feed.compilable and optimizer.compilable
        self._compiled = devices.compile(self) if compilable else None

    def init(self, seed: int = 0) -> StepState:
        """The state before the first step."""
        params = self.devices.to_devices(self.network.init(backends.get("numpy"), seed, self.dtype))
        slots = self.optimizer.start(self.devices, self.network.trainable(params))
        return StepState(params, slots)

    def __call__(self, state: StepState, batch: Any, rates: Rates) -> float:
        """Run a step and wait for it; returns the loss before the update, NaN without images."""
        self.start(state, batch, rates)
        losses = [done.loss for done in self.finished(wait=True)]
        return losses[-1] if losses else np.nan

    def start(self, state: StepState, batch: Any, rates: Rates) -> None:
        """Start one step on the devices; updates the parameters in `state` and `state.step`."""
        compiled = self._compiled
        if compiled is not None and self._is_full(batch):
            loss, ready = compiled.start(state, batch, rates)
            self._pending.append(_Pending(state.step, batch, rates, loss, ready))
        elif all(np.isfinite(pending.loss()) for pending in self._pending):
            if self.micro_batch is not None and not isinstance(batch, MicroBatches):
                batch = of_arrays(batch, self.micro_batch, self.world)
            value = self._run(state, batch, rates)
            if isinstance(batch, MicroBatches) and not batch.images:
                return
            self._pending.append(_Pending(state.step, batch, rates, lambda: value, lambda: True))
        else:  # not run: `forget` counts its images
            self._pending.append(_Pending(state.step, batch, rates, lambda: np.nan, lambda: True))
        state.step += 1

    def finished(self, wait: bool = False) -> Iterator[Done]:
        """Steps whose losses are ready, in order; with `wait`, all started steps."""
        lag = 0 if self._compiled is None else self._compiled.lag
        while self._pending:
            first = self._pending[0]
            if not (wait or len(self._pending) > lag or first.ready()):
                return
            self._pending.popleft()
            yield Done(first.step, first.batch, first.rates, first.loss())

    def take_exchange_seconds(self) -> float:
        """How long steps have waited for the sums over the ranks since the last call."""
        taken, self._exchange_seconds = self._exchange_seconds, 0.0
        return taken

    def forget(self) -> int:
        """Discard the steps started after a NaN or Inf loss; returns their number of images."""
        images = sum(self._images(one.batch) for one in self._pending)
        self._pending.clear()
        return images

    def replay(self) -> None:
        """Repeat the last compiled step's work on the same batch, for benchmarks."""
        if self._compiled is None:
            raise InputError("this step is not compiled")
        self._compiled.replay()

    def mode(self, step: Any) -> Mode:
        """The mode of the pass of `step`."""
        return Mode(training=True, seed=self.seed, step=step, fixed=self._fixed)

    # ------------------------------------------------------------------------------ compiled
    # For backends that compile steps: the host's part of a step, and the device's.

    def host_arrays(self, state: StepState, batch: Any, rates: Rates) -> dict[str, np.ndarray]:
        """What changes every step, with one row for each image, and all "labels"."""
        return {
            **self.feed.host_arrays(batch, state.epoch, rates.colour_noise),
            "labels": self._typed(self.feed.targets(batch, state.epoch)),
        }

    def changing(self, state: StepState, rates: Rates, rows: int = 1) -> list[list[float]]:
        """The optimiser's numbers of a step: see `Optimizer.changing`.

        Row k is for k more skipped steps than the host knows of.
        """
        trained = self.network.trainable(state.params)
        return [
            self.optimizer.changing(trained, rates, max(0, state.updates - k)) for k in range(rows)
        ]

    def statistics(self, images: int) -> list[tuple[str, str, tuple[float, float]]]:
        """The running statistics that a step of `images` images changes, as (layer, name, shares).

        The shares are those of the old average and of the new sum over these images.
        """
        part = min(1.0, images / (self.batch_size or images))
        found = []
        for layer, of_layer in self.network.layers_with_statistics.items():
            share = (1 - of_layer.keep) * part
            shares = (of_layer.keep if part == 1 else 1 - share, share / images)
            if layer not in self._fixed:
                found += [(layer, name, shares) for name in of_layer.statistics]
        return found

    # ------------------------------------------------------------------------------ op by op

    def _run(self, state: StepState, batch: Any, rates: Rates) -> float:
        scaling = self.devices.precision.loss_scaling
        scale = LossScale(state.loss_scale, state.good_steps) if scaling else LossScale(1.0)
        with np.errstate(all="ignore"):  # a loss that is not finite is reported, not warned of
            gradients = self._gradients if self.micro_batch is None else self._summed_gradients
            loss, grads = self.world.together(lambda: gradients(state, batch, rates, scale.value))
            if isinstance(batch, MicroBatches) and not batch.images:
                return loss()
            overflow = scaling and not self.devices.all_finite(*(x for *_, x in leaves(grads)))
            value = loss()
            if np.isfinite(value) and not overflow:
                if scaling:
                    self._scale(grads, 1 / scale.value)
                own = self.network.trainable(grads)
                self.optimizer.update(
                    self.devices, state.params, state.slots, own, rates, state.updates
                )
                self._keep_statistics(state.params, grads, self._images(batch))
            else:
                state.skipped += 1
        if scaling:
            after = scale.after(overflow)
            state.loss_scale, state.good_steps = after.value, after.good_steps
        return value

    def _gradients(
        self, state: StepState, batch: Any, rates: Rates, scale: float
    ) -> tuple[Callable[[], float], Tree]:
        inputs = self.feed.inputs(batch, state.epoch, rates.colour_noise)
        targets, mode = self.feed.targets(batch, state.epoch), self.mode(state.step)
        return self.devices.gradients(state.params, inputs, targets, self.loss, mode, scale)

    def _summed_gradients(
        self, state: StepState, batch: MicroBatches, rates: Rates, scale: float
    ) -> tuple[Callable[[], float], Tree]:
        """The same, as a sum over micro-batches."""
        layers = [layer for layer in self.network.parameter_shapes() if layer in state.params]
        where = (self.world, self.dtype, self.link)
        sums = GradientSum(self.devices, batch.count, layers[::-1], *where)
        positions = batch.end - batch.start
        for index, part in batch.parts():
            sums.skip_to(index)
            inputs = self.feed.inputs(part, state.epoch, rates.colour_noise)
            targets = self.feed.targets(part, state.epoch)
            mode = replace(self.mode(state.step), first_image=index * batch.size)
            of_part, _ = self.devices.gradients(
                state.params,
                inputs,
                targets,
                self.loss,
                mode,
                scale,
                count=positions,
                on_gradients=partial(sums.add, index),
            )
            value = of_part()
            sums.add_loss(index, value, len(targets))
            if batch.suspect is None and not np.isfinite(value):
                batch.suspect = index, part
        since = time.perf_counter()
        value, batch.images, grads = sums.total()
        self._exchange_seconds += time.perf_counter() - since
        if 0 < batch.images < positions:  # some images could not be read
            value *= positions / batch.images
            self._scale(grads, positions / batch.images)
        return lambda: value, grads

    def _scale(self, grads: Tree, factor: float) -> None:
        """Multiply all gradients in `grads`, but not the statistics beside them."""
        names = [(layer, name) for layer, name, _ in leaves(self.network.trainable(grads))]
        for layer, name in names:  # one by one, to free each old one at once
            grads[layer][name] = self.devices.scale(grads[layer][name], factor)

    def _keep_statistics(self, params: Tree, grads: Tree, images: int) -> None:
        """Average the statistics of `images` images into the running ones.

        An epoch's last, smaller batch counts in proportion: one image alone has no variance.
        """
        found = [
            (layer, name, (params[layer][name], grads[layer][name], *shares))
            for layer, name, shares in self.statistics(images)
            if layer in grads
        ]
        made = self.devices.updates(_running_averages, [update for *_, update in found])
        for (layer, name, _), (average,) in zip(found, made, strict=True):
            params[layer][name] = average

    def _typed(self, targets: np.ndarray) -> np.ndarray:
        return np.asarray(targets, np.int64 if targets.ndim == 1 else self.dtype)

    def _is_full(self, batch: Any) -> bool:
        return self._images(batch) == self.batch_size

    def _images(self, batch: Any) -> int:
        return len(batch if isinstance(batch, MicroBatches) else self.feed.labels(batch))


def _running_averages(b: Backend, updates: Sequence[tuple]) -> list[tuple]:
    return [(b.running_average(*update),) for update in updates]
