"""Shared by the baselines: feature sampling, linear SVMs, and evaluation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from minialex import rng
from minialex.data.dataset import Dataset, Splits
from minialex.data.loading.loader import Batch, Loader
from minialex.errors import InputError
from minialex.inference.evaluation import ranks
from minialex.utils.progress import Progress

_BATCH = 64

Encode = Callable[[np.ndarray], np.ndarray]  # uint8 (S, S, 3) -> float32 (D,)


@dataclass(frozen=True)
class Outcome:
    """The result of a baseline; errors in 0 … 1 over the readable validation images."""

    method: str  # in a line
    top1_error: float
    top5_error: float
    scores: np.ndarray  # float64 (N, K), of the validation images
    labels: np.ndarray  # int64 (N,)
    skipped: dict[str, str]  # {unreadable image of either set: reason}

    def __str__(self) -> str:
        return (
            f"top-1 error {self.top1_error:.2%}, top-5 error {self.top5_error:.2%} over "
            f"{len(self.labels):,} images ({self.method})"
        )


def require(*modules: str) -> None:
    """Raise InputError unless these packages of the extra are installed."""
    if missing := [name for name in modules if find_spec(name) is None]:
        raise InputError(
            f"this needs {', '.join(missing)}, which is not installed: "
            "pip install 'minialex[baselines]'"
        )


def sampled(
    dataset: Dataset, size: int, cut: Callable[[np.ndarray], np.ndarray], count: int, seed: int
) -> np.ndarray:
    """About `count` of the rows that `cut` extracts from images: float32 (M, D).

    Each image contributes the same number, chosen by `seed`; if there are more images than rows,
    `seed` also chooses the images. Only the sample and one batch are in memory.
    """
    order = rng.permutation(seed, rng.Stream.BASELINES, 0, len(dataset))[:count]
    each = -(-count // len(order))
    rows = []
    for batch in Loader(dataset, size, cache_bytes=0).batches(order, _BATCH):
        for index, image in zip(batch.indices, batch.images, strict=True):
            found = cut(image)
            chosen = rng.permutation(seed, rng.Stream.BASELINES, 1 + int(index), len(found))[:each]
            rows.append(found[np.sort(chosen)].astype(np.float32))
    if not rows:
        raise InputError(f"{dataset.name!r} has no readable image")
    return np.concatenate(rows)


def linear(
    splits: Splits,
    size: int,
    encoders: Sequence[Encode],
    method: str,
    *,
    penalty: float,
    seed: int,
    show: Progress,
) -> Outcome:
    """One-vs-rest linear SVMs for each kind of feature, evaluated on `splits.val`.

    The scores of all kinds are averaged.
    """
    found = [_scores(splits, size, encode, penalty, seed, show) for encode in encoders]
    scores = np.mean([scores for scores, _, _ in found], axis=0)
    _, labels, skipped = found[0]
    rank = ranks(scores, labels)
    wrong1, wrong5 = float(np.mean(rank >= 1)), float(np.mean(rank >= 5))
    return Outcome(method, wrong1, wrong5, scores, labels, skipped)


def _scores(
    splits: Splits, size: int, encode: Encode, penalty: float, seed: int, show: Progress
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """-> scores (N, K) by one kind of feature, labels (N,), and the unreadable images."""
    from sklearn.svm import LinearSVC

    classes = len(splits.train.class_ids)
    x, y, skipped = _encoded(splits.train, size, encode, show, "encoding training images")
    if len(np.unique(y)) < 2:
        raise InputError(f"{splits.train.name!r} has readable images of only one class")
    machine = LinearSVC(C=penalty, dual=True, random_state=seed, max_iter=5000).fit(x, y)
    del x
    x, labels, more = _encoded(splits.val, size, encode, show, "encoding validation images")
    found = machine.decision_function(x)
    if found.ndim == 1:  # two classes: one column, positive for the second
        found = np.stack([-found, found], axis=1)
    scores = np.full((len(x), classes), -np.inf)  # classes without training images rank last
    scores[:, machine.classes_] = found
    return scores, labels, {**skipped, **more}


def _encoded(
    dataset: Dataset, size: int, encode: Encode, show: Progress, title: str
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """-> features (N, D), labels (N,), and the unreadable images."""
    loader, rows, labels = Loader(dataset, size, cache_bytes=0), [], []
    with show.bar(title, len(dataset)) as bar:
        for batch in _batches(loader):
            rows += [encode(image) for image in batch.images]
            labels.append(batch.labels)
            bar.update(len(batch))
    if not rows:
        raise InputError(f"{dataset.name!r} has no readable image")
    return np.stack(rows), np.concatenate(labels), loader.skipped


def _batches(loader: Loader) -> Iterator[Batch]:
    return loader.batches(np.arange(len(loader.dataset)), _BATCH)
