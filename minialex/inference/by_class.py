"""Accuracy per class and the confusion matrix."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minialex.inference.evaluation import accuracy_interval


@dataclass(frozen=True)
class ClassResult:
    """The number of a class's images, and how many were classified correctly."""

    name: str
    images: int
    right: int

    @property
    def accuracy(self) -> float:
        """The fraction of its images that were classified correctly."""
        return self.right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval of the accuracy."""
        return accuracy_interval(self.right, self.images)

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        counts = {"class": self.name, "images": self.images, "right": self.right}
        return {**counts, "accuracy": self.accuracy, "interval": self.interval}


def by_class(names: Sequence[str], labels: np.ndarray, right: np.ndarray) -> list[ClassResult]:
    """A result for each class that has images, the lowest accuracy first.

    `labels` (N,) are indices of `names`, `right` (N,) says whether each was recognised.
    """
    images = np.bincount(labels, minlength=len(names))
    known = np.bincount(labels[right.astype(bool)], minlength=len(names))
    found = [
        ClassResult(name, n, k)
        for name, n, k in zip(names, images.tolist(), known.tolist(), strict=True)
        if n
    ]
    return sorted(found, key=lambda one: (one.accuracy, -one.images))


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """The confusion matrix, true classes in rows: (N,), (N,) -> (K, K)."""
    at = labels.astype(np.int64) * classes + predicted  # labels of 8 bits would overflow
    cells = np.bincount(at, minlength=classes * classes)
    return cells.reshape(classes, classes)


def most_confused(
    labels: np.ndarray, predicted: np.ndarray, count: int
) -> list[tuple[int, int, int]]:
    """(class, predicted class, images) of the `count` most frequent mistakes, in order."""
    wrong = labels != predicted
    pairs = Counter(zip(labels[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [(label, other, images) for (label, other), images in ranked[:count]]
