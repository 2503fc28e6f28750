"""Whole training steps as one CUDA graph each, with the same bits as op by op.

Augmentation, forward, backward and update are captured once. What differs between steps (images,
labels, crop positions, learning rates, the step number) is first copied to fixed addresses in
device memory. The loss comes back a few steps later, so that the host never waits for it; a loss
that is not finite stops all later updates on the device until the host sees it.
"""

from collections.abc import Callable
from typing import Any

from minialex.backends.cuda.graph import Field, Inputs, Recording, Ring
from minialex.tree import Tree, leaves


class CompiledStep:
    """Steps of `step` (a `training.step.TrainStep`) on the CUDA backend `b`."""

    lag = 4  # steps whose losses may be pending

    def __init__(self, b: Any, step: Any):
        self.b, self.step = b, step
        self._captured_for: list[Any] = []
        self._last = -1  # the last step made here

    def start(
        self, state: Any, batch: Any, rates: Any
    ) -> tuple[Callable[[], float], Callable[[], bool]]:
        """Launch one step; returns functions that wait for its loss and tell if it is ready."""
        values = self.step.host_arrays(state, batch, rates)
        self._prepare(state, values)
        self._inputs.give(values)
        self._recording.run()
        self._last = state.step
        event, loss = self._ring.fetch(state.step)

        def wait() -> float:
            event.synchronize()
            return loss()

        return wait, lambda: event.done

    def replay(self) -> None:
        """Repeat the last step's work on the same batch, for benchmarks."""
        self._recording.run()

    # ------------------------------------------------------------------------------ the graph

    def _prepare(self, state: Any, values: dict[str, Any]) -> None:
        """Capture again if the arrays have been replaced; refresh what others changed."""
        arrays = [x for tree in (state.params, *state.slots.values()) for *_, x in leaves(tree)]
        if len(arrays) != len(self._captured_for) or any(
            a is not b for a, b in zip(arrays, self._captured_for, strict=True)
        ):
            self._capture(state.params, state.slots, values)
            self._captured_for = arrays
        elif state.step != self._last + 1:
            self.b.refresh_params(state.params, self._cast)

    def _capture(self, params: Tree, slots: dict[str, Tree], values: dict[str, Any]) -> None:
        b = self.b
        self._params, self._slots = params, slots
        self._cast = b.cast_params(params)
        self._constants = self.step.feed.constants(b)
        self._ring = Ring(b.stream, self.step.dtype)
        fields = {name: Field(x.shape, x.dtype.name) for name, x in values.items()}
        self._inputs = Inputs(b.stream, fields)
        self._recording = Recording(b.stream, self._body)

    def _body(self) -> None:
        """Everything from a batch's bytes to the new parameters, using only device memory."""
        b, step = self.b, self.step
        arrays = {**self._inputs.arrays, **self._constants}
        loss, grads = step.device_gradients(b, self._cast, arrays)
        b.keep_loss(loss, arrays["step"], self._ring)
        updates, trained = [], self.step.network.trainable(self._params)
        for layer, name, weight in leaves(trained):
            cast = self._cast[layer][name]
            copy = None if cast is weight else cast
            slots = (tree[layer][name] for tree in self._slots.values())
            updates.append((weight, *slots, grads[layer][name], copy))
        decays, halted = step.decays(trained), self._ring.halted
        step.optimizer.compiled_update(b, updates, decays, arrays["changing"], halted)
        for layer, name, shares in step.statistics(arrays["labels"].shape[0]):
            b.captured_average(self._params[layer][name], grads[layer][name], *shares, halted)
