"""The paper's update (section 5): momentum and weight decay, learning rate in the velocity."""

from collections.abc import Sequence

from minialex.backends.base import Array
from minialex.backends.generic.arrays import GenericArrays


class GenericSGD(GenericArrays):
    """Updates."""

    def sgd_update(
        self,
        weight: Array,
        velocity: Array,
        gradient: Array,
        rate: float,
        momentum: float,
        decay: float,
    ) -> tuple[Array, Array]:
        """v <- momentum v - decay rate w - rate g; w <- w + v (paper, section 5): (w, v)."""
        if rate == 0:
            return weight, velocity
        velocity = momentum * velocity - (decay * rate) * weight - rate * gradient
        return weight + velocity, velocity

    def sgd_updates(self, updates: Sequence[tuple], momentum: float) -> list[tuple[Array, Array]]:
        """`sgd_update` of many arrays, each (weight, velocity, gradient, rate, decay)."""
        return [self.sgd_update(w, v, g, rate, momentum, decay) for w, v, g, rate, decay in updates]
