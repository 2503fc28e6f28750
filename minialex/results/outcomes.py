"""A network's predictions for validation images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minialex.data.dataset import Dataset
from minialex.data.loading.loader import Loader
from minialex.errors import InputError
from minialex.inference.evaluation import accuracy_interval, described, ranks
from minialex.inference.prediction_file import judged_rows, prediction_file
from minialex.inference.trained_model import TrainedModel

MOST = 5000  # images that are evaluated, unless more are requested


@dataclass(frozen=True)
class Outcomes:
    """Each image's index in the data set, label and predicted class; all (N,)."""

    dataset: Dataset
    indices: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray  # of the predicted class
    own: np.ndarray  # the probability of its label
    right: np.ndarray  # bool

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def accuracy(self) -> float:
        """The top-1 accuracy."""
        return float(np.mean(self.right))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy."""
        return accuracy_interval(int(np.sum(self.right)), len(self))

    def surest_mistakes(self, count: int) -> np.ndarray:
        """Array indices of up to `count` mistakes, most confident first."""
        wrong = np.flatnonzero(~self.right)
        return wrong[np.argsort(-self.probability[wrong], kind="stable")][:count]

    def write(self, path: Path) -> None:
        """Write a CSV file, one row per image: file, label, predicted, probability, right."""
        files, names = described(self.dataset, self.indices), self.dataset.class_names
        found = (self.labels, self.predicted, self.probability, self.right)
        with prediction_file(path) as file:
            for row in judged_rows(files, names, *found):
                file.add(row)


def judged(p: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """`predicted`, `probability`, `own` and `right` of `Outcomes`, from probabilities (N, K)."""
    rows, said = np.arange(len(p)), p.argmax(axis=1)
    return said, p[rows, said], p[rows, labels], ranks(p, labels) == 0


def chosen(images: int, most: int | None) -> np.ndarray:
    """Indices of `most` of `images` images, evenly spaced to cover all classes; None: all."""
    if most is None or images <= most:
        return np.arange(images)
    return np.linspace(0, images - 1, most).round().astype(np.int64)


def judge(
    model: TrainedModel,
    loader: Loader,
    *,
    most: int | None = MOST,
    batch_size: int = 128,
    on_batch: Callable[[int], object] = lambda images: None,
) -> Outcomes:
    """The outcome of up to `most` readable images of `loader`'s data set, on centre crops.

    `on_batch` is called with the number of images of each batch, and may raise.
    """
    parts = []
    for batch in loader.batches(chosen(len(loader.dataset), most), batch_size):
        found = judged(model.probabilities(batch.images), batch.labels)
        parts.append((batch.indices, batch.labels, *found))
        on_batch(len(batch))
    if not parts:
        raise InputError(f"no image of {loader.dataset.name} can be read")
    return Outcomes(loader.dataset, *map(np.concatenate, zip(*parts, strict=True)))
