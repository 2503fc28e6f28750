"""The losses over scores (N, K) and labels (N,) or targets (N, K): a mean and its gradient.

The L2 term of the paper's update is not part of the gradient here (it sits in `optim`, with its own
rate) and is reported on its own: `SGD.penalty`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any, ClassVar, Protocol

import numpy as np

from minialex import backends
from minialex.backends.base import Array, Backend
from minialex.errors import InputError
from minialex.utils.plugins import Registry, run

NEEDS_SOFTMAX = (
    "label smoothing, MixUp and class weights need the softmax loss: leave them out with the hinge "
    "loss"
)
NEEDS_TARGETS = (
    "label smoothing, MixUp and class weights need a loss that takes targets (N, K): leave them "
    "out, or say takes_targets = True of your loss if it does"
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

    # takes_targets = True: it knows targets (N, K) as well; a loss without it takes labels only


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """-log softmax(scores)[label] (paper, section 3.5: multinomial logistic regression).

    With targets t (N, K): -Σ t log softmax(scores).
    """

    takes_targets: ClassVar[bool] = True

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


@dataclass(frozen=True)
class Function:
    """A plain function as a loss: function(b, scores, labels, count, dloss) -> loss, dscores."""

    function: Callable[..., tuple[Array, Array]]

    @property
    def takes_targets(self) -> bool:
        """Whether it knows targets (N, K) as well: the function's attribute of this name."""
        return bool(getattr(self.function, "takes_targets", False))

    def __call__(
        self,
        b: Backend,
        scores: Array,
        labels: Array,
        count: int | None = None,
        dloss: float = 1.0,
    ) -> tuple[Array, Array]:
        return self.function(b, scores, labels, count, dloss)

    def chance(self, classes: int) -> float:
        """The loss when all scores are zero, on average over the classes."""
        b = backends.get("numpy")
        labels = np.arange(classes, dtype=np.int64)
        loss, _ = self.function(b, np.zeros((classes, classes), np.float32), labels, None, 1.0)
        return float(loss)


def _made(given: Any, source: str) -> Callable[[], Loss]:
    """What makes the loss that a user plugs in: a function, a class, or an object of one."""
    found = run(f"the loss {source}", given) if isinstance(given, type) else given
    if hasattr(found, "chance"):
        return lambda: found
    return lambda: Function(found)


_BUILT_IN: dict[str, Callable[..., Loss]] = {"softmax": SoftmaxCrossEntropy, "hinge": Hinge}
PLUGINS: Registry[Callable[..., Loss]] = Registry("loss", "--loss", _BUILT_IN, _made)


def register(name: str, loss: Any) -> None:
    """Make `loss` the one called `name` in this process.

    It is a `Loss`, a class of such, or a function (b, scores, labels, count, dloss) -> loss,
    dscores. A package offers one by an entry point of the group "minialex.losses".
    """
    PLUGINS.register(name, loss)


def use(loss: Any) -> Any:
    """The name of a loss given as a name, a function, FILE.py:NAME or package.module:NAME."""
    return PLUGINS.use(loss)


def get(name: str, margin: float = 1.0) -> Loss:
    """The loss called "softmax", "hinge" or as it was registered."""
    make = PLUGINS.get(name)
    return make(margin) if make is Hinge else make()
