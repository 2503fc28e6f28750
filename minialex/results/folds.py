"""The held-out images of each fold of a cross-validation, as its network classified them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minialex.data.dataset import Dataset
from minialex.inference.evaluation import Evaluation, evaluate_probabilities
from minialex.results.outcomes import Outcomes, judged


@dataclass(frozen=True)
class Fold:
    """Held-out images by their indices in the whole data set, (N,), with probabilities (N, K)."""

    line: str  # the network and its preprocessing
    dataset: Dataset
    indices: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray  # (N,)

    @property
    def images(self) -> list[str]:
        """Each image's file."""
        return [self.dataset.describe(int(index)) for index in self.indices]

    def evaluation(self) -> Evaluation:
        """The errors on these images."""
        return evaluate_probabilities(self.probabilities, self.labels, 1, self.line, {})

    def outcomes(self) -> Outcomes:
        """The predicted classes."""
        found = judged(self.probabilities, self.labels)
        return Outcomes(self.dataset, self.indices, self.labels, *found)


def joined(folds: Sequence[Fold]) -> Fold:
    """All images of all folds, which are of the same data set."""
    return Fold(
        folds[0].line,
        folds[0].dataset,
        np.concatenate([one.indices for one in folds]),
        np.concatenate([one.probabilities for one in folds]),
        np.concatenate([one.labels for one in folds]),
    )
