"""Whole training steps as one CUDA graph each, with the same bits as op by op.

Augmentation, forward, backward and update are captured once, on all devices of the step together.
What differs between steps (images, labels, crop positions, learning rates, the step number) is
first copied to fixed addresses in device memory. The loss comes back a few steps later, so that the
host never waits for it; a loss that is not finite stops all later updates on the devices until the
host sees it. In fp16 the devices also decide whether to leave an update out, and adapt the loss
scale.
"""

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from minialex.backends.cuda.graph import Field, Guard, Inputs, Recording, Ring, Scaling
from minialex.tree import Tree, leaves


class CompiledStep:
    """Steps of `step` (a `training.step.TrainStep`), whose devices are of the CUDA backend."""

    lag = 4  # steps whose losses may be pending

    def __init__(self, step: Any):
        self.step = step
        self._captured_for: list[Any] = []
        self._last = -1  # the last step made here
        self._unseen: deque[Callable[[], float]] = deque()  # waits of steps not read yet

    @property
    def _scaled(self) -> bool:
        return self.step.devices.precision.loss_scaling

    def start(
        self, state: Any, batch: Any, rates: Any
    ) -> tuple[Callable[[], float], Callable[[], bool]]:
        """Launch one step; returns functions that wait for its loss and tell if it is ready."""
        while len(self._unseen) > self.lag:
            self._unseen.popleft()()
        values = self._host_values(state, batch, rates)
        self._prepare(state, values)
        for inputs, of_device in zip(self._inputs, values, strict=True):
            inputs.give(of_device)
        self._recording.run()
        self._last = state.step
        event, numbers = self._rings[0].fetch(state.step)

        @cache  # a later step may have changed the state again
        def wait() -> float:
            event.synchronize()
            *losses, scale, good_steps, skipped = numbers()
            if self._scaled:
                state.loss_scale, state.good_steps = scale, int(good_steps)
                state.skipped = int(skipped)
            return sum(losses)

        if self._scaled:
            self._unseen.append(wait)
        return wait, lambda: event.done

    def replay(self) -> None:
        """Repeat the last step's work on the same batch, for benchmarks."""
        self._recording.run()

    def _host_values(self, state: Any, batch: Any, rates: Any) -> list[dict[str, np.ndarray]]:
        """What changes, for each device."""
        step, devices = self.step, self.step.devices
        of_images = step.host_arrays(state, batch, rates)
        labels = of_images.pop("labels")
        # of all steps that the host has not seen, none to all may have been skipped
        rows = step.changing(state, rates, self.lag + 1 if self._scaled else 1)
        trained = list(leaves(step.network.trainable(state.params)))
        values = []
        for d, (low, high) in enumerate(devices.input_rows(len(labels))):
            changing: list[float] = []
            for row in rows:
                for number, (_, name, x) in zip(row, trained, strict=False):
                    changing += [number] * len(devices.arrays(name, x, d))
                changing += row[len(trained) :]
            values.append(
                {
                    **{name: x[low:high] for name, x in of_images.items()},
                    "labels": labels,
                    "changing": np.array(changing, step.dtype),
                    "step": np.array([state.step], np.uint32),
                    "skipped": np.array([state.skipped], step.dtype),
                }
            )
        return values

    # ------------------------------------------------------------------------------ the graph

    def _prepare(self, state: Any, values: list[dict[str, np.ndarray]]) -> None:
        """Capture again if the arrays have been replaced; refresh what others changed."""
        devices = self.step.devices
        arrays = [
            x
            for tree in (state.params, *state.slots.values())
            for d in range(len(devices.backends))
            for *_, x in leaves(devices.tree_of(tree, d))
        ]
        if len(arrays) != len(self._captured_for) or any(
            a is not b for a, b in zip(arrays, self._captured_for, strict=True)
        ):
            self._capture(state, values)
            self._captured_for = arrays
        elif state.step != self._last + 1:
            for d, b in enumerate(devices.backends):
                b.refresh_params(devices.tree_of(state.params, d), self._cast[d])
            self._put_scale(state)

    def _put_scale(self, state: Any) -> None:
        self._unseen.clear()
        for scaling in self._scalings:
            scaling.put(state.loss_scale, state.good_steps, state.skipped)

    def _capture(self, state: Any, values: list[dict[str, np.ndarray]]) -> None:
        devices, dtype = self.step.devices, self.step.dtype
        devices.synchronize()
        streams = [b.stream for b in devices.backends]
        self._params, self._slots = state.params, state.slots
        self._cast = devices.cast(state.params)
        self._constants, self._inputs = [], []
        for b, of_device in zip(devices.backends, values, strict=True):
            with b.device_context():
                self._constants.append(self.step.feed.constants(b))
            fields = {name: Field(x.shape, x.dtype.name) for name, x in of_device.items()}
            self._inputs.append(Inputs(b.stream, fields))
        self._rings = [Ring(stream, dtype, len(streams)) for stream in streams]
        self._scalings = [Scaling(stream, dtype) for stream in streams] if self._scaled else []
        self._put_scale(state)
        helpers = [b.stream for b in devices.helpers()]
        first, *ending = streams
        self._recording = Recording(first, self._body, [*ending, *helpers], ending)

    def _body(self) -> Any:
        """Everything from a batch's bytes to the new parameters, using only device memory.

        Returns what has to be kept until all devices have done it.
        """
        step, devices, backends = self.step, self.step.devices, self.step.devices.backends
        arrays = [
            {**of_device.arrays, **constants}
            for of_device, constants in zip(self._inputs, self._constants, strict=True)
        ]
        numbers = {b.stream: own["step"] for b, own in zip(backends, arrays, strict=True)}
        scales: Any = 1.0
        if self._scalings:
            for scaling in self._scalings:
                scaling.reset()
            by_stream = zip(backends, self._scalings, strict=True)
            scales = {b.stream: scaling.scale for b, scaling in by_stream}

        def inputs(b: Any, low: int, high: int) -> Any:
            d = backends.index(b)
            return step.feed.device_input(b, arrays[d], devices.input_network(d))

        def targets(b: Any, low: int, high: int) -> Any:
            return arrays[backends.index(b)]["labels"][low:high]

        images = arrays[0]["labels"].shape[0]
        how = (step.loss, step.mode(numbers), scales)
        losses, grads = devices.device_gradients(self._cast, inputs, targets, images, *how)
        for b, own, ring in zip(backends, arrays, self._rings, strict=True):
            for column, (owner, value) in enumerate(losses):
                b.keep_loss(_received(b, value, owner), own["step"], ring, column)
        self._check(grads, arrays)
        for d in range(len(backends)):
            self._update(d, grads, arrays[d]["changing"], images)
        return losses, grads

    def _check(self, grads: Tree, arrays: list[dict[str, Any]]) -> None:
        """In fp16: whether all devices' gradients are finite, and the next scale."""
        devices, backends = self.step.devices, self.step.devices.backends
        for d, scaling in enumerate(self._scalings):
            own = (x for *_, x in leaves(devices.tree_of(grads, d)))
            backends[d].find_bad(own, scaling.overflow)
        for d, scaling in enumerate(self._scalings):
            for owner, other in zip(backends, self._scalings, strict=True):
                if other is not scaling:
                    flag = _received(backends[d], other.overflow, owner)
                    backends[d].merge_flag(flag, scaling.overflow)
            known = arrays[d]["step"], arrays[d]["skipped"]
            backends[d].next_loss_scale(scaling, *known, self._rings[d])

    def _update(self, d: int, grads: Tree, changing: Any, images: int) -> None:
        step, devices = self.step, self.step.devices
        b, cast, updates, decays = devices.backends[d], self._cast[d], [], []
        for layer, name, x in leaves(step.network.trainable(self._params)):
            slots = (tree[layer][name] for tree in self._slots.values())
            held = [devices.arrays(name, one, d) for one in (x, *slots, grads[layer][name])]
            for key, weight in held[0].items():
                copy = None if cast[layer][key] is weight else cast[layer][key]
                updates.append((*(of[key] for of in held), copy))
                decays.append(step.optimizer.decay(layer, name))
        guard = self._scalings[d].guard if self._scalings else Guard(self._rings[d].halted)
        step.optimizer.compiled_update(b, updates, decays, changing, guard)
        for layer, name, shares in step.statistics(images):
            averages = devices.arrays(name, self._params[layer][name], d)
            found = devices.arrays(name, grads[layer][name], d)
            for key, average in averages.items():
                b.captured_average(average, found[key], *shares, guard.stopped)


def _received(b: Any, x: Any, owner: Any) -> Any:
    """x of another device on this one, for work after it has arrived."""
    copy, event = b.receive(x, owner)
    b.wait(event)
    return copy
