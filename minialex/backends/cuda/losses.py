"""The losses over scores (N, K) and labels: loss.cu."""

from typing import Any

from minialex.backends.base import Array
from minialex.backends.cuda import kernels
from minialex.backends.cuda.execution import CudaExecution
from minialex.precision import LossScale


class CudaLosses(CudaExecution):
    """Losses."""

    def softmax_cross_entropy(
        self, scores: Array, labels: Array, count: int | None = None, dloss: float = 1.0
    ) -> tuple[Array, Array]:
        return self._loss("softmax_cross_entropy", scores, labels, (), count, dloss)

    def soft_cross_entropy(
        self, scores: Array, targets: Array, count: int | None = None, dloss: float = 1.0
    ) -> tuple[Array, Array]:
        return self._loss("soft_cross_entropy", scores, self._packed(targets), (), count, dloss)

    def hinge(
        self,
        scores: Array,
        labels: Array,
        margin: float,
        count: int | None = None,
        dloss: float = 1.0,
    ) -> tuple[Array, Array]:
        return self._loss("hinge", scores, labels, (margin,), count, dloss)

    def _loss(
        self, kernel: str, scores: Array, wanted: Array, more: tuple, count: Any, dloss: Any
    ) -> tuple[Array, Array]:
        scores = self._packed(scores)
        n, k = scores.shape
        factor = 1 / (count or n)
        scale, scale_at = (1.0, self._own(dloss)) if isinstance(dloss, dict) else (dloss, None)
        dscores = self._new(scores.shape, scores)
        losses = self._new((n,), kernels.accumulator(scores.dtype.name))
        total = self._new((), losses)
        arguments = (scores, wanted, dscores, losses, n, k, *more, factor * scale, scale_at)
        self._run("loss", kernel, arguments, grid=(n,), block=(128,))
        arguments = (losses, total, n, factor)
        self._run("loss", "row_total", arguments, grid=(1,), block=(128,), storage=scores.dtype)
        return total, dscores

    def keep_loss(self, loss: Array, step: Array, ring: Any, column: int = 0) -> None:
        """For a captured step: store the loss of `step` in the ring buffer (see `graph.Ring`)."""
        arguments = (loss, step, ring.numbers, ring.size, ring.columns, column, ring.halted)
        self._run("loss", "keep_loss", arguments, grid=(1,), block=(32,), storage=loss.dtype)

    def next_loss_scale(self, scaling: Any, step: Array, known: Array, ring: Any) -> None:
        """For a captured step: adapt the loss scale (see `graph.Scaling`) after `step`.

        `known` is the number of skipped steps that the host knows of.
        """
        numbers, flags = scaling.numbers, scaling.flags
        constants = (ring.halted, LossScale.patience, LossScale.largest)
        of_ring = (ring.numbers, ring.size, ring.columns)
        arguments = (numbers, flags, *constants, step, known, *of_ring)
        how = {"grid": (1,), "block": (32,), "storage": numbers.dtype}
        self._run("loss", "next_loss_scale", arguments, **how)

    def softmax(self, logits: Array) -> Array:
        logits = self._packed(logits)
        p, k = self._new(logits.shape, logits), logits.shape[-1]
        n = logits.size // k
        self._run("loss", "softmax", (logits, p, n, k), grid=(n,), block=(128,))
        return p
