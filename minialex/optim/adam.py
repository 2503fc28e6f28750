"""Adam (Kingma & Ba, 2015): steps that do not depend on the scale of the gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from minialex.backends.generic.adam import adam_factors
from minialex.optim.base import Optimizer, Placed, Rates, Slots
from minialex.tree import Tree

MEAN, SQUARE = "mean", "square"
_BETAS, _EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam as published, with β1 = 0.9 and β2 = 0.999; the decay is part of the gradient.

    The same update as `torch.optim.Adam` with its `weight_decay`.
    """

    @property
    def slots(self) -> tuple[str, ...]:
        return (MEAN, SQUARE)

    @property
    def compilable(self) -> bool:
        return True

    def changing(self, params: Tree, rates: Rates, step: int) -> list[float]:
        """A size for each parameter, then what corrects all of the squares' roots."""
        of_parameters = super().changing(params, rates, step)
        factors = [adam_factors(rate, step, *_BETAS) for rate in of_parameters]
        return [size for size, _ in factors] + [adam_factors(0.0, step, *_BETAS)[1]]

    def compiled_update(
        self, b: Any, arrays: Sequence[tuple], decays: Sequence[float], changing: Any, guard: Any
    ) -> None:
        b.captured_adam_updates(arrays, decays, changing, *_BETAS, _EPSILON, guard)

    def update(
        self, b: Placed, params: Tree, slots: Slots, grads: Tree, rates: Rates, step: int = 0
    ) -> None:
        self._update_arrays(b, params, slots, grads, rates, partial(_on_one_device, step))


def _on_one_device(step: int, b: Any, updates: Sequence[tuple]) -> list[tuple]:
    return [b.adam_update(*update, step, *_BETAS, _EPSILON) for update in updates]
