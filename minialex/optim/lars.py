"""Layer-wise adaptive rate scaling, for large batches.

You, Gitman & Ginsburg, "Large batch training of convolutional networks", 2017.
"""

from dataclasses import dataclass

from minialex.optim.base import Rates, Slots, Updatable, trained
from minialex.optim.sgd import SGD
from minialex.tree import Tree

ETA = 0.001  # the trust coefficient of the published runs


@dataclass(frozen=True)
class LARS(SGD):
    """SGD whose learning rate for each array is multiplied by η |w| / (|g| + decay |w|).

    Where w or g is zero, as biases are at the start, the rate stays as it is, like in the published
    code. Without `decay_in_norm` the factor is η |w| / |g|. It runs op by op.
    """

    eta: float = ETA
    decay_in_norm: bool = True

    @property
    def compilable(self) -> bool:
        return False

    def update(
        self, b: Updatable, params: Tree, slots: Slots, grads: Tree, rates: Rates, step: int = 0
    ) -> None:
        factors = {
            key: self._factor(b, params[key[0]][key[1]], grads[key[0]][key[1]], self.decay(*key))
            for key in trained(params, grads)
        }
        _Scaled(self.recipe, factors).update(b, params, slots, grads, rates, step)

    def _factor(self, b: Updatable, weight: object, gradient: object, decay: float) -> float:
        w, g = b.sum_of_squares(weight) ** 0.5, b.sum_of_squares(gradient) ** 0.5
        if w == 0 or g == 0:
            return 1.0
        return self.eta * w / (g + (decay * w if self.decay_in_norm else 0.0))


@dataclass(frozen=True)
class _Scaled(SGD):
    """SGD with a factor for the learning rate of each (layer, parameter)."""

    factors: dict[tuple[str, str], float]

    def rate(self, rates: Rates, layer: str, parameter: str) -> float:
        return super().rate(rates, layer, parameter) * self.factors[layer, parameter]
