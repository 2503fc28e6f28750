"""Batch normalisation (Ioffe & Szegedy, 2015)."""

from math import prod

from minialex.backends.base import Array
from minialex.backends.generic.arrays import GenericArrays


class GenericBatchNorm(GenericArrays):
    """Batch normalisation."""

    def batch_statistics(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance over all axes but the last: x (..., C) -> (C,), (C,)."""
        mean = self._means(x)
        return mean, self._means((x - mean) ** 2)

    def batch_norm(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
    ) -> Array:
        """y = weight (x - mean) / √(variance + ε) + bias: x (..., C), the others (C,)."""
        return (x - mean) * (weight / self.xp.sqrt(variance + epsilon)) + bias

    def batch_norm_gradient(
        self,
        dy: Array,
        x: Array,
        weight: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
    ) -> tuple[Array, Array, Array]:
        """dx, dweight, dbias; `mean` and `variance` are those of x, and change with it."""
        size, inverse = prod(x.shape[:-1]), 1 / self.xp.sqrt(variance + epsilon)
        z, axes = (x - mean) * inverse, tuple(range(x.ndim - 1))
        dw, db = self.xp.sum(dy * z, axis=axes), self.xp.sum(dy, axis=axes)
        return (dy - db / size - z * (dw / size)) * (weight * inverse), dw, db

    def running_average(self, average: Array, new: Array, keep: float, share: float) -> Array:
        """The running statistics after one more step."""
        return average * keep + new * share

    def _means(self, x: Array) -> Array:
        """Means over all but the last axis, one axis at a time: short sums round less."""
        while x.ndim > 1:
            x = self.xp.mean(x, axis=-2)
        return x
