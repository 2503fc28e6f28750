"""Top-1 and top-5 error over a data set, on one centre crop or averaged over ten (section 4.1)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minialex import parallel
from minialex.data.loading.loader import Loader
from minialex.data.preprocessing import Preprocessing
from minialex.network import Network
from minialex.tree import Tree


@dataclass(frozen=True)
class Evaluation:
    """Errors are shares in 0 … 1; `loss` is the mean cross-entropy of the averaged prediction."""

    images: int
    top1_error: float
    top5_error: float
    loss: float
    crops: int
    recipe_line: str
    skipped: dict[str, str]

    def __str__(self) -> str:
        text = (
            f"top-1 error {self.top1_error:.2%}, top-5 error {self.top5_error:.2%} over "
            f"{self.images:,} images ({self.recipe_line})"
        )
        if self.skipped:
            text += f"; {len(self.skipped)} unreadable images left out"
        return text


def probabilities(
    b, network: Network, params: Tree, preprocessing: Preprocessing, images, *, crops: int, dtype
) -> np.ndarray:
    """Class probabilities of stored squares, averaged over the crops: (N, S, S, 3) -> (N, K)."""
    views = preprocessing.views(crops)
    total = np.zeros((len(images), network.classes))
    for view in views:
        total += softmax(scores(b, network, params, preprocessing, images, view, dtype))
    return total / len(views)


def scores(
    b, network: Network, params: Tree, preprocessing: Preprocessing, images, view, dtype, stop=None
) -> np.ndarray:
    """The network's output, or layer `stop`'s, for one view of every image: float64 (N, ...)."""

    def inputs(b, first: int, end: int):
        return preprocessing.test_input(b, images[first:end], view, b.compute_dtype(dtype))

    y = parallel.infer(b, network, params, inputs, len(images), stop)
    return y.astype(np.float64)


def softmax(y: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    with np.errstate(invalid="ignore"):  # scores that are not finite count as wrong answers
        powers = np.exp(y - np.max(y, axis=-1, keepdims=True))
        return powers / np.sum(powers, axis=-1, keepdims=True)


def ranks(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the right one; of equal ones the lower number comes first.

    What is not a number counts as before it.
    """
    own = np.take_along_axis(p, labels[:, None], axis=1)
    above = ~(p <= own)
    tied_before = (p == own) & (np.arange(p.shape[1]) < labels[:, None])
    return np.sum(above | tied_before, axis=1)


def evaluate_network(
    b,
    network: Network,
    params: Tree,
    preprocessing: Preprocessing,
    dataset,
    *,
    crops: int = 1,
    batch_size: int = 128,
    labels: np.ndarray | None = None,
    loader: Loader | None = None,
    recipe_line: str = "",
    dtype: str = "float32",
    on_batch: Callable[[int], object] | None = None,
) -> Evaluation:
    """Every readable image exactly once. `labels` translates the data set's labels, if given."""
    loader = loader or Loader(dataset, preprocessing.recipe.resize)
    images, sums = 0, np.zeros(3)
    for batch in loader.batches(np.arange(len(dataset)), batch_size):
        truth = batch.labels if labels is None else labels[batch.labels]
        p = probabilities(b, network, params, preprocessing, batch.images, crops=crops, dtype=dtype)
        images += len(truth)
        sums += _sums(p, truth)
        if on_batch is not None:
            on_batch(len(truth))
    return _evaluation(images, sums, crops, recipe_line, loader.skipped)


@dataclass(frozen=True)
class Found:
    """Class probabilities of the readable images of a data set."""

    indices: np.ndarray  # places in the data set, ascending: (N,)
    p: np.ndarray  # float64 (N, K)


def probabilities_of(classifier, loader: Loader, crops: int, *, batch_size: int, on_batch) -> Found:
    """What `classifier` says of all readable images of `loader`'s data set."""
    c, indices, found = classifier, [], []
    for batch in loader.batches(np.arange(len(loader.dataset)), batch_size):
        options = {"crops": crops, "dtype": c.dtype}
        found.append(
            probabilities(
                c.backend, c.model.network, c.params, c.preprocessing, batch.images, **options
            )
        )
        indices.append(batch.indices)
        on_batch(len(batch))
    if not found:
        return Found(np.zeros(0, np.int64), np.zeros((0, c.model.classes)))
    return Found(np.concatenate(indices), np.concatenate(found))


def judge(
    p: np.ndarray, labels: np.ndarray, crops: int, recipe_line: str, skipped: dict[str, str]
) -> Evaluation:
    """The errors of class probabilities (N, K) against labels (N,)."""
    return _evaluation(len(labels), _sums(p, labels), crops, recipe_line, skipped)


def _sums(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Wrong at top-1, wrong at top-5, summed cross-entropy."""
    rank = ranks(p, labels)
    own = np.take_along_axis(p, labels[:, None], axis=1)
    # 1e-45: a probability that rounded to zero costs a large, finite loss
    loss = -float(np.sum(np.log(np.maximum(own, 1e-45))))
    return np.array([np.sum(rank >= 1), np.sum(rank >= 5), loss])


def _evaluation(images: int, sums, crops: int, recipe_line: str, skipped) -> Evaluation:
    wrong1, wrong5, loss = (float(total) / max(1, images) for total in sums)
    return Evaluation(images, wrong1, wrong5, loss, crops, recipe_line, skipped)
