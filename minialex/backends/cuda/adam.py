"""Adam's update: adam.cu."""

from collections.abc import Sequence
from typing import Any

from minialex.backends.base import Array
from minialex.backends.cuda.execution import CudaExecution
from minialex.backends.generic.adam import adam_factors


class CudaAdam(CudaExecution):
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
        w, m, s, g = (self._packed(x) for x in (weight, mean, square, gradient))
        factors = adam_factors(rate, step, beta1, beta2)
        self._adam((w, m, s, g, None), factors, (decay, beta1, beta2, epsilon))
        return w, m, s

    def captured_adam_updates(
        self,
        arrays: Sequence[tuple],
        decays: Sequence[float],
        changing: Array,
        beta1: float,
        beta2: float,
        epsilon: float,
        guard: Any,
    ) -> None:
        """`adam_update` of many arrays for a captured step: see `Optimizer.compiled_update`."""
        for j, (of_parameter, decay) in enumerate(zip(arrays, decays, strict=True)):
            constants = (decay, beta1, beta2, epsilon)
            self._adam(of_parameter, (0.0, 0.0), constants, (changing, j, len(arrays)), guard)

    def _adam(
        self,
        arrays: tuple,
        factors: tuple[float, float],
        constants: tuple[float, float, float, float],
        changing: tuple = (None, 0, 0),
        guard: Any = None,
    ) -> None:
        w, m, s, g, copy = arrays
        if not w.dtype == m.dtype == s.dtype == g.dtype:
            raise TypeError("parameters, means, squares and gradients must share one type")
        decay, beta1, beta2, epsilon = constants
        numbers = (*factors, decay, beta1, 1 - beta1, beta2, 1 - beta2, epsilon)
        reads: tuple = (None, 1.0, None, None)
        if guard is not None:
            reads = guard.stopped, 1.0, guard.factor, guard.row
        arguments = (w, m, s, g, copy, w.size, *numbers, *changing, *reads)
        storage = self.compute_dtype(w.dtype.name)
        self._run("adam", "adam", arguments, w.size, storage=storage)
