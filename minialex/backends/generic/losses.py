"""The losses over scores (N, K) and labels: a mean over images, and its gradient."""

from minialex.backends.base import Array
from minialex.backends.generic.arrays import GenericArrays


class GenericLosses(GenericArrays):
    """Losses."""

    def softmax_cross_entropy(
        self, scores: Array, labels: Array, count: int | None = None, dloss: float = 1.0
    ) -> tuple[Array, Array]:
        """Mean of -log softmax(scores)[label] and its gradient: scores (N, K), labels (N,).

        With `count`, the sum is divided by `count` instead of N, because the images are part of a
        larger batch. `dloss` is the upstream gradient: 1, or the loss scale.
        """
        xp, n = self.xp, count or scores.shape[0]
        shifted = scores - xp.max(scores, axis=1, keepdims=True)
        powers = xp.exp(shifted)
        sums = xp.sum(powers, axis=1, keepdims=True)
        target = self._one_hot(scores, labels)
        loss = xp.sum(xp.log(sums[:, 0]) - xp.sum(shifted * target, axis=1)) / n
        return loss, (powers / sums - target) * (dloss / n)

    def soft_cross_entropy(
        self, scores: Array, targets: Array, count: int | None = None, dloss: float = 1.0
    ) -> tuple[Array, Array]:
        """Mean of -Σ t log softmax(scores) and its gradient: scores and targets t (N, K).

        A row of targets may have any sum: 1 for MixUp and smoothed labels, or the weight of a
        weighted image.
        """
        xp, n = self.xp, count or scores.shape[0]
        targets = xp.astype(targets, scores.dtype, copy=False)
        shifted = scores - xp.max(scores, axis=1, keepdims=True)
        powers = xp.exp(shifted)
        sums = xp.sum(powers, axis=1, keepdims=True)
        weights = xp.sum(targets, axis=1, keepdims=True)
        loss = xp.sum(weights * xp.log(sums)) - xp.sum(shifted * targets)
        return loss / n, (powers / sums * weights - targets) * (dloss / n)

    def hinge(
        self,
        scores: Array,
        labels: Array,
        margin: float,
        count: int | None = None,
        dloss: float = 1.0,
    ) -> tuple[Array, Array]:
        """Multiclass hinge: mean of Σ_{j≠y} max(0, s_j - s_y + Δ) and its gradient."""
        xp, n = self.xp, count or scores.shape[0]
        target = self._one_hot(scores, labels)
        own = xp.sum(scores * target, axis=1, keepdims=True)
        over = (scores - own + margin) * (1.0 - target)
        violated = xp.astype(over > 0, scores.dtype)
        loss = xp.sum(over * violated) / n
        per_label = xp.sum(violated, axis=1, keepdims=True)
        return loss, (violated - target * per_label) * (dloss / n)

    def softmax(self, logits: Array) -> Array:
        """Probabilities along the last axis."""
        powers = self.xp.exp(logits - self.xp.max(logits, axis=-1, keepdims=True))
        return powers / self.xp.sum(powers, axis=-1, keepdims=True)

    def _one_hot(self, scores: Array, labels: Array) -> Array:
        classes = self.xp.arange(scores.shape[1], dtype=labels.dtype, device=self.device)
        return self.xp.astype(labels[:, None] == classes[None, :], scores.dtype)
