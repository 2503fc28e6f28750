"""The paper's stochastic gradient descent (section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minialex.optim.base import Optimizer, Rates, Slots, Updatable, trained
from minialex.tree import Tree

VELOCITY = "velocity"


@dataclass(frozen=True)
class SGD(Optimizer):
    """v <- momentum v - decay ε w - ε g; w <- w + v: the learning rate ε is inside the velocity.

    After a drop of the rate, the old velocity therefore keeps its larger scale for about ten steps,
    unlike in libraries that multiply the velocity by the rate. At a rate of 0 nothing
    moves, as in the authors' code: the old velocity stays and carries a frozen weight no further.
    """

    @property
    def slots(self) -> tuple[str, ...]:
        return (VELOCITY,)

    @property
    def compilable(self) -> bool:
        return True

    def compiled_update(
        self, b: Any, arrays: Sequence[tuple], decays: Sequence[float], changing: Any, guard: Any
    ) -> None:
        b.captured_updates(arrays, decays, self.recipe.momentum, changing, guard)

    def update(
        self, b: Updatable, params: Tree, slots: Slots, grads: Tree, rates: Rates, step: int = 0
    ) -> None:
        velocities, names = slots[VELOCITY], trained(params, grads)
        updates = [
            (
                params[layer][name],
                velocities[layer][name],
                grads[layer][name],
                self.rate(rates, layer, name),
                self.decay(layer, name),
            )
            for layer, name in names
        ]
        updated = b.sgd_updates(updates, self.recipe.momentum)
        for (layer, name), (weight, velocity) in zip(names, updated, strict=True):
            params[layer][name], velocities[layer][name] = weight, velocity
