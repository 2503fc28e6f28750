"""The paper's update (section 5): momentum and weight decay, the rate inside the velocity."""

from collections.abc import Sequence

from minialex.backends.base import Array
from minialex.backends.generic.arrays import GenericArrays


class GenericSGD(GenericArrays):
    """Updates."""

    def sgd_update(self, weight, velocity, gradient, rate: float, momentum: float, decay: float):
        """v <- momentum v - decay rate w - rate g; w <- w + v (paper, section 5): (w, v)."""
        velocity = momentum * velocity - (decay * rate) * weight - rate * gradient
        return weight + velocity, velocity

    def sgd_updates(
        self, updates: Sequence[tuple], momentum: float, gradient_scale: float = 1.0
    ) -> list[tuple[Array, Array]]:
        """`sgd_update` of many arrays, each (weight, velocity, gradient, rate, decay).

        All gradients are first multiplied by `gradient_scale`.
        """
        return [
            self.sgd_update(
                *(w, v, g if gradient_scale == 1.0 else self.scale(g, gradient_scale)),
                *(rate, momentum, decay),
            )
            for w, v, g, rate, decay in updates
        ]
