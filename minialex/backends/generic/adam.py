"""Adam's update (Kingma & Ba, 2015)."""

from minialex.backends.base import Array
from minialex.backends.generic.arrays import GenericArrays


class GenericAdam(GenericArrays):
    """Updates."""

    def adam_update(
        self,
        weight: Array,
        mean: Array,
        square: Array,
        gradient: Array,
        rate: float,
        decay: float,
        step: int,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> tuple[Array, Array, Array]:
        """m <- β1 m + (1 - β1) g; s <- β2 s + (1 - β2) g²; w <- w - ε m' / (√s' + epsilon).

        Here g is the gradient with decay w added, ε the learning rate, and m' and s' are without
        their bias towards zero: m / (1 - β1^t) and s / (1 - β2^t), t = step + 1.
        """
        gradient = gradient + decay * weight
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient * gradient
        size, correction = adam_factors(rate, step, beta1, beta2)
        weight = weight - size * mean / (self.xp.sqrt(square) * correction + epsilon)
        return weight, mean, square


def adam_factors(rate: float, step: int, beta1: float, beta2: float) -> tuple[float, float]:
    """ε / (1 - β1^t) and 1 / √(1 - β2^t), t = step + 1."""
    return rate / (1 - beta1 ** (step + 1)), (1 - beta2 ** (step + 1)) ** -0.5
