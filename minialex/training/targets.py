"""Targets other than the label alone: label smoothing, MixUp, and weights of classes."""

from dataclasses import dataclass

import numpy as np

from minialex import losses
from minialex.data.augment.warp_draws import Mixing
from minialex.errors import InputError
from minialex.models.recipe import Recipe


@dataclass(frozen=True)
class SoftTargets:
    """Turns labels (N,) into target distributions (N, K).

    Each label gives 1 - `smoothing` to its class plus `smoothing` / K to every class (Szegedy et
    al., 2016), times its class weight; MixUp blends two of them. Without weights each row sums
    to 1.
    """

    classes: int
    smoothing: float = 0.0
    weights: np.ndarray | None = None  # float64 (K,)

    def __call__(
        self, labels: np.ndarray, mixing: Mixing | None = None, dtype: str = "float32"
    ) -> np.ndarray:
        """Targets (N, K) of a whole batch."""
        targets = np.full((len(labels), self.classes), self.smoothing / self.classes)
        targets[np.arange(len(labels)), labels] += 1 - self.smoothing
        if self.weights is not None:
            targets *= self.weights[labels][:, None]
        if mixing is not None:
            share = mixing.share[:, None].astype(np.float64)
            targets = share * targets + (1 - share) * targets[mixing.partner]
        return targets.astype(dtype)


def soft_targets(recipe: Recipe, labels: np.ndarray, classes: int) -> SoftTargets | None:
    """The targets of a recipe, given the training labels; None if they are the labels."""
    if not recipe.soft_targets:
        return None
    weights = balanced(labels, classes) if recipe.class_weights else None
    return SoftTargets(classes, recipe.label_smoothing, weights)


def balanced(labels: np.ndarray, classes: int) -> np.ndarray:
    """Class weights that balance the classes, 1 on average over the images: float64 (K,).

    A class without images gets 0.
    """
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    return np.where(present, len(labels) / (present.sum() * np.maximum(counts, 1)), 0.0)


def require_softmax(recipe: Recipe, loss: losses.Loss) -> None:
    """Raise InputError for a recipe with soft targets and a loss that takes only labels."""
    if recipe.soft_targets and not getattr(loss, "takes_targets", False):
        own = not isinstance(loss, losses.Hinge)
        raise InputError(losses.NEEDS_TARGETS if own else losses.NEEDS_SOFTMAX)
