"""The losses over scores (N, K) and labels: loss.cu."""

from minialex.backends.base import Array
from minialex.backends.cuda import kernels
from minialex.backends.cuda.execution import CudaExecution


class CudaLosses(CudaExecution):
    """Losses."""

    def softmax_cross_entropy(self, scores, labels, count=None, scale=1.0):
        return self._loss("softmax_cross_entropy", scores, labels, (), count, scale)

    def hinge(self, scores, labels, margin, count=None, scale=1.0):
        return self._loss("hinge", scores, labels, (margin,), count, scale)

    def _loss(self, kernel, scores, labels, more, count, scale) -> tuple[Array, Array]:
        scores = self._packed(scores)
        n, k = scores.shape
        factor = 1 / (count or n)
        dscores = self._new(scores.shape, scores)
        losses = self._new((n,), kernels.accumulator(scores.dtype.name))
        total = self._new((), losses)
        arguments = (scores, labels, dscores, losses, n, k, *more, factor * scale)
        self._run("loss", kernel, arguments, grid=(n,), block=(128,))
        arguments = (losses, total, n, factor)
        self._run("loss", "row_total", arguments, grid=(1,), block=(128,), storage=scores.dtype)
        return total, dscores

    def keep_loss(self, loss, step, ring) -> None:
        """For a captured step: the loss of `step` to its place in the ring (see `graph.Ring`)."""
        arguments = (loss, step, ring.losses, ring.size, ring.halted)
        self._run("loss", "keep_loss", arguments, grid=(1,), block=(32,), storage=loss.dtype)

    def softmax(self, logits):
        logits = self._packed(logits)
        p = self._new(logits.shape, logits)
        n, k = logits.shape
        self._run("loss", "softmax", (logits, p, n, k), grid=(n,), block=(128,))
        return p
