"""The losses over scores (N, K) and labels (N,) or targets (N, K): a mean and its gradient.

The L2 term of the paper's update is not part of the gradient here (it sits in `optim`, with its own
rate) and is reported on its own: `SGD.penalty`.
"""

from dataclasses import dataclass
from math import log
from typing import Protocol

from minialex.backends.base import Array, Backend
from minialex.errors import InputError, unknown

NEEDS_SOFTMAX = (
    "label smoothing, MixUp and class weights need the softmax loss: leave them out with the hinge "
    "loss"
)


class Loss(Protocol):
    """A mean over images, and its gradient."""

    def __call__(
        self,
        b: Backend,
        scores: Array,
        labels: Array,
        count: int | None = None,
        dloss: float = 1.0,
    ) -> tuple[Array, Array]:
        """-> loss (a number on the device), dscores (N, K).

        `labels` (N,), or for a loss that knows them targets (N, K): how much of each class is
        wanted.

        With `count` the sum over these images is divided by that instead of N: they are part of a
        larger batch. `dloss` is the gradient that arrives at the loss, as dy at a layer's output:
        1, or the factor of loss scaling; it is in dscores before they are rounded.
        """

    def chance(self, classes: int) -> float:
        """The loss of a network that knows nothing."""


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """-log softmax(scores)[label] (paper, section 3.5: multinomial logistic regression).

    With targets t (N, K): -Σ t log softmax(scores).
    """

    def __call__(
        self,
        b: Backend,
        scores: Array,
        labels: Array,
        count: int | None = None,
        dloss: float = 1.0,
    ) -> tuple[Array, Array]:
        if len(labels.shape) == 2:
            return b.soft_cross_entropy(scores, labels, count, dloss)
        return b.softmax_cross_entropy(scores, labels, count, dloss)

    def chance(self, classes: int) -> float:
        """The loss of a network that knows nothing: ln K.

        Also of smoothed and mixed labels, whose targets add up to 1, and of weighted classes, whose
        weights are 1 on average. Smoothing raises the loss of a network that knows all, from 0.
        """
        return log(classes)


@dataclass(frozen=True)
class Hinge:
    """Σ_{j≠y} max(0, s_j - s_y + Δ): the multiclass SVM."""

    margin: float = 1.0

    def __post_init__(self) -> None:
        if not self.margin > 0:
            raise InputError(f"the hinge loss needs a margin above 0, not {self.margin}")

    def __call__(
        self,
        b: Backend,
        scores: Array,
        labels: Array,
        count: int | None = None,
        dloss: float = 1.0,
    ) -> tuple[Array, Array]:
        if len(labels.shape) == 2:
            raise InputError(NEEDS_SOFTMAX)
        return b.hinge(scores, labels, self.margin, count, dloss)

    def chance(self, classes: int) -> float:
        """The loss when all scores are equal: (K - 1) Δ."""
        return (classes - 1) * self.margin


def get(name: str, margin: float = 1.0) -> Loss:
    """The loss called "softmax" or "hinge"."""
    if name == "softmax":
        return SoftmaxCrossEntropy()
    if name == "hinge":
        return Hinge(margin)
    raise unknown("loss", name, ("softmax", "hinge"))
