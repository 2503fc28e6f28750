"""The losses over scores (N, K) and labels (N,) or targets (N, K): a mean and its gradient.

The paper's weight decay is not part of this gradient: `optim` applies it, with its own rate, and
reports it separately (`SGD.penalty`).
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
    "out, or set takes_targets = True on your loss if it does"
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

        `labels` are class numbers (N,), or, for a loss that accepts them, target distributions
        (N, K).

        With `count`, the sum over these images is divided by `count` instead of N, because they
        are part of a larger batch. `dloss` is the upstream gradient: 1, or the loss scale; dscores
        are multiplied by it before they are rounded.
        """

    def chance(self, classes: int) -> float:
        """The loss of random guessing."""

    # takes_targets = True: targets (N, K) are accepted too; a loss without it takes labels only


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
        """The loss of random guessing: ln K.

        It is the same for smoothed and mixed labels, whose targets sum to 1, and for weighted
        classes, whose weights average 1. Smoothing raises the lowest possible loss above 0.
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
    """A plain function as a loss: function(b, scores, labels, count, dloss) -> loss, dscores.

    Raises InputError if it fails, or returns anything else. `source` says where it is defined.
    """

    function: Callable[..., Any]
    source: str

    @property
    def takes_targets(self) -> bool:
        """Whether it accepts targets (N, K) too: the function's attribute of the same name."""
        return bool(getattr(self.function, "takes_targets", False))

    def __call__(
        self,
        b: Backend,
        scores: Array,
        labels: Array,
        count: int | None = None,
        dloss: float = 1.0,
    ) -> tuple[Array, Array]:
        what = f"the loss {self.source}"
        found = run(what, self.function, b, scores, labels, count, dloss)
        if not isinstance(found, tuple) or len(found) != 2:
            said = type(found).__name__
        elif (shapes := tuple(map(np.shape, found))) != ((), scores.shape):
            said = f"arrays of the shapes {shapes[0]} and {shapes[1]}"
        else:
            return found
        raise InputError(
            f"{what} returned {said}: it must return the mean loss, a number, and its gradient "
            f"{scores.shape}"
        )

    def chance(self, classes: int) -> float:
        """The loss when all scores are zero, on average over the classes."""
        b = backends.get("numpy")
        labels = np.arange(classes, dtype=np.int64)
        loss, _ = self(b, np.zeros((classes, classes), np.float32), labels)
        return float(loss)


def _made(given: Any, source: str) -> Callable[[], Loss]:
    """A factory for a user's loss, which may be a function, a class or an instance."""
    found = run(f"the loss {source}", given) if isinstance(given, type) else given
    if hasattr(found, "chance"):
        return lambda: found
    return lambda: Function(found, source)


_BUILT_IN: dict[str, Callable[..., Loss]] = {"softmax": SoftmaxCrossEntropy, "hinge": Hinge}
PLUGINS: Registry[Callable[..., Loss]] = Registry("loss", "--loss", _BUILT_IN, _made)


def register(name: str, loss: Any) -> None:
    """Register `loss` under `name` in this process.

    It is a `Loss`, a class of them, or a function (b, scores, labels, count, dloss) -> loss,
    dscores. A package can provide one through an entry point of the group "minialex.losses".
    """
    PLUGINS.register(name, loss)


def use(loss: Any) -> Any:
    """The name of a loss given as a name, a function, FILE.py:NAME or package.module:NAME."""
    return PLUGINS.use(loss)


def get(name: str, margin: float = 1.0) -> Loss:
    """The loss called `name`: "softmax", "hinge" or a registered one."""
    make = PLUGINS.get(name)
    return make(margin) if make is Hinge else make()
